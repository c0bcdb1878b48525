"""Event streams of backends: their messages, and how fast they are read."""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from typing import Final

from mcpproxy.limits.backends import MESSAGE
from mcpproxy.limits.streams import EVENT_ID, EVENT_LINES, EVENT_LINES_AHEAD, STANDING_MESSAGES
from mcpproxy.proxy.core.errors import ProtocolError
from mcpproxy.proxy.core.rate_limiter import SharedRate
from mcpproxy.proxy.http1.client.response import ClientResponse
from mcpproxy.proxy.protocol import batches, sse
from mcpproxy.proxy.protocol.jsonrpc import Message, RpcError
from mcpproxy.proxy.protocol.tolerance import quote
from mcpproxy.proxy.upstream.http_errors import BACKEND_ERRORS
from mcpproxy.proxy.upstream.large_results import LARGE

MAX_MESSAGE: Final = MESSAGE.value
"""Bytes of one message from a backend; more is refused."""
_LINES_OF_AN_EVENT: Final = 4
_FREE: Final = 8
"""Lines of a part that are not counted: every stream may begin with some, or send a ping."""
_LINES_OF_A_STEP: Final = 100
_LEAST_STEP: Final = 256
_SHOWN: Final = 80
"""Characters of what can't be read that a message shows."""
_LONGEST_PAUSE: Final = 60.0
_PAUSE: Final = 1.0
"""Seconds before a stream is resumed whose backend names no time."""


def new_line_rate() -> SharedRate:
    """The rate of all event streams of one backend: that of lines beyond those of messages."""
    return SharedRate(EVENT_LINES.value, EVENT_LINES_AHEAD.value, time.monotonic)


def in_steps(chunk: bytes) -> list[bytes]:
    """A chunk in parts that take little time each."""
    lines = chunk.count(b"\n") + chunk.count(b"\r")
    if lines <= _LINES_OF_A_STEP:
        return [chunk]
    step = max(len(chunk) * _LINES_OF_A_STEP // lines, _LEAST_STEP)
    return [chunk[begin : begin + step] for begin in range(0, len(chunk), step)]


def new_unrelated_rate() -> SharedRate:
    """The rate of messages that belong to no request, on all streams of one backend."""
    return SharedRate(STANDING_MESSAGES.value, 0, time.monotonic)


async def delay_unrelated(messages: Sequence[Message], rate: SharedRate) -> None:
    """Wait behind messages that belong to no request.

    A backend that sends them without end waits in turn, and its connections with it.
    """
    if messages:
        await asyncio.sleep(rate.take(len(messages)))


class EventStream:
    """The events of a response, those of a small part at a time."""

    def __init__(self, response: ClientResponse, rate: SharedRate) -> None:
        self.response = response
        self.parser = sse.EventStreamParser(MAX_MESSAGE)
        self._rate = rate
        self._parts: deque[bytes] = deque()

    @property
    def has_more(self) -> bool:
        """Whether a part of what came was not read yet."""
        return bool(self._parts)

    async def next(self) -> list[sse.ServerSentEvent] | None:
        """The events of the next part; None at the end. Raises ProtocolError, Unreachable."""
        if self._parts:
            # However many lines come at once, other requests have their turn between them.
            await asyncio.sleep(0)
        else:
            with BACKEND_ERRORS:
                chunk = await self.response.next_chunk()
            if not chunk:
                return None
            self._parts.extend(in_steps(chunk))
        parser, before = self.parser, self.parser.lines
        try:
            events = parser.feed(self._parts.popleft())
        except sse.EventTooLarge as error:
            MESSAGE.record()
            self.response.close()
            raise ProtocolError(f"an event of its stream is not MCP: {error}") from None
        idle = parser.lines - before - _LINES_OF_AN_EVENT * len(events)
        if idle > _FREE and (pause := self._rate.take(idle)):
            EVENT_LINES.record()
            await asyncio.sleep(pause)
        return events


class SseMessageReader:
    """The messages of an event stream, and where to go on when it ends early.

    Events of other types than `message`, and those that are no JSON-RPC, are passed over, as
    clients of the SDKs do: servers send heartbeats in many forms.
    """

    def __init__(
        self, response: ClientResponse, rate: SharedRate, last_id: bytes | None = None
    ) -> None:
        self._response = response
        self._stream = EventStream(response, rate)
        self.last_id = last_id
        """The id of the event behind which the stream can be resumed; None if it can't."""
        self._seen_id: bytes | None = None
        self.passed_over: bytes | None = None
        """The beginning of the first event that was no JSON-RPC."""

    @property
    def retry_ms(self) -> int | None:
        """How long the backend wants to be left alone before the stream is resumed."""
        return self._stream.parser.retry

    @property
    def has_more(self) -> bool:
        """Whether a part of what came was not read yet."""
        return self._stream.has_more

    async def messages(self) -> list[Message] | None:
        """The messages of the next part; None at the end of the stream.

        Raises ProtocolError, Unreachable.
        """
        events = await self._stream.next()
        self._note_id()
        if not events:
            return None if events is None else []
        found: list[Message] = []
        for event in events:
            if event.data and event.event == sse.MESSAGE:
                self._read(event.data, found)
        return found

    def _note_id(self) -> None:
        found = self._stream.parser.last_id
        if found is self._seen_id:
            return
        self._seen_id, self.last_id = found, found or None
        if found and len(found) > EVENT_ID.value:
            EVENT_ID.record()
            self.last_id = None

    def _read(self, data: bytes, found: list[Message]) -> None:
        try:
            found += batches.of_backend(data)
        except RpcError as error:
            if b'"jsonrpc"' in data:
                # It may be the response that is waited for.
                self._response.close()
                why = f"an event of its stream is not MCP: {error}: {quote(data)}"
                raise ProtocolError(why) from None
            if self.passed_over is None:
                self.passed_over = data[:_SHOWN]

    @property
    def without_response(self) -> str:
        """Why there is none, where the stream has ended without the response."""
        why = "its stream ended without a response"
        if self.passed_over is None:
            return why
        begins = quote(self.passed_over)
        return f"{why}; an event of it was no JSON-RPC message and begins {begins}"

    async def pause(self) -> None:
        """Wait as long as the backend wants before going on with its stream."""
        retry = self.retry_ms
        await asyncio.sleep(_PAUSE if retry is None else min(retry / 1000, _LONGEST_PAUSE))

    def large(self) -> "SseDataReader | None":
        """The data of an event that has begun, if it is large and the backend can't be asked for
        it again; then that is how the event is to be read."""
        if self._stream.has_more or self.last_id is not None:
            return None
        begun = self._stream.parser.open_data(LARGE)
        return None if begun is None else SseDataReader(self._response, self._stream.parser, begun)


class SseDataReader:
    """The data of one event as it comes."""

    def __init__(
        self, response: ClientResponse, parser: sse.EventStreamParser, begun: bytes
    ) -> None:
        self._response = response
        self._parser = parser
        self._begun = begun
        self._data = sse.EventDataStream()

    async def next_chunk(self) -> bytes:
        """The next part; empty at its end. Raises Unreachable when it breaks off."""
        begun, self._begun = self._begun, b""
        if begun:
            return begun
        with BACKEND_ERRORS:
            while not self._data.ended and (chunk := await self._response.next_chunk()):
                if part := self._data.feed(chunk):
                    return part
        return b""

    def unread(self, parts: list[bytes]) -> None:
        """Put back what was read: the event is read as a whole after all."""
        self._parser.put_back(b"".join(parts))

    def close(self) -> None:
        """Give up the rest."""
        self._response.close()
