"""Stub backends in this process."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from bench import stub
from bench.stub import Behaviour


class Connection(stub.Connection):
    """Knows when it has ended."""

    def __init__(self, backend: stub.Stub) -> None:
        super().__init__(backend)
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set_result(None)


@asynccontextmanager
async def listening(connect: Callable[[], Connection]) -> AsyncIterator[str]:
    """The URL of a server, whose connections end with it."""
    connections: list[Connection] = []

    def connected() -> Connection:
        connections.append(connect())
        return connections[-1]

    server = await asyncio.get_running_loop().create_server(connected, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp"
    finally:
        server.close()
        await asyncio.gather(*(connection.ended for connection in connections))


@asynccontextmanager
async def served(behaviour: Behaviour) -> AsyncIterator[str]:
    """The URL of a stub backend."""
    backend = stub.Stub(behaviour)
    async with listening(lambda: Connection(backend)) as url:
        yield url
