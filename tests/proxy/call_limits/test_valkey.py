"""Instances that count calls on a Valkey server: a real one, and one that misbehaves."""

import asyncio
import contextlib
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from mcpproxy.api.v1alpha1 import ValkeyServer
from mcpproxy.limits import clients
from mcpproxy.limits import instances as instance_limits
from mcpproxy.limits.limit import Limit
from mcpproxy.proxy.call_limits.call_limits import CallLimits
from mcpproxy.proxy.call_limits.valkey import resp, valkey_store
from mcpproxy.proxy.call_limits.valkey.valkey_store import ValkeyStore
from mcpproxy.proxy.upstream.mounted.values import MountedValues
from tests.proxy.call_limits.crowd import Clock, a_rule, admitted, call_limits
from tests.proxy.runtime.serving import free_port
from tests.proxy.runtime.waiting import eventually
from tests.support.authority import Authority

PROGRAM = shutil.which("valkey-server") or shutil.which("redis-server")
real = pytest.mark.skipif(PROGRAM is None, reason="needs valkey-server or redis-server")


@dataclass
class Server:
    """A server that runs."""

    port: int
    process: asyncio.subprocess.Process

    async def accepts(self) -> bool:
        """True if connections are accepted."""
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.close()
            return True
        return False

    async def kill(self) -> None:
        """End it at once."""
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Server]]]:
    """Starts servers."""
    started: list[Server] = []

    async def start(*options: str, port: int = 0) -> Server:
        port = port or free_port()
        assert PROGRAM is not None
        command = [PROGRAM, "--port", str(port), "--bind", "127.0.0.1", "--save", "", *options]
        process = await asyncio.create_subprocess_exec(
            *command, cwd=tmp_path, stdout=asyncio.subprocess.DEVNULL
        )
        result = Server(port, process)
        started.append(result)
        await eventually(result.accepts, "the server to accept connections")
        return result

    yield start
    for each in started:
        await each.kill()


@pytest_asyncio.fixture
async def instances(tmp_path: Path) -> AsyncIterator[Callable[..., list[CallLimits]]]:
    """Instances that count on the server at a port."""
    built: list[CallLimits] = []

    def build(port: int, *rules: Any, count: int = 3, **options: Any) -> list[CallLimits]:
        allows = options.pop("allows_on_failure", True)
        spec = ValkeyServer.model_validate({"address": f"127.0.0.1:{port}"} | options)
        for _ in range(count):
            store = ValkeyStore(spec, "test", MountedValues(tmp_path, time.monotonic))
            built.append(call_limits(store, _Monotonic(), *rules, allows_on_failure=allows))
        return built[-count:]

    yield build
    for limits in built:
        await limits.close()


class _Monotonic(Clock):
    def __call__(self) -> float:
        return time.monotonic()


async def _flood(limits: list[CallLimits], times: int, principal: str = "alice") -> int:
    """Call at all instances in turn; return how many calls are admitted."""
    count = 0
    for number in range(times):
        permit = await admitted(limits[number % len(limits)], principal)
        count += permit is not None
    return count


@real
async def test_instances_admit_together_what_a_rule_allows(
    server: Callable[..., Any], instances: Callable[..., list[CallLimits]]
) -> None:
    three = instances((await server()).port, a_rule(calls=600, window="1m"))
    assert await _flood(three, 1800) == 600
    assert await _flood(three, 100, "bob") == 100
    sent = sum(limits.store.sent for limits in three)
    assert sent <= 1900 / 20


@real
async def test_a_burst_is_counted_by_the_server(
    server: Callable[..., Any], instances: Callable[..., list[CallLimits]]
) -> None:
    three = instances((await server()).port, a_rule(calls=60, window="1h", burst=20))
    assert await _flood(three, 300) == 20


@real
async def test_calls_are_available_again_when_their_window_has_passed(
    server: Callable[..., Any], instances: Callable[..., list[CallLimits]]
) -> None:
    (alone,) = instances((await server()).port, a_rule(calls=3, window="1s"), count=1)
    assert await _flood([alone], 5) == 3

    async def again() -> bool:
        return await admitted(alone) is not None

    await eventually(again, "a call to be admitted again")


@real
@pytest.mark.parametrize("allows", [True, False])
async def test_the_failure_policy_decides_if_the_server_is_killed(
    server: Callable[..., Any], instances: Callable[..., list[CallLimits]], allows: bool
) -> None:
    running = await server()
    rule = a_rule(calls=300, window="1m")
    three = instances(running.port, rule, allows_on_failure=allows)
    assert await _flood(three, 150) == 150
    await running.kill()
    more = await _flood(three, 1800)
    # An instance may use up its lease, of at most 1/15 of the calls.
    leases = 3 * 20
    if allows:
        assert more <= 3 * 300 + leases
        assert more >= 3 * 300
    else:
        assert more <= leases
    failure = three[0].store.failure()
    assert failure is not None
    assert str(running.port) in failure


