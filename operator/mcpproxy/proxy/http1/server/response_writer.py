"""Writer of the response to one HTTP request: one body, or an event stream.

Output is buffered in one place only, the transport. Code that sends more than one message waits
until the client has taken what was written.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from enum import IntEnum
from http import HTTPStatus
from typing import Any, Final

from mcpproxy.proxy.http1.errors import HttpError
from mcpproxy.proxy.http1.media_types import JSON
from mcpproxy.proxy.http1.server.event_stream import (
    EVENT_END,
    EVENT_START,
    PING,
    STREAM_HEADERS,
    encode_event,
)
from mcpproxy.proxy.http1.server.transport import ResponseTransport
from mcpproxy.proxy.timers import Timer, TimerQueue

Headers = tuple[tuple[bytes, bytes], ...]

PING_EVERY: Final = 15.0
"""Seconds of silence after which a stream gets a comment, so that no intermediary closes it."""
_JSON_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
)
_JSON_RESPONSE: Final = _JSON_HEAD + b"%b"
_JOINED: Final = 16 * 1024
"""Bytes up to which a response is copied into one part."""
_JSON: Final = (b"content-type", JSON)
_STATUS: Final = {s.value: b"HTTP/1.1 %d %b\r\n" % (s, s.phrase.encode()) for s in HTTPStatus}
_BODILESS: Final = (204, 304)
MAX_BEHIND: Final = 64 * 1024
"""Bytes of events that wait for the next turn of the loop."""
_ONE_LINE: Final = bytes.maketrans(b"\r\n", b"  ")


class ResponseState(IntEnum):
    """Progress of a response; from `DONE` on, nothing more is sent."""

    NEW = 0
    """Nothing was sent."""
    STARTED = 1
    """The head was sent; events or parts of a body follow."""
    JSON_PARTS = 2
    """The last message is sent in parts, as the body."""
    EVENT_PARTS = 3
    """The last message is sent in parts, as the data of an event."""
    DONE = 4
    GONE = 5
    """The client has disconnected."""


NEW, STARTED, DONE = ResponseState.NEW, ResponseState.STARTED, ResponseState.DONE
GONE: Final = ResponseState.GONE


class ResponseWriter:
    """Writer of one HTTP response; it sends nothing before the kind of the response is known."""

    # Each request creates a writer, so values that few requests read are class attributes.
    _chunked = False
    _sweeps = 0
    _behind: list[bytes] | None = None
    """Output that the next turn of the loop writes, because events come in bursts."""
    _behind_size = 0

    def __init__(
        self, wire: ResponseTransport, pings: TimerQueue, loop: asyncio.AbstractEventLoop
    ) -> None:
        """`pings` has timers of PING_EVERY seconds."""
        self.loop = loop
        self._wire = wire
        self._pings = pings
        self._headers: Headers = ()
        self._state = NEW
        self._alarm: Timer | None = None
        self._pings_on_sweep = False
        """True if a sweep of the connection sends the first ping."""
        self._disconnect_callback: Callable[[], object] | None = None

    @property
    def untouched(self) -> bool:
        """True if nothing was sent yet."""
        return self._state is NEW

    @property
    def network(self) -> str:
        """The network of the client, from `network_of`."""
        return self._wire.network

    def keep_alive(self) -> None:
        """Turn the response into a stream with pings whenever it is silent for too long."""
        if self._alarm is None:
            self._alarm = self._pings.start(self._ping)

    def ping_on_sweep(self, on_disconnect: Callable[[], object] | None = None) -> None:
        """Send the first ping from a sweep of the connection, which needs no timer.

        The ping may be late by the time between two sweeps. `on_disconnect` is the callback of the
        method of this name.
        """
        self._pings_on_sweep = True
        self._disconnect_callback = on_disconnect

    def swept(self, seconds: float) -> None:
        """Send a ping if the response has been silent for too long; called every `seconds`."""
        self._sweeps += 1
        if self._pings_on_sweep and self._sweeps * seconds >= PING_EVERY:
            self._pings_on_sweep = False
            if not (self._state > STARTED or self._alarm):
                self._ping()

    def _ping(self) -> None:
        if not (self._state >= DONE or self._wire.lost):
            if not self._wire.paused:
                self._stream()
                self._chunk(PING)
            self._alarm = self._pings.start(self._ping)

    def ping(self) -> Awaitable[None]:
        """Send a comment; this turns the response into a stream."""
        return self.send_encoded(PING)

    def event(self, message: bytes, event_id: bytes | None = None) -> Awaitable[None]:
        """Send an event; this turns the response into a stream."""
        return self.send_encoded(encode_event(message, event_id))

    async def send_encoded(self, event: bytes) -> None:
        """Send an encoded event or comment; this turns the response into a stream."""
        if self._state > STARTED:
            self._notify_gone()
            return
        self._stream()
        self._chunk(event)
        if self._alarm is not None:
            self._alarm.restart()
        if self._wire.paused:
            await self._wire.drained()

    def add_header(self, name: bytes, value: bytes) -> None:
        """Add a header to the response, before anything is sent."""
        self._headers += ((name, value),)

    def add_headers(self, fields: Headers) -> None:
        """Add headers to the response, before anything is sent."""
        self._headers += fields

    async def finish(self, message: bytes, status: int = 200) -> None:
        """Send the last message, as `complete` does."""
        self.complete(message, status)

    def complete(self, message: bytes, status: int = 200, event_id: bytes | None = None) -> None:
        """Send the last message: an event of a stream, otherwise a JSON body.

        A stream ignores `status`, and a JSON body ignores `event_id`.
        """
        if self._state is not NEW:
            if self._state < DONE:
                self._chunk(encode_event(message, event_id))
                self._end()
        elif status == 200 and not (self._headers or self._wire.closing):
            size = len(message)
            if size > _JOINED:
                self._last(_JSON_HEAD % size, message)
            else:
                self._last(_JSON_RESPONSE % (size, message))
        else:
            length = (b"content-length", b"%d" % len(message))
            self._last(self._head(status, (_JSON, length, *self._headers)), message)

    def complete_stream(self, message: bytes, event_id: bytes | None = None) -> None:
        """Send the last message as an event, even if no stream was started."""
        if self._state is not NEW:
            self.complete(message, event_id=event_id)
        else:
            self.whole((message,), streamed=True)

    def whole(self, parts: Sequence[bytes], *, streamed: bool) -> None:
        """Send the whole response, given as the parts of its message, before anything was sent.

        Large parts are not copied. If `streamed`, the response is a stream of one event.
        """
        if streamed and any(b"\n" in part or b"\r" in part for part in parts):
            parts = (encode_event(b"".join(parts)),)
        elif streamed:
            parts = (EVENT_START, *parts, EVENT_END)
        length = (b"content-length", b"%d" % sum(map(len, parts)))
        headers = STREAM_HEADERS if streamed else (_JSON,)
        self._last(self._head(200, (*headers, length, *self._headers)), *parts)

    async def empty(self, status: int, *headers: tuple[bytes, bytes]) -> None:
        """Send a response without a body."""
        length = () if status == 204 else ((b"content-length", b"0"),)
        self._last(self._head(status, (*length, *headers, *self._headers)), b"")

    async def document(self, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
        """Send a whole response; `headers` include its content type."""
        length = (b"content-length", b"%d" % len(body))
        self._last(self._head(status, (length, *headers, *self._headers)), body)

    def refuse(self, refusal: HttpError, body: bytes) -> None:
        """Send an HTTP error with a JSON body."""
        length = (b"content-length", b"%d" % len(body))
        headers = (_JSON, length, *refusal.headers, *self._headers)
        self._last(self._head(refusal.status, headers), body)

    async def end(self) -> None:
        """End a stream without a last message."""
        if NEW < self._state < DONE:
            self._end()

    async def start(self, status: int, headers: Headers) -> None:
        """Send the head of a response whose body follows with `chunk` and `end`."""
        if self._state >= DONE:
            self._notify_gone()
            return
        own = {name for name, _ in self._headers}
        headers = tuple(field for field in headers if field[0] not in own)
        self._begin(status, (*headers, *self._headers))

    async def chunk(self, content: bytes) -> None:
        """Send the next part of the body of a response that `start` began."""
        if self._state >= DONE:
            self._notify_gone()
            return
        if content:
            self._chunk(content)
        if self._wire.paused:
            await self._wire.drained()

    @property
    def is_gone(self) -> bool:
        """True if the client has disconnected."""
        return self._state is GONE

    @property
    def takes_parts(self) -> bool:
        """True if the last message may be sent in parts."""
        return self._state <= STARTED

    async def part(self, content: bytes) -> bool:
        """Send a part of the last message, which is JSON; return False if the client is gone."""
        if self._state is STARTED:
            self._stop()
            self._state = ResponseState.EVENT_PARTS
            self._chunk(EVENT_START)
        elif self._state is NEW:
            self._stop()
            self._begin(200, (_JSON, *self._headers))
            self._state = ResponseState.JSON_PARTS
        if self._state >= DONE:
            return False
        if content:
            # JSON has line ends only between tokens; in an event they would end its line.
            in_event = self._state is ResponseState.EVENT_PARTS
            self._chunk(content.translate(_ONE_LINE) if in_event else content)
        if self._wire.paused:
            await self._wire.drained()
        return self._state < DONE

    async def last_part(self) -> None:
        """End a message that was sent in parts, and the response."""
        if self._state < DONE:
            if self._state is ResponseState.EVENT_PARTS:
                self._chunk(EVENT_END)
            self._end()

    def abandon(self) -> None:
        """Give up the response; the connection closes, so that the client sees it break off."""
        self._stop()
        self._behind = None
        self._state = max(self._state, DONE)

    def go_on(self, work: Coroutine[Any, Any, None]) -> None:
        """Complete the response in a task."""
        self._wire.run(work, self)

    def gone(self) -> None:
        """Note that the client has disconnected; called by the connection."""
        self._stop()
        self._state = GONE
        self._notify_gone()

    def on_disconnect(self, callback: Callable[[], object] | None) -> None:
        """Call `callback` once if the client disconnects before the last message, or with the next
        write if it has disconnected already; None calls nothing."""
        self._disconnect_callback = callback

    def _notify_gone(self) -> None:
        listener = self._disconnect_callback
        if self._state is GONE and listener is not None:
            self._disconnect_callback = None
            listener()

    def _stream(self) -> None:
        if self._state is NEW:
            self._begin(200, (*STREAM_HEADERS, *self._headers))

    def _begin(self, status: int, headers: Headers) -> None:
        self._state = STARTED
        sized = status in _BODILESS or any(name == b"content-length" for name, _ in headers)
        if not (sized or self._wire.old):
            self._chunked = True
            headers = (*headers, (b"transfer-encoding", b"chunked"))
        self._wire.write(self._head(status, headers))

    def _chunk(self, content: bytes) -> None:
        if self._behind is None:
            self.loop.call_soon(self._flush)
            self._behind = []
        self._behind.append(content)
        self._behind_size += len(content)
        if self._behind_size > MAX_BEHIND:
            # A sender that never pauses must notice that the client does not read.
            self._flush()

    def _flush(self) -> None:
        if self._behind is None:
            return
        content = b"".join(self._behind)
        self._behind = None
        self._behind_size = 0
        end = b"0\r\n\r\n" if self._state >= DONE else b""
        if not self._chunked:
            self._wire.write(content)
        else:
            self._wire.write(b"%x\r\n" % len(content), content, b"\r\n" + end)

    def _end(self) -> None:
        self._stop()
        self._state = DONE
        self._disconnect_callback = None
        if self._behind is not None:
            self._flush()
        elif self._chunked:
            self._wire.write(b"0\r\n\r\n")
        self._wire.answered()

    def _last(self, content: bytes, *more: bytes) -> None:
        if self._alarm is not None:
            self._stop()
        if self._state is not GONE:
            self._state = DONE
        # It may refer to this writer, and only the garbage collector would free the cycle.
        self._disconnect_callback = None
        if more:
            self._wire.write(content, *more)
        else:
            self._wire.write(content)
        self._wire.answered()

    def _head(self, status: int, headers: Headers) -> bytes:
        lines = [_STATUS.get(status) or b"HTTP/1.1 %d \r\n" % status]
        lines += [b"%b: %b\r\n" % header for header in headers]
        if self._wire.closing:
            lines.append(b"connection: close\r\n")
        lines.append(b"\r\n")
        return b"".join(lines)

    def _stop(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
