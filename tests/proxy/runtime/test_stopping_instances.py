"""An instance stops while it completes calls: streams of notifications go on at another one."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest

from tests.proxy.runtime.peer import Peer
from tests.proxy.runtime.raw import MODERN, Raw, last, modern, rpc
from tests.proxy.runtime.serving import LIVE, Proxy, proxied, serving
from tests.proxy.runtime.strangers import KEY
from tests.proxy.runtime.waiting import eventually

pytestmark = [*LIVE, pytest.mark.timeout(120)]
ACCEPT = {"accept": "text/event-stream"}


@dataclass
class World:
    """Two instances before one backend; the first stops, but completes a call until `release`."""

    peer: Peer
    first: Proxy
    second: Proxy
    http: httpx2.AsyncClient
    session: str
    """Id of a session that the first instance owns."""

    async def get(self, at: Proxy) -> bytes:
        """Return the body of a GET stream that ends, within five seconds."""
        headers = {**ACCEPT, "mcp-session-id": self.session}
        async with asyncio.timeout(5):
            response = await self.http.get(at.url, headers=headers)
        assert response.status_code == 200
        return response.content


@asynccontextmanager
async def _stopping() -> AsyncIterator[World]:
    peer = Peer("p", "legacy")
    async with contextlib.AsyncExitStack() as stack:
        base = await stack.enter_async_context(serving(peer.gate))
        spec, options = {"name": "p", "url": f"{base}/mcp"}, {"keys": (KEY,)}
        first, second = [
            await stack.enter_async_context(proxied(spec, options=options)) for _ in range(2)
        ]
        limits = httpx2.Limits(max_keepalive_connections=0)
        http = await stack.enter_async_context(httpx2.AsyncClient(timeout=30, limits=limits))
        client = Raw(first.url, http)
        await client.initialize()
        assert client.session is not None
        call = asyncio.create_task(client.post(rpc("tools/call", {"name": "p_slow"}, 9)))
        await peer.started.wait()
        first.runtime.stop()
        await eventually(lambda: _is_stopping(first), "the instance to stop")
        try:
            yield World(peer, first, second, http, client.session)
        finally:
            peer.release.set()
        assert last(await call)["result"]["content"][0]["text"] == "slow"
        async with asyncio.timeout(5):
            await first.serving


async def _is_stopping(proxy: Proxy) -> bool:
    return await proxy.runtime.not_ready() == "shutting down"


async def test_a_stream_that_a_stopping_instance_gets_ends_at_once() -> None:
    async with _stopping() as world:
        assert b"data" not in await world.get(world.first)


async def test_another_instance_opens_the_stream_of_a_session_whose_owner_stops() -> None:
    async with _stopping() as world:
        headers = {**ACCEPT, "mcp-session-id": world.session}
        async with world.http.stream("GET", world.second.url, headers=headers) as stream:
            assert stream.status_code == 200
            chunks = stream.aiter_raw()
            await anext(chunks)
            await world.peer.grow("later")
            async with asyncio.timeout(5):
                assert any([b"list_changed" in chunk async for chunk in _first(chunks)])


async def _first(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the next chunk that is not a comment."""
    async for chunk in chunks:
        if not chunk.startswith(b":"):
            yield chunk
            return


async def test_a_subscription_at_a_stopping_instance_ends_with_its_response() -> None:
    async with _stopping() as world:
        listen: Any = modern("subscriptions/listen", 3, notifications={"toolsListChanged": True})
        headers = {"mcp_protocol_version": MODERN, "mcp_method": "subscriptions/listen"}
        async with asyncio.timeout(5):
            response = await Raw(world.first.url, world.http).post(listen, **headers)
        assert (response.status_code, last(response)["id"]) == (200, 3)
