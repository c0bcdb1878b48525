"""Connections of the port for probes are bounded, and end without a response."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, suppress

import pytest
from aiohttp import web

from mcpproxy.controller import run
from mcpproxy.controller.health_port import connections
from mcpproxy.limits.pods import HEALTH_CONNECTIONS, HEALTH_SHARE, HEALTH_SILENCE
from tests.proxy.runtime.serving import free_port

REQUEST = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
Opened = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
async def connect() -> AsyncIterator[Callable[..., asyncio.Future[Opened]]]:
    """A function that connects to a served port."""

    async def livez(_: web.Request) -> web.Response:
        return web.Response(text="ok")

    app, port = web.Application(), free_port()
    app.router.add_get("/livez", livez)
    async with AsyncExitStack() as stack:
        await run._serve(app, port, stack)

        async def opened(address: str = "127.0.0.1") -> Opened:
            local = (address, 0)
            reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=local)
            stack.push_async_callback(_close, writer)
            return reader, writer

        yield lambda *args: asyncio.ensure_future(opened(*args))


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


async def _is_served(connection: Opened) -> bool:
    reader, writer = connection
    try:
        writer.write(REQUEST)
        return (await asyncio.wait_for(reader.readuntil(b"ok"), 10)).startswith(b"HTTP/1.1 200")
    except (OSError, asyncio.IncompleteReadError):
        return False


async def test_an_address_has_a_share_of_the_connections(
    connect: Callable[..., asyncio.Future[Opened]],
) -> None:
    opened = [await connect("127.0.0.2") for _ in range(HEALTH_SHARE.value)]
    assert await _is_served(opened[0])
    assert not await _is_served(await connect("127.0.0.2"))
    assert await _is_served(await connect("127.0.0.3"))
    opened[0][1].close()
    await opened[0][1].wait_closed()
    assert await _is_served(opened[1])


async def test_the_address_with_the_most_connections_makes_room(
    connect: Callable[..., asyncio.Future[Opened]], monkeypatch: pytest.MonkeyPatch
) -> None:
    fewer = dataclasses.replace(HEALTH_CONNECTIONS, value=3)
    monkeypatch.setattr(connections, "HEALTH_CONNECTIONS", fewer)
    many = [await connect("127.0.0.2") for _ in range(2)]
    other = await connect("127.0.0.3")
    assert await _is_served(other)
    assert await _is_served(await connect("127.0.0.4"))
    assert await _is_served(other)
    assert not await _is_served(many[0])
    assert await _is_served(many[1])


async def test_a_connection_without_a_whole_request_is_closed(
    connect: Callable[..., asyncio.Future[Opened]], monkeypatch: pytest.MonkeyPatch
) -> None:
    sooner = dataclasses.replace(HEALTH_SILENCE, value=1)
    monkeypatch.setattr(connections, "HEALTH_SILENCE", sooner)
    reader, writer = await connect()
    for part in (REQUEST, REQUEST[:20]):
        writer.write(part)
    assert (await reader.readuntil(b"ok")).endswith(b"ok")
    with pytest.raises((OSError, asyncio.IncompleteReadError)):
        await asyncio.wait_for(reader.readexactly(1), 10)