@real
async def test_a_recovered_server_counts_calls_again(
    server: Callable[..., Any],
    instances: Callable[..., list[CallLimits]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from mcpproxy.proxy.call_limits import account

    monkeypatch.setattr(account, "FAILED_FOR", 0.01)
    running = await server()
    (alone,) = instances(running.port, a_rule(calls=3, window="1h"), count=1)
    await running.kill()
    assert await admitted(alone) is not None
    await server(port=running.port)

    async def works() -> bool:
        await admitted(alone, "bob")
        return alone.store.failure() is None

    await eventually(works, "the store to work")


@real
async def test_the_password_is_that_of_the_secret(
    server: Callable[..., Any], instances: Callable[..., list[CallLimits]], tmp_path: Path
) -> None:
    running = await server("--requirepass", "secret of the server")
    source = {"secretKeyRef": {"name": "valkey", "key": "password"}}
    rule = a_rule(calls=3, window="1m")
    options = {"passwordFrom": source, "count": 1, "allows_on_failure": False}
    (wrong,) = instances(running.port, rule, **options)
    assert await admitted(wrong) is None, "the key does not exist"
    failure = wrong.store.failure()
    assert failure is not None
    assert "valkey" in failure
    secret = tmp_path / "secret" / "valkey"
    secret.mkdir(parents=True)
    (secret / "password").write_text("secret of the server")
    (right,) = instances(running.port, rule, **options)
    assert await _flood([right], 5) == 3
    (secret / "password").write_text("another")
    (changed,) = instances(running.port, rule, **options)
    assert await admitted(changed, "bob") is None
    failure = changed.store.failure()
    assert failure is not None
    assert "another" not in failure


@real
async def test_only_a_server_with_a_certificate_of_the_authority_counts(
    server: Callable[..., Any], instances: Callable[..., list[CallLimits]], tmp_path: Path
) -> None:
    known, other, port = Authority("known"), Authority("other"), free_port()
    certificate, key = known.issue("localhost")
    (tmp_path / "server.pem").write_text(certificate)
    (tmp_path / "server.key").write_text(key)
    (tmp_path / "ca.pem").write_text(known.pem)
    files = ("--tls-cert-file", "server.pem", "--tls-key-file", "server.key")
    await server(
        *("--tls-port", str(port), "--tls-auth-clients", "no", *files),
        *("--tls-ca-cert-file", "ca.pem"),
    )
    authorities = tmp_path / "configmap" / "authorities"
    authorities.mkdir(parents=True)
    (authorities / "known").write_text(known.pem)
    (authorities / "other").write_text(other.pem)
    for name, works in (("known", True), ("other", False)):
        source = {"configMapKeyRef": {"name": "authorities", "key": name}}
        (alone,) = instances(
            *(0, a_rule(calls=3, window="1m")),
            address=f"localhost:{port}",
            tlsFrom=source,
            count=1,
            allows_on_failure=False,
        )
        assert (await admitted(alone) is not None) == works, alone.store.failure()


@contextlib.asynccontextmanager
async def stranger(reply: bytes | None) -> AsyncIterator[int]:
    """A server that replies with these bytes to everything, or never."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while await reader.read(65536):
                if reply is not None:
                    writer.write(reply)
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield listening.sockets[0].getsockname()[1]


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\n\r\n",
        b":5\r\n",
        b"*3\r\n:1000000\r\n:0\r\n:0\r\n",
        b"*3\r\n:-1\r\n:0\r\n:0\r\n",
        b"*3\r\n:1\r\n$2\r\nhi\r\n:0\r\n",
        b"*1000000\r\n",
        b"*1\r\n*1\r\n*1\r\n:1\r\n",
        b"$x\r\n",
        b":1\r\n:1\r\n:1\r\n",
        b"-ERR no such thing\r\n",
        b"+" + b"x" * 100_000,
    ],
    ids=repr,
)
async def test_the_failure_policy_decides_about_an_unknown_response(
    instances: Callable[..., list[CallLimits]], reply: bytes
) -> None:
    async with stranger(reply) as port:
        rule = a_rule(calls=3, window="1m")
        (alone,) = instances(port, rule, count=1, allows_on_failure=False)
        assert await admitted(alone) is None
        assert alone.store.failure() is not None


async def test_an_answer_of_the_store_beyond_the_limit_closes_the_connection(
    instances: Callable[..., list[CallLimits]], monkeypatch: pytest.MonkeyPatch
) -> None:
    limit: Limit = replace(clients.STORE_ANSWER, value=64)
    monkeypatch.setattr(resp, "STORE_ANSWER", limit)
    async with stranger(b"$1000\r\n") as port:
        rule = a_rule(calls=3, window="1m")
        (alone,) = instances(port, rule, count=1, allows_on_failure=False)
        assert await admitted(alone) is None
    assert limit.reached == 1


async def test_requests_beyond_the_limit_do_not_wait_for_the_store(
    instances: Callable[..., list[CallLimits]], monkeypatch: pytest.MonkeyPatch
) -> None:
    limit: Limit = replace(clients.STORE_REQUESTS, value=3)
    monkeypatch.setattr(resp, "STORE_REQUESTS", limit)
    short: Any = 0.2
    monkeypatch.setattr(
        valkey_store, "LEASE_TIME", replace(instance_limits.LEASE_TIME, value=short)
    )
    async with stranger(None) as port:
        rule = a_rule(calls=3, window="1m")
        (alone,) = instances(port, rule, count=1)
        calls = [admitted(alone, f"p{number}") for number in range(20)]
        assert all(permit is not None for permit in await asyncio.gather(*calls))
    assert limit.reached >= 10


async def test_a_silent_server_delays_a_call_for_a_bounded_time(
    instances: Callable[..., list[CallLimits]], monkeypatch: pytest.MonkeyPatch
) -> None:
    short: Any = 0.05
    monkeypatch.setattr(
        valkey_store, "LEASE_TIME", replace(instance_limits.LEASE_TIME, value=short)
    )
    async with stranger(None) as port:
        rule = a_rule(calls=3, window="1m")
        (alone,) = instances(port, rule, count=1)
        began = time.monotonic()
        assert await admitted(alone) is not None
        assert time.monotonic() - began < 2.0
        failure = alone.store.failure()
        assert failure is not None
        assert "no answer" in failure
