"""Limits on calls over HTTP: which response a call beyond a limit has, and what counts."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest

from mcpproxy.proxy.call_limits import rule_set
from mcpproxy.proxy.call_limits.instances.owner_store import OwnerStore
from tests.proxy.runtime.crews import crews
from tests.proxy.runtime.peer import Peer
from tests.proxy.runtime.raw import MODERN, Raw, error, last, modern, rpc
from tests.proxy.runtime.serving import LIVE, Proxy, free_port, proxied, serving
from tests.proxy.runtime.strangers import KEY
from tests.proxy.runtime.waiting import eventually, soon

pytestmark = [*LIVE, pytest.mark.timeout(120)]
ALICE, BOB = {"authorization": "Bearer alice"}, {"authorization": "Bearer bob"}


def _limits(*rules: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"rules": [{"name": f"r{number}", **rule} for number, rule in enumerate(rules)]} | fields


@asynccontextmanager
async def limited(
    *rules: dict[str, Any], backend: dict[str, Any] | None = None, **spec: Any
) -> AsyncIterator[tuple[Peer, Proxy, httpx2.AsyncClient]]:
    """A proxy with these rules in front of a peer, and an HTTP client."""
    peer = Peer("p")
    async with AsyncExitStack() as stack:
        base = await stack.enter_async_context(serving(peer.gate))
        content = {"name": "p", "url": f"{base}/mcp", **(backend or {})}
        limits = {"limits": _limits(*rules)} if rules else {}
        proxy = await stack.enter_async_context(proxied(content, **limits, **spec))
        http = await stack.enter_async_context(httpx2.AsyncClient(timeout=30))
        yield peer, proxy, http


def _echo(request_id: int = 1, tool: str = "p_echo") -> dict[str, Any]:
    return rpc("tools/call", {"name": tool, "arguments": {}}, request_id)


async def _session(proxy: Proxy, http: httpx2.AsyncClient, **headers: str) -> Raw:
    client = Raw(proxy.url, http)
    await client.initialize(**headers)
    return client


async def _outcomes(client: Raw, times: int, **headers: str) -> list[bool]:
    """For each call, whether it was admitted."""
    answers = [last(await client.post(_echo(), **headers)) for _ in range(times)]
    return ["result" in answer for answer in answers]


async def test_a_legacy_client_gets_a_json_rpc_error_and_keeps_its_session() -> None:
    async with limited({"calls": 2, "window": "1h"}) as (peer, proxy, http):
        client = await _session(proxy, http)
        assert await _outcomes(client, 2) == [True, True]
        answer = await client.post(_echo())
        # The Python SDK 1.x ends the session on HTTP 429.
        assert error(answer) == (200, -32000)
        result = last(answer)["error"]
        assert result["message"].startswith("rule r0 of spec.limits allows 2 calls in 1h")
        assert result["data"]["limit"] == "r0"
        assert 3_500_000 < result["data"]["retryAfterMs"] <= 3_600_000
        assert (await client.post(rpc("ping"))).status_code == 200
        assert len(last(await client.post(rpc("tools/list")))["result"]["tools"]) > 0
        assert peer.gate.count("tools/call") == 2


async def test_a_modern_client_gets_http_429_with_the_time_to_wait() -> None:
    async with limited({"calls": 2, "window": "1h"}) as (peer, proxy, http):
        client = Raw(proxy.url, http)
        call = partial(client.call, "tools/call", "p_echo", name="p_echo", arguments={})
        for _ in range(2):
            assert (await call()).status_code == 200
        answer = await call()
        assert error(answer) == (429, -32000)
        milliseconds = last(answer)["error"]["data"]["retryAfterMs"]
        assert int(answer.headers["retry-after"]) == -(-milliseconds // 1000)
        assert peer.gate.count("tools/call") == 2


async def test_a_client_that_initializes_again_has_no_more_calls() -> None:
    async with limited({"calls": 3, "window": "1h"}) as (_, proxy, http):
        admitted = 0
        for _ in range(4):
            client = await _session(proxy, http, **ALICE)
            admitted += sum(await _outcomes(client, 2, **ALICE))
        assert admitted == 3
        other = await _session(proxy, http, **BOB)
        assert await _outcomes(other, 4, **BOB) == [True, True, True, False]


async def test_both_eras_of_a_principal_count_together() -> None:
    async with limited({"calls": 3, "window": "1h"}) as (_, proxy, http):
        client = await _session(proxy, http, **ALICE)
        assert await _outcomes(client, 2, **ALICE) == [True, True]
        call = modern("tools/call", name="p_echo", arguments={})
        headers = {"mcp_protocol_version": MODERN, "mcp_method": "tools/call"} | ALICE
        sessionless = Raw(proxy.url, http)
        answers = [await sessionless.post(call, mcp_name="p_echo", **headers) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [200, 429]


async def test_each_call_of_a_batch_counts() -> None:
    async with limited({"calls": 3, "window": "1h"}) as (_, proxy, http):
        client = Raw(proxy.url, http)
        await client.initialize("2025-03-26")
        batch = [_echo(number) for number in range(5)]
        answer = await client.post(batch)
        lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if "{" in line]
        answers = [json.loads(line) for line in lines]
        assert sum("result" in each for each in answers) == 3
        codes = [each["error"]["code"] for each in answers if "error" in each]
        assert codes == [-32000, -32000]


async def test_lists_and_pings_do_not_count() -> None:
    async with limited({"calls": 1, "window": "1h"}) as (_, proxy, http):
        client = await _session(proxy, http)
        for _ in range(5):
            assert "result" in last(await client.post(rpc("tools/list")))
            assert "result" in last(await client.post(rpc("ping")))
        assert await _outcomes(client, 2) == [True, False]


async def test_a_denied_call_does_not_count_against_the_limit_of_its_caller() -> None:
    async with limited({"calls": 1, "window": "1h"}) as (_, proxy, http):
        client = await _session(proxy, http)
        for _ in range(3):
            answer = last(await client.post(_echo(tool="p_unknown")))
            assert "error" in answer or answer["result"]["isError"]
        unknown = last(await client.post(_echo(tool="unknown")))
        assert unknown["error"]["code"] == -32602
        # Names with the prefix of a backend are forwarded to it, and count.
        assert await _outcomes(client, 1) == [False]


@pytest.fixture
def briefly_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cancelled calls count as in flight for less time than 10 s."""
    monkeypatch.setattr(rule_set, "CANCELLED_FOR", 0.3)


