"""Pods that send whatever a test makes up, over real HTTP on loopback."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from kubernetes.aio.client.configuration import Configuration

from mcpproxy.cluster.pods.status_stream import HttpPodStatusReader, PodAddress

Talk = Callable[[asyncio.StreamWriter], Awaitable[None]]

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n"
PLAIN = HEAD + b"\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


@dataclass
class HostilePod:
    """One listening pod."""

    port: int = 0
    requests: list[bytes] = field(default_factory=list)
    """Heads of all requests."""

    def address(self, uid: str = "p1") -> PodAddress:
        """The address to follow."""
        return PodAddress("team", f"tools-{uid}", uid, "127.0.0.1", self.port)


@asynccontextmanager
async def hostile_pod(talk: Talk) -> AsyncIterator[HostilePod]:
    """A pod that answers every request by `talk`, then keeps the connection open."""
    pod = HostilePod()
    talking: set[asyncio.Task[None]] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        talking.add(task)
        try:
            pod.requests.append(await reader.readuntil(b"\r\n\r\n"))
            await talk(writer)
            await reader.read()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            # Of a cancelled connection asyncio would log an error.
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    pod.port = server.sockets[0].getsockname()[1]
    try:
        yield pod
    finally:
        server.close()
        for task in talking:
            task.cancel()
        await asyncio.gather(*talking, return_exceptions=True)


def saying(*parts: bytes) -> Talk:
    """Send these bytes."""

    async def talk(writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()

    return talk


def repeating(head: bytes, part: bytes) -> Talk:
    """Send `head`, then `part` until the connection is closed."""

    async def talk(writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while True:
            writer.write(part)
            await writer.drain()

    return talk


@asynccontextmanager
async def reading() -> AsyncIterator[HttpPodStatusReader]:
    """A reader of pods at their own addresses."""
    reader = HttpPodStatusReader(Configuration(), "direct")
    try:
        yield reader
    finally:
        await reader.close()


async def lines_of(pod: HostilePod) -> list[bytes]:
    """Every line of one stream."""
    async with reading() as reader:
        return [line async for line in reader.lines(pod.address())]
