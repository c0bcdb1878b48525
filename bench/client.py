"""A raw-socket MCP client that checks every reply by its id and its content."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, cast
from urllib.parse import urlsplit

import httptools
import msgspec
from bench.messages import Era, Operation, Requests

from bench import messages

_LIMIT: Final = 30.0
"""Seconds that one exchange of a handshake may take."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP response; status 0 when the connection ended before it."""

    status: int
    body: bytes


class Envelope(msgspec.Struct):
    """What is read of a JSON-RPC message."""

    id: int | str | None = None
    method: str | None = None
    params: msgspec.Raw = msgspec.Raw()
    result: msgspec.Raw = msgspec.Raw()


class Progress(msgspec.Struct):
    """The parameters of notifications/progress."""

    token: int | str = msgspec.field(name="progressToken")
    progress: float


_envelope: Final = msgspec.json.Decoder(Envelope)
_progress: Final = msgspec.json.Decoder(Progress)


class Connection(asyncio.Protocol):
    """One keep-alive connection with one exchange at a time."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._parts: list[bytes] = []
        self._replied: Callable[[Reply], object] | None = None
        self._opened: Callable[[Reply], object] | None = None
        self._transport: asyncio.Transport | None = None
        self.session: bytes | None = None
        """The Mcp-Session-Id that was given last."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._transport = None
        waiting = self._replied or self._opened
        self._replied = self._opened = None
        if waiting is not None:
            waiting(Reply(0, b"the connection was closed"))

    def on_header(self, name: bytes, value: bytes) -> None:
        """See httptools."""
        if len(name) == 14 and name.lower() == b"mcp-session-id":
            self.session = value

    def on_headers_complete(self) -> None:
        """See httptools."""
        if self._opened is not None:
            opened, self._opened = self._opened, None
            opened(Reply(self._parser.get_status_code(), b""))

    def on_body(self, body: bytes) -> None:
        """See httptools."""
        self._parts.append(body)

    def on_message_complete(self) -> None:
        """See httptools."""
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
        """Close the connection."""
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


def requests(url: str, era: Era) -> Requests:
    """The requests of one client of this URL."""
    parts = urlsplit(url)
    return Requests(parts.netloc, parts.path, era)


async def begin(connection: Connection, client: Requests) -> None:
    """The handshake of a legacy client. Raises BadReply."""
    reply = await connection.exchange(client.initialize())
    if message_of(reply, 0) is None:
        raise BadReply("initialize", reply)
    client.session = connection.session
    reply = await connection.exchange(client.initialized())
    if reply.status not in (200, 202, 204):
        raise BadReply("notifications/initialized", reply)


class BadReply(Exception):
    """A reply that is not what was asked for."""

    def __init__(self, request: str, reply: Reply) -> None:
        super().__init__(f"{request}: HTTP {reply.status}: {reply.body[:300]!r}")


def messages_of(body: bytes) -> list[bytes]:
    """The JSON-RPC messages of a body, which is JSON or an event stream."""
    if body[:1] == b"{":
        return [body]
    lines = (line[5:].strip() for line in body.split(b"\n") if line[:5] == b"data:")
    return [line for line in lines if line]


def message_of(reply: Reply, number: int) -> tuple[list[bytes], bytes] | None:
    """The messages before the result, and the result; None unless it has this id."""
    found = messages_of(reply.body) if reply.status == 200 else []
    if not found:
        return None
    try:
        envelope = _envelope.decode(found[-1])
    except msgspec.MsgspecError:
        return None
    if envelope.id != number or not envelope.result:
        return None
    return found[:-1], bytes(envelope.result)


def is_right(operation: Operation, number: int, reply: Reply, tools: int) -> bool:
    """Whether the reply is that of the operation; `tools` is how many a list must have."""
    found = message_of(reply, number)
    if found is None:
        return False
    before, result = found
    if operation == "initialize":
        return b'"serverInfo"' in result
    if operation == "list":
        return result.count(b'"inputSchema"') == tools
    if not _says(operation, number, result) or result.find(b'"isError":true', -200) >= 0:
        return False
    return operation != "progress" or _is_whole(before, number)


def _says(operation: Operation, number: int, result: bytes) -> bool:
    said = b'"' + messages.text(number).encode()
    begun = result.find(said)
    # A search for all of it would cost more than the call.
    rest = messages.PADDING + b'"' if operation == "large" else b'"'
    return begun >= 0 and result.startswith(rest, begun + len(said))


def _is_whole(before: list[bytes], number: int) -> bool:
    """Whether these are all notifications of the call, in their order."""
    try:
        envelopes = [_envelope.decode(message) for message in before]
        if any(envelope.method != "notifications/progress" for envelope in envelopes):
            return False
        steps = [_progress.decode(envelope.params) for envelope in envelopes]
    except msgspec.MsgspecError:
        return False
    expected = [(number, step) for step in range(1, messages.NOTIFICATIONS + 1)]
    return [(step.token, step.progress) for step in steps] == expected