@pytest.mark.usefixtures("briefly_held")
async def test_a_slot_is_free_again_when_its_call_ends_in_any_way() -> None:
    async with limited({"inFlight": 1}) as (peer, proxy, http):
        client = await _session(proxy, http)
        limits = proxy.runtime.gateway.limits
        assert limits is not None

        async def started() -> "asyncio.Task[httpx2.Response]":
            peer.started.clear()
            task = asyncio.create_task(client.post(_echo(7, "p_slow")))
            await asyncio.wait_for(peer.started.wait(), 10)
            assert await _outcomes(client, 1) == [False]
            return task

        # A response.
        task = await started()
        peer.release.set()
        assert "result" in last(await task)
        assert await _outcomes(client, 1) == [True]
        # A cancellation by the client.
        peer.release.clear()
        task = await started()
        notification = rpc("notifications/cancelled", {"requestId": 7})
        del notification["id"]
        await client.post(notification)
        await task
        await soon(lambda: not limits.running, "the slot to be free")
        # An error of the backend.
        assert "result" in last(await client.post(_echo(tool="p_fail")))
        assert not limits.running


@pytest.mark.usefixtures("briefly_held")
async def test_a_modern_client_that_disconnects_frees_its_slot() -> None:
    async with limited({"inFlight": 1}) as (peer, proxy, http):
        client = Raw(proxy.url, http)
        limits = proxy.runtime.gateway.limits
        assert limits is not None
        call = partial(client.call, "tools/call", "p_slow", name="p_slow", arguments={})
        task = asyncio.create_task(call())
        await asyncio.wait_for(peer.started.wait(), 10)
        answer = await call()
        assert error(answer) == (429, -32000)
        assert "at a time" in last(answer)["error"]["message"]
        task.cancel()
        await soon(lambda: not limits.running, "the slot to be free")


async def test_limited_calls_have_a_metric_and_a_report() -> None:
    rules = ({"calls": 1, "window": "1h"}, {"inFlight": 5, "tools": ["nothing_*"]})
    async with limited(*rules) as (_, proxy, http):
        client = await _session(proxy, http)
        assert await _outcomes(client, 4) == [True, False, False, False]
        metrics = (await http.get(f"{proxy.admin}/metrics")).text
        assert 'mcpproxy_limited_calls_total{rule="r0"} 3.0' in metrics
        assert 'mcpproxy_limited_calls_total{rule="r1"} 0.0' in metrics
        report = (await proxy.report()).limits
        assert report is not None
        assert (report.rules, report.unused, report.failure) == (2, ["r1"], None)


