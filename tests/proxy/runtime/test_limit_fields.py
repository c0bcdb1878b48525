"""Each field of `spec.limits` and `backends[].results` has an effect on a proxy that runs."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.proxy.runtime.peer import Peer
from tests.proxy.runtime.raw import Raw, last, rpc
from tests.proxy.runtime.serving import LIVE, Proxy, free_port, proxied, serving
from tests.proxy.runtime.strangers import KEY
from tests.proxy.runtime.waiting import eventually
from tests.support.authority import Authority

pytestmark = [*LIVE, pytest.mark.timeout(120)]
PROGRAM = shutil.which("valkey-server") or shutil.which("redis-server")
real = pytest.mark.skipif(PROGRAM is None, reason="needs valkey-server or redis-server")
ALICE, BOB = {"authorization": "Bearer alice"}, {"authorization": "Bearer bob"}


@asynccontextmanager
async def started(
    *rules: dict[str, Any],
    results: dict[str, Any] | None = None,
    count: int = 1,
    values: Path | None = None,
    **fields: Any,
) -> AsyncIterator[tuple[Peer, list[Proxy], httpx2.AsyncClient]]:
    """Instances in front of two backends, with these rules."""
    ports = [free_port() for _ in range(count)]
    options: dict[str, Any] = {"keys": (KEY,)}
    options["instances"] = tuple(("127.0.0.1", port) for port in ports if count > 1)
    if values is not None:
        options["values"] = values
    peer = Peer("p")
    async with AsyncExitStack() as stack:
        base = await stack.enter_async_context(serving(peer.gate))
        limited = {} if results is None else {"results": results}
        backends = [{"name": name, "url": f"{base}/mcp", **limited} for name in ("p", "q")]
        named = [{"name": f"r{number}", **rule} for number, rule in enumerate(rules)]
        limits = {"limits": {"rules": named, **fields}} if rules else {}
        proxies = [
            await stack.enter_async_context(
                proxied(*backends, options={**options, "port": port}, **limits)
            )
            for port in ports
        ]
        yield peer, proxies, await stack.enter_async_context(httpx2.AsyncClient(timeout=30))


async def called(proxy: Proxy, http: httpx2.AsyncClient, *tools: str, **headers: str) -> list[Any]:
    """The messages that answer calls of these tools, in one session."""
    client = Raw(proxy.url, http)
    await client.initialize(**headers)
    results = []
    for tool in tools:
        request = rpc("tools/call", {"name": tool, "arguments": {}})
        results.append(last(await client.post(request, **headers)))
    return results


def admitted(answers: list[Any]) -> list[bool]:
    """Return True for each admitted call."""
    return ["error" not in answer for answer in answers]


async def test_the_error_names_the_rule() -> None:
    rule = {"name": "team", "calls": 2, "window": "30s"}
    async with started(rule) as (_, (proxy,), http):
        answers = await called(proxy, http, *3 * ["p_echo"])
        assert admitted(answers) == [True, True, False]
        message = answers[2]["error"]["message"]
        assert message.startswith(
            "rule team of spec.limits allows 2 calls in 30s for each principal"
        )
        assert 20_000 < answers[2]["error"]["data"]["retryAfterMs"] <= 30_000


async def test_rules_count_by_caller_by_backend_or_all_together() -> None:
    expected = {
        "Principal": [True, False, True, False],
        "Backend": [True, True, False, False],
        "Proxy": [True, False, False, False],
    }
    for per, outcome in expected.items():
        rule = {"per": per, "calls": 1, "window": "1h"}
        async with started(rule) as (_, (proxy,), http):
            first = await called(proxy, http, "p_echo", "q_echo", **ALICE)
            second = await called(proxy, http, "p_echo", "q_echo", **BOB)
            assert admitted(first + second) == outcome, per


async def test_a_rule_counts_calls_of_its_tools_only() -> None:
    rule = {"tools": ["p_e*"], "calls": 1, "window": "1h"}
    async with started(rule) as (_, (proxy,), http):
        tools = ["p_echo", "p_echo", "q_echo", "p_whoami"]
        assert admitted(await called(proxy, http, *tools)) == [True, False, True, True]


async def test_a_burst_is_limited_to_less_than_a_window() -> None:
    rule = {"calls": 100, "window": "1h", "burst": 2}
    async with started(rule) as (_, (proxy,), http):
        answers = await called(proxy, http, *3 * ["p_echo"])
        assert admitted(answers) == [True, True, False]
        assert answers[2]["error"]["data"]["retryAfterMs"] <= 36_000


async def test_calls_in_flight_are_limited() -> None:
    async with started({"inFlight": 1}) as (peer, (proxy,), http):
        slow = asyncio.create_task(called(proxy, http, "p_slow"))
        await asyncio.wait_for(peer.started.wait(), 10)
        (answer,) = await called(proxy, http, "p_echo")
        assert "allows 1 calls at a time" in answer["error"]["message"]
        peer.release.set()
        assert admitted(await slow) == [True]
        assert admitted(await called(proxy, http, "p_echo")) == [True]


async def test_without_sharing_each_instance_counts_for_itself() -> None:
    rule = {"calls": 2, "window": "1h"}
    for mode, most in (("None", 4), ("Owner", 2)):
        async with started(rule, count=2, shared={"mode": mode}) as (_, proxies, http):
            if mode == "Owner":
                await eventually(lambda: _know_each_other(proxies), "the instances")
            answers = [a for each in proxies for a in await called(each, http, *3 * ["p_echo"])]
            assert sum(admitted(answers)) == most, mode


async def _know_each_other(proxies: list[Proxy]) -> bool:
    stores: list[Any] = [each.runtime.gateway.limits.store for each in proxies]  # type: ignore[union-attr]
    return all(store._members.others for store in stores)


@asynccontextmanager
async def server(directory: Path, *options: str) -> AsyncIterator[int]:
    """A Valkey server; gives its port."""
    port = free_port()
    assert PROGRAM is not None
    listening = () if "--tls-port" in options else ("--port", str(port))
    words = [str(port) if word == "PORT" else word for word in options]
    process = await asyncio.create_subprocess_exec(
        *(PROGRAM, "--bind", "127.0.0.1", "--save", "", *listening, *words),
        cwd=directory,
        stdout=asyncio.subprocess.DEVNULL,
    )

    async def accepts() -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        writer.close()
        return True

    try:
        await eventually(accepts, "the server to accept connections")
        yield port
    finally:
        process.kill()
        await process.wait()


@real
async def test_a_server_counts_for_all_instances(tmp_path: Path) -> None:
    rule = {"calls": 3, "window": "1h"}
    async with server(tmp_path) as port:
        shared = {"valkey": {"address": f"127.0.0.1:{port}"}}
        async with started(rule, count=2, shared=shared) as (_, proxies, http):
            answers = [a for each in proxies for a in await called(each, http, *3 * ["p_echo"])]
            assert sum(admitted(answers)) == 3


async def _passes(port: int, values: Path, **valkey: Any) -> bool:
    """Return True if a proxy counts a call on the server at a port."""
    shared = {"valkey": {"address": f"localhost:{port}", **valkey}}
    rule = {"calls": 3, "window": "1h"}
    about = started(rule, values=values, shared=shared, onStoreFailure="Deny")
    async with about as (_, (proxy,), http):
        return admitted(await called(proxy, http, "p_echo")) == [True]


def _reference(kind: str) -> dict[str, Any]:
    """A reference to the key `key` of the object `object`."""
    return {kind: {"name": "object", "key": "key"}}


@real
@pytest.mark.parametrize("kind", ["secretKeyRef", "configMapKeyRef"])
async def test_the_store_gets_its_password(tmp_path: Path, kind: str) -> None:
    values = tmp_path / kind.removesuffix("KeyRef").lower() / "object"
    values.mkdir(parents=True)
    (values / "key").write_text("the password")
    async with server(tmp_path, "--requirepass", "the password") as port:
        assert await _passes(port, tmp_path, passwordFrom=_reference(kind))
        assert not await _passes(port, tmp_path)


@real
@pytest.mark.parametrize("kind", ["secretKeyRef", "configMapKeyRef"])
async def test_the_store_has_a_certificate_of_the_authority(tmp_path: Path, kind: str) -> None:
    authority = Authority("of the store")
    certificate, key = authority.issue("localhost")
    content = {"server.pem": certificate, "server.key": key, "ca.pem": authority.pem}
    for name, text in content.items():
        (tmp_path / name).write_text(text)
    values = tmp_path / kind.removesuffix("KeyRef").lower() / "object"
    values.mkdir(parents=True)
    (values / "key").write_text(authority.pem)
    options = ("--tls-port", "PORT", "--port", "0", "--tls-auth-clients", "no")
    files = ("--tls-cert-file", "server.pem", "--tls-key-file", "server.key")
    async with server(tmp_path, *options, *files, "--tls-ca-cert-file", "ca.pem") as port:
        assert await _passes(port, tmp_path, tlsFrom=_reference(kind))
        assert not await _passes(port, tmp_path)


async def test_the_failure_policy_decides_while_the_store_fails() -> None:
    shared = {"valkey": {"address": f"127.0.0.1:{free_port()}"}}
    rule = {"calls": 2, "window": "1h"}
    for policy, outcome in (("Allow", [True, True, False]), ("Deny", [False] * 3)):
        about = started(rule, shared=shared, onStoreFailure=policy)
        async with about as (_, (proxy,), http):
            assert admitted(await called(proxy, http, *3 * ["p_echo"])) == outcome
            report = (await proxy.report()).limits
            assert report is not None
            assert "Connection refused" in str(report.failure)


def _long(size: int) -> dict[str, Any]:
    return {"name": "p_echo", "arguments": {"text": "grüße " * (size // 8)}}


async def _result(proxy: Proxy, http: httpx2.AsyncClient, method: str, params: Any) -> Any:
    client = Raw(proxy.url, http)
    await client.initialize()
    return last(await client.post(rpc(method, params)))


async def test_a_result_that_is_too_large_is_an_error() -> None:
    async with started(results={"maxBytes": 2048}) as (_, (proxy,), http):
        small = await _result(proxy, http, "tools/call", _long(100))
        assert not small["result"].get("isError")
        large = (await _result(proxy, http, "tools/call", _long(10_000)))["result"]
        assert large["isError"]
        (content,) = large["content"]
        assert "backends[].results.maxBytes is 2048" in content["text"]
        assert "backend p has" in content["text"]


async def test_the_text_of_a_result_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    results = {"maxBytes": 2048, "onLarger": "Truncate"}
    async with started(results=results) as (peer, (proxy,), http):

        async def plain(_context: Any, params: Any) -> Any:
            answer = await Peer.echo(peer, _context, params)
            return answer.model_copy(update={"structured_content": None})

        structured = (await _result(proxy, http, "tools/call", _long(10_000)))["result"]
        assert structured["isError"], "structured content is never cut"
        monkeypatch.setitem(peer.tools, "echo", plain)
        cut = (await _result(proxy, http, "tools/call", _long(10_000)))["result"]
        text = cut["content"][0]["text"]
        assert not cut.get("isError")
        assert text.startswith('{"text": "gr')
        assert text.endswith("to 2048 bytes]")
        assert (
            1900 < len(json.dumps(cut, ensure_ascii=False, separators=(",", ":")).encode()) <= 2048
        )
