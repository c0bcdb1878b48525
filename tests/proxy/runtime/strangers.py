"""Programs at the address of an instance that has terminated, which record what they receive."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from mcpproxy.proxy.core.tokens.sealed_tokens import Sealer
from mcpproxy.proxy.downstream.peers.forwarding import PeerForwarder

KEY, ANOTHER_KEY = b"k" * 32, b"x" * 32


@dataclass
class Stranger:
    """Bytes that one of these programs has received."""

    received: bytearray = field(default_factory=bytearray)
    connections: int = 0


Conduct = Callable[[Stranger, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def _record(stranger: Stranger, reader: asyncio.StreamReader) -> bytes:
    data = await reader.read(65536)
    stranger.received += data
    return data


async def hang(
    stranger: Stranger, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Take everything and say nothing."""
    while await _record(stranger, reader):
        pass


async def close(
    stranger: Stranger, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Take the first bytes and close."""
    await _record(stranger, reader)


async def echo(
    stranger: Stranger, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Send back what comes."""
    while data := await _record(stranger, reader):
        writer.write(data)


def respond(status: int) -> Conduct:
    """Respond to everything as an HTTP server does."""
    body = b'{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"strange"}]}}'
    head = f"HTTP/1.1 {status} X\r\nset-cookie: strange=1\r\ncontent-type: application/json\r\n"
    response = f"{head}content-length: {len(body)}\r\n\r\n".encode() + body

    async def conduct(
        stranger: Stranger, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while await _record(stranger, reader):
            writer.write(response)

    return conduct


def relay(port: int, sent: bytearray | None = None) -> Conduct:
    """Relay all bytes to an instance, and record both directions; `sent` gets what goes there."""

    async def copy(
        stranger: Stranger,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        copied: bytearray | None = None,
    ) -> None:
        while data := await _record(stranger, reader):
            writer.write(data)
            if copied is not None:
                copied += data
        writer.close()

    async def conduct(
        stranger: Stranger, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        try:
            await asyncio.gather(copy(stranger, reader, back, sent), copy(stranger, there, writer))
        finally:
            back.transport.abort()

    return conduct


def tls_of_another_key() -> ssl.SSLContext:
    """The context of an instance that has another sealing key."""
    peers = PeerForwarder(Sealer([ANOTHER_KEY], bytes), "127.0.0.1:1", "/mcp")
    context = peers.credentials.own.server_context
    context.verify_mode = ssl.CERT_NONE
    return context


@asynccontextmanager
async def stranger_at(
    port: int, conduct: Conduct, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[Stranger]:
    """Serve a port that an instance had."""
    stranger = Stranger()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        stranger.connections += 1
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await conduct(stranger, reader, writer)
        writer.transport.abort()

    server = await asyncio.start_server(serve, host, port, ssl=tls)
    try:
        yield stranger
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks)
