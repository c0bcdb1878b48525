"""Fixtures of tests of the library: real servers around, and proxies served to real clients."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from mcp import Client

from mcpproxy import Server
from tests.proxy.runtime.counting import Counter
from tests.proxy.runtime.peer import Peer
from tests.proxy.runtime.serving import free_port, serving
from tests.proxy.runtime.waiting import eventually
from tests.support import notes

NOTES = notes.__file__
ERAS = ("legacy", "2026-07-28")


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    """Ends everything that a test started, in reverse order."""
    async with AsyncExitStack() as result:
        yield result


@pytest.fixture
def peer(stack: AsyncExitStack) -> Callable[..., Any]:
    """Starts a peer of an era; gives it and its URL."""

    async def start(name: str = "peer", era: str = "dual") -> tuple[Peer, str]:
        result = Peer(name, era)
        return result, f"{await stack.enter_async_context(serving(result.gate))}/mcp"

    return start


@pytest.fixture
async def counter(stack: AsyncExitStack) -> tuple[Counter, str]:
    """A server that counts in each session on its own, and its URL."""
    result = Counter()
    return result, f"{await stack.enter_async_context(serving(result.gate))}/mcp"


@asynccontextmanager
async def served(server: Server, **options: Any) -> AsyncIterator[str]:
    """Serve over HTTP as users do; gives the URL."""
    port = free_port()
    task = asyncio.create_task(server.run_async(transport="http", port=port, **options))

    async def reachable() -> bool:
        if task.done():
            task.result()
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        writer.close()
        await writer.wait_closed()
        return True

    await eventually(reachable, "the proxy to listen")
    try:
        yield f"http://127.0.0.1:{port}{options.get('path', '/mcp')}"
    finally:
        task.cancel()
        await asyncio.wait([task])


@asynccontextmanager
async def in_its_own_task(context: Any) -> AsyncIterator[Any]:
    """Enter and leave an SDK client in one task, whichever tasks a fixture runs in."""
    entered = asyncio.get_running_loop().create_future()
    leaving = asyncio.Event()

    async def hold() -> None:
        async with context as actual:
            entered.set_result(actual)
            await leaving.wait()

    task = asyncio.create_task(hold())
    await asyncio.wait([task, entered], return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        task.result()
    try:
        yield entered.result()
    finally:
        leaving.set()
        await task


@pytest.fixture
def connect(stack: AsyncExitStack) -> Callable[..., Any]:
    """Serves a proxy and connects a client of an era to it."""

    async def start(server: Server, mode: str = "legacy", **callbacks: Any) -> Client:
        url = await stack.enter_async_context(served(server))
        client = Client(url, mode=mode, **callbacks)
        return await stack.enter_async_context(in_its_own_task(client))

    return start


async def names(client: Client) -> list[str]:
    """The names of a client's tools."""
    return [tool.name for tool in (await client.list_tools()).tools]


def text(result: Any) -> str:
    """The text of a call's result."""
    actual: str = result.content[0].text
    return actual
