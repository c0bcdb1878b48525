"""A raw-socket MCP client: one connection, one exchange at a time."""

import asyncio
from collections.abc import Callable
from typing import Final, cast
from urllib.parse import urlsplit

import httptools

from bench.messages import Era, Requests
from bench.replies import BadReply, Reply, message_of

_LIMIT: Final = 30.0
"""Seconds that one exchange of a handshake may take."""


class Connection(asyncio.Protocol):
    """One keep-alive connection with one exchange at a time."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._parts: list[bytes] = []
        self._replied: Callable[[Reply], object] | None = None
        self._opened: Callable[[Reply], object] | None = None
        self._transport: asyncio.Transport | None = None
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done once the connection has ended."""
        self.session: bytes | None = None
        """The Mcp-Session-Id that was given last."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        waiting = self._replied or self._opened
        self._replied = self._opened = None
        if waiting is not None:
            waiting(Reply(0, b"the connection was closed"))
        if not self.lost.done():
            self.lost.set_result(None)

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(name) == 14 and name.lower() == b"mcp-session-id":
            self.session = value

    def on_headers_complete(self) -> None:
        if self._opened is not None:
            opened, self._opened = self._opened, None
            opened(Reply(self._parser.get_status_code(), b""))

    def on_body(self, body: bytes) -> None:
        self._parts.append(body)

    def on_message_complete(self) -> None:
        reply = Reply(self._parser.get_status_code(), b"".join(self._parts))
        self._parts.clear()
        replied, self._replied = self._replied, None
        if replied is not None:
            replied(reply)

    def send(self, request: bytes, replied: Callable[[Reply], object]) -> None:
        """Send a request; `replied` is called once, with its reply."""
        if self._transport is None:
            asyncio.get_running_loop().call_soon(replied, Reply(0, b"not connected"))
            return
        self._replied = replied
        self._transport.write(request)

    async def exchange(self, request: bytes) -> Reply:
        """Send a request and wait for its reply."""
        waiting: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self.send(request, _into(waiting))
        async with asyncio.timeout(_LIMIT):
            return await waiting

    async def open_stream(self, request: bytes) -> int:
        """Send a request whose reply never ends; its status."""
        waiting: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        if self._transport is None:
            return 0
        self._opened = _into(waiting)
        self._transport.write(request)
        async with asyncio.timeout(_LIMIT):
            return (await waiting).status

    def close(self) -> None:
        """Begin to close the connection."""
        if self._transport is not None:
            self._transport.close()


def _into(waiting: asyncio.Future[Reply]) -> Callable[[Reply], object]:
    def replied(reply: Reply) -> None:
        if not waiting.done():
            waiting.set_result(reply)

    return replied


async def connect(url: str) -> Connection:
    """A connection to the URL's host. Raises OSError."""
    parts = urlsplit(url)
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(Connection, parts.hostname or "", parts.port or 80)
    return connection


async def close(*connections: Connection) -> None:
    """Close these connections and wait for their end."""
    for connection in connections:
        connection.close()
    await asyncio.gather(*(connection.lost for connection in connections))


def requests(url: str, era: Era, token: str = "") -> Requests:
    """The requests of one client of this URL, with a token if there is one."""
    parts = urlsplit(url)
    return Requests(parts.netloc, parts.path, era, token)


async def begin(connection: Connection, client: Requests) -> None:
    """The handshake of a legacy client. Raises BadReply."""
    reply = await connection.exchange(client.initialize())
    if message_of(reply, 0) is None:
        raise BadReply("initialize", reply)
    client.session = connection.session
    reply = await connection.exchange(client.initialized())
    if reply.status not in (200, 202, 204):
        raise BadReply("notifications/initialized", reply)
