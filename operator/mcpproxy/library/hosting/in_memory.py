"""Connections to a server within the process, as transports of clients of the SDK and of FastMCP.

The server handles the messages of such a client like those of a client on standard streams.
FastMCP is optional, and imported by the functions that need it.
"""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import anyio
from mcp import ClientSession
from mcp.client._transport import ReadStream, TransportStreams, WriteStream
from mcp.shared.memory import create_client_server_memory_streams
from mcp.shared.message import SessionMessage
from mcp_types import jsonrpc_message_adapter

from mcpproxy.library.inspection import InspectableServer
from mcpproxy.proxy.embed import ANONYMOUS, Gateway, Identity, NothingToServe, StdioServer

_CLOSED: Final = (anyio.ClosedResourceError, anyio.BrokenResourceError, anyio.EndOfStream)
GRACE: Final = 2.0
"""Seconds that the calls in flight have when the client disconnects."""


class _ClientMessages:
    """The messages of the client, as lines."""

    def __init__(self, stream: ReadStream[SessionMessage | Exception]) -> None:
        self._stream = stream

    async def read(self) -> bytes:
        while True:
            try:
                item = await self._stream.receive()
            except _CLOSED:
                return b""
            if isinstance(item, SessionMessage):
                content = item.message.model_dump(by_alias=True, mode="json", exclude_unset=True)
                return json.dumps(content).encode() + b"\n"


class _ServerMessages:
    """The lines of the server, as messages."""

    def __init__(self, stream: WriteStream[SessionMessage | Exception]) -> None:
        self._stream = stream
        self._lock = asyncio.Lock()
        self.failed: asyncio.Future[OSError] = asyncio.get_running_loop().create_future()

    async def write(self, data: bytes) -> None:
        async with self._lock:
            for line in data.splitlines():
                message = jsonrpc_message_adapter.validate_json(line)
                try:
                    await self._stream.send(SessionMessage(message))
                except _CLOSED:
                    raise BrokenPipeError("the client has disconnected") from None


@asynccontextmanager
async def in_memory_transport(
    server: InspectableServer, identity: Identity
) -> AsyncIterator[TransportStreams]:
    """Connect a client of this identity to a server, which runs as long as the client needs it."""
    async with server, create_client_server_memory_streams() as (client, ours):
        source, target = _ClientMessages(ours[0]), _ServerMessages(ours[1])
        session = f"memory-{secrets.token_hex(8)}"
        line_server = StdioServer(server.gateway, target, identity, session)
        serving = asyncio.create_task(_serve(line_server, source))
        try:
            yield client
        finally:
            await client[1].aclose()
            await client[0].aclose()
            await _end(serving, server.gateway, session)


async def _serve(server: StdioServer, source: _ClientMessages) -> None:
    # A client that sends nothing is no error here.
    with suppress(NothingToServe):
        await server.run(source)


async def _end(serving: "asyncio.Task[None]", gateway: Gateway, session: str) -> None:
    await asyncio.wait([serving], timeout=GRACE)
    serving.cancel()
    await asyncio.wait([serving])
    gateway.end_client(session)
    if not serving.cancelled():
        serving.result()


def fastmcp_transport(server: InspectableServer, identity: Identity) -> Any:
    """Return a transport with which clients of FastMCP connect to a server within the process.

    `identity` is that of the client. Raise ImportError without FastMCP 4.
    """
    from fastmcp.client.transports import ClientTransport
    from fastmcp.client.transports.base import TransportOptions

    class MCPProxyTransport(ClientTransport):  # type: ignore[misc]
        """Transport to a server within the process."""

        @asynccontextmanager
        async def connect_session(
            self, *, transport_options: Any = None, **session_kwargs: Any
        ) -> AsyncIterator[ClientSession]:
            """Connect a session, which is not initialized yet."""
            options = transport_options or TransportOptions()
            async with in_memory_transport(server, identity) as (read, write):
                session = options.session_class(
                    read_stream=read, write_stream=write, **session_kwargs
                )
                async with session as entered:
                    yield entered

    return MCPProxyTransport()


def fastmcp_provider(server: InspectableServer) -> Any:
    """Return a provider of FastMCP with all components of a server.

    Raise ImportError without FastMCP 4.
    """
    from fastmcp.server import create_proxy
    from fastmcp.server.providers import FastMCPProvider

    return FastMCPProvider(create_proxy(fastmcp_transport(server, ANONYMOUS), name=server.name))
