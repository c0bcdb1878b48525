"""`timeouts`, `health` and `cache`: how long is waited for a backend, and how often it is asked."""

import asyncio
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from mcp import Client, MCPError

from mcpproxy.proxy.upstream import backend as backends
from mcpproxy.proxy.upstream.monitor import list_waits
from tests.proxy.runtime import waiting
from tests.proxy.runtime.counting import Counter
from tests.proxy.runtime.raw import Raw, last, rpc
from tests.proxy.runtime.serving import BUSY, LIVE, Proxy, serving
from tests.proxy.runtime.test_failures import silent
from tests.proxy.runtime.waiting import soon

pytestmark = LIVE


async def _message(running: Proxy, name: str) -> str | None:
    await running.until(name, "Unhealthy")
    return next(b.message for b in (await running.report()).backends if b.name == name)


async def test_opening_a_connection_times_out(proxy: Any, stack: Any) -> None:
    # It takes the connection, and says nothing to the handshake.
    hung = (await stack.enter_async_context(silent())).replace("http:", "https:")
    running = await proxy({"name": "p", "url": hung, "timeouts": {"connect": "120ms"}})
    address = urlsplit(hung).netloc
    assert await _message(running, "p") == f"{address}: no connection within 0.12 s"


async def test_opening_a_session_times_out(proxy: Any, stack: Any) -> None:
    hung = await stack.enter_async_context(silent())
    timeouts = {"connect": "300ms", "initialize": "120ms"}
    running = await proxy({"name": "p", "url": hung, "timeouts": timeouts})
    async with Client(running.url, mode="legacy") as client:
        with pytest.raises(MCPError, match=r"no session was opened within 0\.12 s"):
            async with asyncio.timeout(waiting.BOUND):
                await client.call_tool("p_x", {})


async def test_waiting_for_a_response_times_out(peer: Any, proxy: Any) -> None:
    server, url = await peer("p")
    patient = {"name": "patient", "url": url}
    hasty = {"name": "hasty", "url": url, "timeouts": {"request": "500ms"}}
    running = await proxy(patient, hasty)
    async with Client(running.url, mode="legacy") as client:
        try:
            with pytest.raises(MCPError, match=r"0\.5 s") as caught:
                async with asyncio.timeout(waiting.BOUND):
                    await client.call_tool("hasty_slow", {})
        finally:
            server.release.set()
        told = {"backend": "hasty", "reason": "TimedOut", "mayHaveRun": True}
        assert caught.value.error.data == told
        assert not (await client.call_tool("patient_slow", {})).is_error


async def test_an_unused_session_ends_after_the_idle_time(
    proxy: Any, stack: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends, "REAP_EVERY", 0.02)
    counter = Counter()
    url = f"{await stack.enter_async_context(serving(counter.gate))}/mcp"
    running = await proxy(
        {"name": "short", "url": url, "timeouts": {"idle": "1ms"}},
        {"name": "long", "url": url},
        session={"mode": "PerClient"},
    )
    async with Client(running.url, mode="legacy") as client:
        await client.call_tool("long_increment", {})
        (kept,) = counter.counts
        await client.call_tool("short_increment", {})
        (ended,) = counter.counts.keys() - {kept}

        def of_its_session() -> bool:
            deleted = [item for item in counter.gate.seen if item.method == "DELETE"]
            return ended in {entry.headers["mcp-session-id"] for entry in deleted}

        await soon(of_its_session, "the session to be ended")
        again = await client.call_tool("long_increment", {})
        assert again.structured_content == {"result": 2}


async def test_backends_are_checked_at_the_interval(peer: Any, proxy: Any) -> None:
    server, url = await peer("p", "modern")
    await proxy({"name": "p", "url": url}, health={"interval": "50ms"})
    # At the default of 10 s there would be two in the time that is waited.
    await soon(lambda: server.gate.count("server/discover") >= 5, "a few checks")


async def test_a_check_times_out(peer: Any, proxy: Any, stack: Any) -> None:
    server, url = await peer("p")
    health = {"interval": "50ms", "timeout": "120ms", "unhealthyAfter": 1}
    running = await proxy({"name": "p", "url": url}, health=health)
    await running.until("p", "Healthy")
    hung = await stack.enter_async_context(silent())
    async with httpx2.AsyncClient(timeout=None) as http:

        async def hang(scope: Any, receive: Any, send: Any) -> None:
            await http.get(hung)

        server.gate.app = hang
        assert await _message(running, "p") == "no response within 0.12 s"


@pytest.mark.parametrize("count", [1, 3])
async def test_enough_equal_checks_in_a_row_change_the_state(
    peer: Any, proxy: Any, count: int
) -> None:
    server, url = await peer("p")
    health = {"interval": "50ms", "unhealthyAfter": count, "healthyAfter": count}
    running = await proxy({"name": "p", "url": url}, health=health)
    watch = running.runtime.gateway.backends["p"].watch
    for status, good, before, after in (
        (500, False, "Healthy", "Unhealthy"),
        (None, True, "Unhealthy", "Healthy"),
    ):
        await running.until("p", before)
        result: list[tuple[bool, str]] = []
        checks = running.runtime.gateway.events.check
        checks.subscribe(lambda _, well, to=result: to.append((well, watch.health.finding.state)))
        server.gate.status = status
        await running.until("p", after)
        # A check that was under way may still have been the other way round.
        row = [state for well, state in result if well is good]
        assert row[:count] == [*[before] * (count - 1), after]


async def test_lists_are_cached_for_the_ttl_of_backend_or_proxy(peer: Any, proxy: Any) -> None:
    servers = {name: await peer(name, "modern") for name in ("own", "all")}
    own, common = ({"name": name, "url": url} for name, (_, url) in servers.items())
    await proxy({**own, "cache": {"ttl": "1h"}}, common, cache={"ttl": "100ms"}, **BUSY)
    gates = {name: server.gate for name, (server, _) in servers.items()}
    first = gates["own"].count("tools/list")
    await soon(lambda: gates["all"].count("tools/list") >= 3 * first, "lists to be fetched anew")
    checks = gates["own"].count("server/discover")
    await soon(lambda: gates["own"].count("server/discover") > checks + 3, "a few checks")
    assert gates["own"].count("tools/list") == first


@pytest.mark.parametrize("declared", [None, {"sampling": {}}])
async def test_without_a_cache_every_list_is_the_backends_newest(
    peer: Any, proxy: Any, declared: dict[str, Any] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(list_waits, "REFRESH_WAIT", 0.0)
    server, url = await peer("p")
    server.needs["sample"] = "sampling"
    running = await proxy({"name": "p", "url": url}, cache={"ttl": "0s"}, health={"interval": "1h"})
    await running.until("p", "Healthy")
    names = {}
    async with httpx2.AsyncClient(timeout=20) as http:
        client = Raw(running.url, http)
        await client.initialize(capabilities=declared)
        for name in ("one", "two", "three"):
            server.tools[name] = server.echo
            listed = last(await client.post(rpc("tools/list")))["result"]["tools"]
            names[name] = f"p_{name}" in [tool["name"] for tool in listed]
    assert names == {"one": True, "two": True, "three": True}