async def test_a_limited_call_has_an_audit_record(capfd: pytest.CaptureFixture[str]) -> None:
    async with limited({"calls": 1, "window": "1h"}, audit={}) as (_, proxy, http):
        client = await _session(proxy, http)
        assert await _outcomes(client, 2) == [True, False]
    lines = [line for line in capfd.readouterr().out.splitlines() if "p_echo" in line]
    records = [json.loads(line) for line in lines]
    assert [record["outcome"] for record in records] == ["ok", "limited"]
    assert records[1]["rule"] == "r0"
    assert records[1]["decision"] == "denied"


@asynccontextmanager
async def instances(
    count: int, *rules: dict[str, Any], **fields: Any
) -> AsyncIterator[tuple[list[Proxy], httpx2.AsyncClient]]:
    """Instances with one sealing key that count together, in front of one peer."""
    peer = Peer("p")
    ports = [free_port() for _ in range(count)]
    options = {"keys": (KEY,), "instances": tuple(("127.0.0.1", port) for port in ports)}
    async with AsyncExitStack() as stack:
        base = await stack.enter_async_context(serving(peer.gate))
        backend = {"name": "p", "url": f"{base}/mcp"}
        started = [
            await stack.enter_async_context(
                proxied(
                    backend, options={**options, "port": port}, limits=_limits(*rules, **fields)
                )
            )
            for port in ports
        ]
        for proxy in started:
            members = store(proxy).members
            assert members is not None
            await soon(lambda m=members: len(m.others) == count - 1, "all instances")  # type: ignore[misc]
        yield started, await stack.enter_async_context(httpx2.AsyncClient(timeout=30))


def store(proxy: Proxy) -> OwnerStore:
    """Return the store that counts for an instance."""
    limits = proxy.runtime.gateway.limits
    assert limits is not None
    assert isinstance(limits.store, OwnerStore)
    return limits.store


async def test_instances_admit_together_what_a_rule_allows() -> None:
    async with instances(3, {"calls": 60, "window": "1h"}) as (three, http):
        clients = [await _session(proxy, http, **ALICE) for proxy in three]
        admitted = 0
        for _ in range(30):
            outcomes = await asyncio.gather(*(_outcomes(each, 1, **ALICE) for each in clients))
            admitted += sum(map(sum, outcomes))
        assert 60 * 0.98 <= admitted <= 60
        # A lease is a fifteenth of the calls, and each has two messages at most.
        assert sum(store(proxy).sent for proxy in three) <= 2 * 15 + 10
        for proxy in three:
            other = await _session(proxy, http, **BOB)
            assert await _outcomes(other, 1, **BOB) == [True]


async def test_an_instance_that_ends_is_succeeded_by_another() -> None:
    async with instances(3, {"calls": 60, "window": "1h"}) as (three, http):
        clients = [await _session(proxy, http, **ALICE) for proxy in three]
        admitted = 0
        for client in clients:
            admitted += sum(await _outcomes(client, 10, **ALICE))
        await three[0].stop()
        for client in clients[1:]:
            admitted += sum(await _outcomes(client, 60, **ALICE))
        assert 58 <= admitted <= 60


async def test_a_client_cannot_send_a_message_of_an_instance() -> None:
    async with instances(2, {"calls": 60, "window": "1h"}) as (two, http):
        message = {"type": "leave", "sender": store(two[0]).members.own}  # type: ignore[union-attr]
        for path in ("/.mcpproxy/limits", "/mcp/../.mcpproxy/limits"):
            answer = await http.post(f"{two[1].base}{path}", json=message)
            assert answer.status_code == 404
        members = store(two[1]).members
        assert members is not None
        assert len(members.others) == 1


@pytest.mark.slow
async def test_workers_admit_together_what_a_rule_allows(tmp_path: Path) -> None:
    peer = Peer("p")
    async with serving(peer.gate) as base, httpx2.AsyncClient(timeout=30) as http:
        backend = {"name": "p", "url": f"{base}/mcp"}
        limits = _limits({"calls": 60, "window": "1h"})
        async with crews(tmp_path, 2, [backend], limits=limits) as crew:

            async def joined() -> bool:
                return crew.log.read_text().count("working together") >= 2

            await eventually(joined, "the workers to know each other")
            admitted = 0
            for worker in range(2):
                client = Raw(crew.url_of(worker), http)
                await client.initialize(**ALICE)
                admitted += sum(await _outcomes(client, 60, **ALICE))
            assert 58 <= admitted <= 60
            limited_calls = await crew.total("mcpproxy_limited_calls_total", rule="r0")
            assert limited_calls == 120 - admitted
