"""Event streams of backends: parsing, messages and rate limits."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from mcpproxy.limits.backends import MESSAGE
from mcpproxy.limits.sessions import EVENT_ID, EVENT_LINES, EVENT_LINES_AHEAD, STANDING_MESSAGES
from mcpproxy.proxy.core.errors import ProtocolError, Unreachable
from mcpproxy.proxy.core.exchange import ResumableStream
from mcpproxy.proxy.core.rate_limiter import SharedRate
from mcpproxy.proxy.http1.client.connection import ClientResponse
from mcpproxy.proxy.protocol import batches, jsonrpc, sse
from mcpproxy.proxy.protocol import headers as h
from mcpproxy.proxy.protocol.jsonrpc import Message, RpcError
from mcpproxy.proxy.protocol.tolerance import quote
from mcpproxy.proxy.upstream.http_errors import BACKEND_ERRORS
from mcpproxy.proxy.upstream.large_results import LARGE
from mcpproxy.proxy.upstream.transports.session import HttpExchange

MAX_MESSAGE: Final = MESSAGE.value
"""Maximum bytes of one message from a backend."""
_LINES_OF_AN_EVENT: Final = 4
_UNCOUNTED_LINES: Final = 8
"""Lines of a chunk that are not counted: a stream may begin with comments or send a ping."""
_LINES_OF_A_STEP: Final = 100
_LEAST_STEP: Final = 256
_SHOWN: Final = 80
"""Characters of unreadable data in an error message."""
_LONGEST_PAUSE: Final = 60.0
Fields = tuple[tuple[bytes, bytes], ...]
_PAUSE: Final = 1.0
"""Seconds before a stream is resumed if the backend sets no `retry`."""


def new_line_rate() -> SharedRate:
    """Return a rate for all streams of one backend, of lines beyond those of messages."""
    return SharedRate(EVENT_LINES.value, EVENT_LINES_AHEAD.value, time.monotonic)


class StandaloneActivity:
    """Activity on the standalone streams of all sessions with one backend."""

    def __init__(self) -> None:
        self.offered = True
        """False after HTTP 405, with which a backend declares that it has no such streams."""
        self.last_message_at = float("-inf")
        """Time of the loop at which the last message arrived."""

    def record_opening(self, status: int) -> None:
        """Record the HTTP status with which the backend answered the request for a stream."""
        self.offered = status != 405

    def record_message(self, now: float) -> None:
        """Record that a message arrived."""
        self.last_message_at = now


def in_steps(chunk: bytes) -> list[bytes]:
    """Split a chunk into parts that are fast to parse."""
    lines = chunk.count(b"\n") + chunk.count(b"\r")
    if lines <= _LINES_OF_A_STEP:
        return [chunk]
    step = max(len(chunk) * _LINES_OF_A_STEP // lines, _LEAST_STEP)
    return [chunk[start : start + step] for start in range(0, len(chunk), step)]


def new_unrelated_rate() -> SharedRate:
    """Return a rate for messages that belong to no request, on all streams of one backend."""
    return SharedRate(STANDING_MESSAGES.value, 0, time.monotonic)


async def delay_unrelated(messages: Sequence[Message], rate: SharedRate) -> None:
    """Wait after messages that belong to no request.

    Slows down a backend that sends them endlessly, including its connections.
    """
    if messages:
        await asyncio.sleep(rate.take(len(messages)))


class EventStream:
    """Events of a response, parsed in small parts."""

    def __init__(self, response: ClientResponse, rate: SharedRate) -> None:
        self.response = response
        self.parser = sse.EventStreamParser(MAX_MESSAGE)
        self._rate = rate
        self._parts: deque[bytes] = deque()

    @property
    def has_more(self) -> bool:
        """True if a part that was received has not been parsed yet."""
        return bool(self._parts)

    async def next(self) -> list[sse.ServerSentEvent] | None:
        """Return the events of the next part, or None at the end. Raises ProtocolError,
        Unreachable."""
        if self._parts:
            # Other requests get turns between the parts of a large chunk.
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
            raise ProtocolError(f"an event of the stream is not an MCP message: {error}") from None
        idle = parser.lines - before - _LINES_OF_AN_EVENT * len(events)
        if idle > _UNCOUNTED_LINES and (pause := self._rate.take(idle)):
            EVENT_LINES.record()
            await asyncio.sleep(pause)
        return events


class SseMessageReader:
    """The messages of an event stream, and the event id from which it can be resumed.

    Events of other types than `message`, and those that are not JSON-RPC, are ignored, as the SDKs'
    clients do: servers send heartbeats in many forms.
    """

    def __init__(
        self, response: ClientResponse, rate: SharedRate, last_id: bytes | None = None
    ) -> None:
        self._response = response
        self._stream = EventStream(response, rate)
        self.last_id = last_id
        """Id of the event after which the stream can be resumed; None if it cannot be resumed."""
        self._seen_id: bytes | None = None
        self.passed_over: bytes | None = None
        """First bytes of the first event that was not JSON-RPC."""

    @property
    def retry_ms(self) -> int | None:
        """Reconnection time that the backend requested, in milliseconds; None if unset."""
        return self._stream.parser.retry

    @property
    def has_more(self) -> bool:
        """True if a part that was received has not been parsed yet."""
        return self._stream.has_more

    async def messages(self) -> list[Message] | None:
        """Return the messages of the next part, or None at the end of the stream.

        Raises ProtocolError, Unreachable.
        """
        events = await self._stream.next()
        self._update_last_id()
        if not events:
            return None if events is None else []
        messages: list[Message] = []
        for event in events:
            if event.data and event.event == sse.MESSAGE:
                self._parse_into(event.data, messages)
        return messages

    def _update_last_id(self) -> None:
        event_id = self._stream.parser.last_id
        if event_id is self._seen_id:
            return
        self._seen_id, self.last_id = event_id, event_id or None
        if event_id and len(event_id) > EVENT_ID.value:
            EVENT_ID.record()
            self.last_id = None

    def _parse_into(self, data: bytes, messages: list[Message]) -> None:
        try:
            messages += batches.of_backend(data)
        except RpcError as error:
            if b'"jsonrpc"' in data:
                # This may be the expected response.
                self._response.close()
                reason = f"an event of the stream is not an MCP message: {error}: {quote(data)}"
                raise ProtocolError(reason) from None
            if self.passed_over is None:
                self.passed_over = data[:_SHOWN]

    @property
    def without_response(self) -> str:
        """Error message for a stream that ended without the response."""
        reason = "the stream ended without a response"
        if self.passed_over is None:
            return reason
        excerpt = quote(self.passed_over)
        return f"{reason}; one event was not a JSON-RPC message and starts with {excerpt}"

    async def pause(self) -> None:
        """Wait for the reconnection time before the stream is resumed."""
        retry = self.retry_ms
        await asyncio.sleep(_PAUSE if retry is None else min(retry / 1000, _LONGEST_PAUSE))

    def large(self) -> "SseDataReader | None":
        """Return a reader for the event that is being received, if it is large and the stream
        cannot be resumed; otherwise None. The event must then be read with that reader."""
        if self._stream.has_more or self.last_id is not None:
            return None
        received = self._stream.parser.open_data(LARGE)
        return (
            None
            if received is None
            else SseDataReader(self._response, self._stream.parser, received)
        )


class SseDataReader:
    """The data of one event in chunks."""

    def __init__(
        self, response: ClientResponse, parser: sse.EventStreamParser, begun: bytes
    ) -> None:
        self._response = response
        self._parser = parser
        self._begun = begun
        self._data = sse.EventDataStream()

    async def next_chunk(self) -> bytes:
        """Return the next chunk, empty at the end. Raises Unreachable if the stream breaks."""
        begun, self._begun = self._begun, b""
        if begun:
            return begun
        with BACKEND_ERRORS:
            while not self._data.ended and (chunk := await self._response.next_chunk()):
                if part := self._data.feed(chunk):
                    return part
        return b""

    def unread(self, parts: list[bytes]) -> None:
        """Push chunks back, so that the event is parsed as a whole."""
        self._parser.put_back(b"".join(parts))

    def close(self) -> None:
        """Discard the rest of the response."""
        self._response.close()


async def resume_stream(
    get: Callable[[Fields], Awaitable[ClientResponse]], headers: Fields, last_id: bytes
) -> ClientResponse:
    """Resume the stream of a response after this event id. Raises BackendError."""
    response = await get((*headers, (h.LAST_EVENT_ID, last_id)))
    if response.status != 200 or response.media_type != h.EVENT_STREAM:
        response.close()
        raise Unreachable(
            f"cannot resume the stream: the backend responded with HTTP {response.status}"
        )
    return response


async def read_response(
    reader: SseMessageReader,
    exchange: HttpExchange,
    on_message: Callable[[Message], Awaitable[None]],
    begins: Callable[[HttpExchange], None] | None = None,
    resumption: ResumableStream | None = None,
) -> tuple[Message | None, bool]:
    """Return the response to a request from a stream, or None if the stream ends before it.

    The second value is True if the stream contains responses to other requests. `on_message` gets
    notifications and requests, and `begins` is called before the client gets the first part of a
    large response. Raises Unreachable, ProtocolError.
    """
    has_other = False
    while (messages := await reader.messages()) is not None:
        if reader.last_id is not None and resumption is not None:
            await resumption.keep_events(reader.retry_ms)
        for message in messages:
            if "method" in message:
                await on_message(message)
            elif jsonrpc.answers(message, exchange.id):
                return message, has_other
            else:
                has_other = True
        if (placeholder := await exchange.relay_large(reader.large, begins)) is not None:
            return placeholder, has_other
    return None, has_other
