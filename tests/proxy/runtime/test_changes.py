"""Lists that change, and how often backends are asked for them."""

import asyncio
from typing import Any

import mcp_types as t
import pytest
from mcp import Client

from mcpproxy.proxy.protocol.kinds import TOOLS
from mcpproxy.proxy.upstream.monitor import list_cache
from tests.proxy.runtime.serving import BUSY, LIVE
from tests.proxy.runtime.waiting import soon

pytestmark = LIVE
PAGES = 3


async def _names(client: Client) -> list[str]:
    return [tool.name for tool in (await client.list_tools()).tools]


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_a_new_tool_is_announced_to_a_live_legacy_client(
    peer: Any, proxy: Any, era: str
) -> None:
    server, url = await peer("p", era)
    running = await proxy({"name": "p", "url": url})
    changed = asyncio.Event()

    async def handle(message: Any) -> None:
        if isinstance(message, t.ToolListChangedNotification):
            changed.set()

    async with Client(running.url, mode="legacy", message_handler=handle) as client:
        assert "p_new" not in await _names(client)
        await soon(lambda: running.runtime.gateway.metrics.streams._value.get() == 1, "a stream")
        await server.grow("new")
        async with asyncio.timeout(10):
            await changed.wait()
        assert "p_new" in await _names(client)


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_a_new_tool_is_announced_to_a_live_modern_listener(
    peer: Any, proxy: Any, era: str
) -> None:
    server, url = await peer("p", era)
    running = await proxy({"name": "p", "url": url})
    async with Client(running.url, mode="2026-07-28") as client:
        async with client.listen(tools_list_changed=True) as events:
            await server.grow("new")
            async with asyncio.timeout(10):
                event = await anext(aiter(events))
        assert "Tools" in type(event).__name__
        assert "p_new" in await _names(client)


async def test_a_client_that_closed_its_stream_is_forgotten(peer: Any, proxy: Any) -> None:
    _, url = await peer("p")
    running = await proxy({"name": "p", "url": url})
    streams = running.runtime.gateway.metrics.streams._value
    async with Client(running.url, mode="legacy"):
        await soon(lambda: streams.get() == 1, "a legacy stream")
    await soon(lambda: streams.get() == 0, "the legacy stream to be forgotten")
    async with (
        Client(running.url, mode="2026-07-28") as client,
        client.listen(tools_list_changed=True),
    ):
        await soon(lambda: streams.get() == 1, "a modern stream")
    await soon(lambda: streams.get() == 0, "the modern stream to be forgotten")


async def test_lookups_and_fresh_lists_send_no_requests_to_the_backend(
    peer: Any, proxy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(list_cache, "MIN_REFRESH_AGE", 3600.0)
    server, url = await peer("p")
    running = await proxy({"name": "p", "url": url})
    before = server.gate.count("tools/list")
    assert before == PAGES
    async with Client(running.url, mode="legacy") as client:
        for _ in range(3):
            await client.list_tools()
            await client.call_tool("p_echo", {})
    assert server.gate.count("tools/list") == before


async def test_an_explicit_list_refreshes_a_snapshot_that_is_no_longer_recent(
    peer: Any, proxy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(list_cache, "MIN_REFRESH_AGE", 0.0)
    server, url = await peer("p")
    running = await proxy({"name": "p", "url": url})
    async with Client(running.url, mode="legacy") as client:
        server.tools["quiet"] = server.echo
        assert "p_quiet" in await _names(client)


async def test_concurrent_lists_are_one_flight(
    peer: Any, proxy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(list_cache, "MIN_REFRESH_AGE", 0.0)
    server, url = await peer("p")
    running = await proxy({"name": "p", "url": url})
    async with Client(running.url, mode="legacy") as client:
        before = server.gate.count("tools/list")
        gateway = running.runtime.gateway
        result = await asyncio.gather(
            *(gateway.aggregate.listing(TOOLS, None, modern=False) for _ in range(20))
        )
        assert len(set(result)) == 1
        assert server.gate.count("tools/list") == before + PAGES
        assert await _names(client)


async def test_health_checks_refetch_a_list_older_than_its_ttl(peer: Any, proxy: Any) -> None:
    server, url = await peer("p")
    await proxy({"name": "p", "url": url, "cache": {"ttl": "100ms"}}, **BUSY)
    await soon(lambda: server.gate.count("tools/list") >= 3 * PAGES, "lists to be fetched anew")


async def test_a_list_within_its_ttl_is_not_fetched_by_the_checks(peer: Any, proxy: Any) -> None:
    server, url = await peer("p", "modern")
    await proxy({"name": "p", "url": url}, **BUSY)
    await soon(lambda: server.gate.count("server/discover") >= 5, "a few checks")
    assert server.gate.count("tools/list") == PAGES
