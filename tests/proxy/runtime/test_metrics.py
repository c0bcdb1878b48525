"""Gauges of the metrics: sessions, streams, calls in flight and parked ones."""

import asyncio
import re
from contextlib import AsyncExitStack
from typing import Any

import httpx2
import pytest
from mcp import Client

from mcpproxy.proxy.upstream import backend
from mcpproxy.proxy.upstream.monitor import list_cache
from tests.proxy.runtime.gauges import OPEN, gauges
from tests.proxy.runtime.raw import Raw, last, modern
from tests.proxy.runtime.serving import LIVE, Proxy
from tests.proxy.runtime.waiting import eventually

pytestmark = LIVE
CAPABLE: dict[str, Any] = {"io.modelcontextprotocol/clientCapabilities": {"elicitation": {}}}
HEADERS = {
    "mcp_protocol_version": "2026-07-28",
    "mcp_method": "tools/call",
    "mcp_name": "p_elicit",
}
NOTHING = dict.fromkeys(OPEN, 0)


async def until(running: Proxy, what: str, **numbers: int) -> None:
    """Wait until these gauges have these values."""

    async def there() -> bool:
        result = await gauges(running.admin)
        return all(result[f"mcpproxy_{name}"] == value for name, value in numbers.items())

    await eventually(there, what)


async def all_closed(running: Proxy) -> None:
    """Wait until nothing is open."""

    async def closed() -> bool:
        return await gauges(running.admin) == NOTHING

    await eventually(closed, "everything to be closed")


@pytest.fixture(autouse=True)
def _reaped_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Warm sessions go soon after their last request."""
    monkeypatch.setattr(backend, "REAP_EVERY", 0.05)


async def test_sessions_streams_and_calls_are_counted_while_they_are_open(
    peer: Any, proxy: Any
) -> None:
    server, url = await peer("p", "legacy")
    running = await proxy({"name": "p", "url": url, "timeouts": {"idle": "500ms"}})
    await all_closed(running)
    async with Client(running.url, mode="legacy") as client:
        call = asyncio.create_task(client.call_tool("p_slow", {}))
        await server.started.wait()
        await until(running, "one of each", client_sessions=1, client_streams=1, calls_in_flight=1)
        assert (await gauges(running.admin))["mcpproxy_backend_sessions"] >= 1
        server.release.set()
        await call
    await all_closed(running)


async def test_a_parked_call_is_counted_until_its_client_has_answered(
    peer: Any, proxy: Any, stack: AsyncExitStack
) -> None:
    _, url = await peer("p", "legacy")
    running = await proxy({"name": "p", "url": url, "timeouts": {"idle": "500ms"}})
    http = await stack.enter_async_context(httpx2.AsyncClient(timeout=20))
    raw = Raw(running.url, http)

    async def elicit(number: int, **more: Any) -> Any:
        call = modern("tools/call", number, name="p_elicit", arguments={}, _meta=CAPABLE, **more)
        return last(await raw.post(call, **HEADERS))["result"]

    first = await elicit(1)
    (key,) = first["inputRequests"]
    await until(running, "a parked call", calls_parked=1, calls_in_flight=1)
    answers = {key: {"action": "accept", "content": {"name": "Bo"}}}
    done = await elicit(2, inputResponses=answers, requestState=first["requestState"])
    assert done["content"][0]["text"] == "user: Bo"
    await all_closed(running)


async def _counted(running: Proxy, name: str) -> dict[str, float]:
    """A counter by how it went, added up over the rest."""
    async with httpx2.AsyncClient() as http:
        text = (await http.get(f"{running.admin}/metrics")).text
    matches = re.findall(
        rf'^{name}_total{{(?:cache|.*session)="(\w+)".*}} ([0-9.]+)$', text, re.MULTILINE
    )
    sums: dict[str, float] = {}
    for label, count in matches:
        sums[label] = sums.get(label, 0) + float(count)
    return sums


async def test_list_requests_are_counted_by_cache_hit_or_miss(
    peer: Any, proxy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(list_cache, "MIN_REFRESH_AGE", 0.0)
    _, url = await peer("p", "modern")
    running = await proxy({"name": "p", "url": url})
    assert await _counted(running, "mcpproxy_list_requests") == {"hit": 0, "miss": 0}
    async with Client(running.url, mode="2026-07-28") as client:
        await client.list_tools()
        assert await _counted(running, "mcpproxy_list_requests") == {"hit": 0, "miss": 1}
        monkeypatch.setattr(list_cache, "MIN_REFRESH_AGE", 60.0)
        await client.list_prompts()
        assert await _counted(running, "mcpproxy_list_requests") == {"hit": 1, "miss": 1}


async def test_isolated_requests_are_counted_by_whether_a_session_was_open_for_them(
    peer: Any, proxy: Any
) -> None:
    _, url = await peer("p", "legacy")
    running = await proxy({"name": "p", "url": url}, {"name": "m", "url": (await peer("m"))[1]})
    async with Client(running.url, mode="legacy") as client:
        await client.call_tool("p_echo", {"text": "x"})
        assert await _counted(running, "mcpproxy_isolated_requests") == {"warm": 0, "cold": 1}
        await until(running, "the next session is there", calls_in_flight=0)
        await eventually(lambda: _some_warm(running), "a session to wait")
        await client.call_tool("p_echo", {"text": "x"})
        assert await _counted(running, "mcpproxy_isolated_requests") == {"warm": 1, "cold": 1}


async def _some_warm(running: Proxy) -> bool:
    result = running.runtime.gateway.backends["p"].sessions._warm
    return any(warm.links for warm in result._kinds.values())
