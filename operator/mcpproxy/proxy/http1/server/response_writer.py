"""The answer to one HTTP request: plain JSON where a single message will do, else an event stream.

What is written never waits in two places: the transport holds it, and whoever sends more than
one message waits until the client has taken what is there.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from http import HTTPStatus
from typing import Any, Final, Protocol

from mcpproxy.proxy.downstream.legacy.event_store import StreamLog
from mcpproxy.proxy.http1.server.request import HttpError
from mcpproxy.proxy.protocol import sse
from mcpproxy.proxy.timers import Timer, TimerQueue

Headers = tuple[tuple[bytes, bytes], ...]

PING_EVERY: Final = 15.0
"""Seconds of silence after which a stream gets a comment, so that no proxy on the way ends it."""
_JSON_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
)
_JSON: Final = (b"content-type", b"application/json")
_STATUS: Final = {s.value: b"HTTP/1.1 %d %b\r\n" % (s, s.phrase.encode()) for s in HTTPStatus}
_BODILESS: Final = (204, 304)
MAX_BEHIND: Final = 64 * 1024
"""Bytes of events that wait for the next turn of the loop."""
_ONE_LINE: Final = bytes.maketrans(b"\r\n", b"  ")


class ResponseTransport(Protocol):
    """The client's connection, as far as an answer needs it."""

    lost: bool
    """Whether the client has gone."""
    paused: bool
    """Whether the client has to take what was written before more is."""
    closing: bool
    """Whether the connection ends with this answer."""
    old: bool
    """Whether the client speaks HTTP/1.0: then there are no chunks."""

    @property
    def network(self) -> str:
        """The network of the client. See `network_of`."""

    def write(self, *parts: bytes) -> None:
        """Write; dropped when the client has gone."""

    async def drained(self) -> None:
        """Wait until the client has taken most of what was written, or has gone."""

    def answered(self) -> None:
        """The answer is complete."""

    def run(self, work: Awaitable[None], reply: "ResponseWriter") -> None:
        """Answer in a task."""


class ResponseWriter:
    """Writes one HTTP answer. Nothing is sent before it is clear what the answer is."""

    # Every request makes one of these: what is as it begins stands in the class.
    _headers: Headers = ()
    _started = False
    _chunked = False
    _done = False
    _parts = False
    """Whether the last message goes in parts, and whether these are an event's."""
    _in_event = False
    _left = False
    _log: StreamLog | None = None
    _alarm: Timer | None = None
    calm = False
    """Whether the connection's sweeps are to see to it that a silence does not last too long."""
    _sweeps = 0
    _behind: list[bytes] | None = None
    """What is written with the next turn of the loop: events come in swarms."""
    _behind_size = 0
    on_gone: Callable[[], object] | None = None
    """Called once when the client closes the connection before the answer is complete.

    Who begins to listen after that is told with the next thing it sends.
    """

    def __init__(
        self, wire: ResponseTransport, pings: TimerQueue, loop: asyncio.AbstractEventLoop
    ) -> None:
        """`pings` are deadlines of the length of PING_EVERY."""
        self.loop = loop
        self._wire = wire
        self._pings = pings

    @property
    def untouched(self) -> bool:
        """Whether nothing was sent yet."""
        return not (self._started or self._done)

    @property
    def network(self) -> str:
        """The network of the client. See `network_of`."""
        return self._wire.network

    def keep_alive(self) -> None:
        """From now on, a silence that lasts too long turns the answer into a stream with pings."""
        if self._alarm is None:
            self._alarm = self._pings.start(self._ping)

    def swept(self, seconds: float) -> None:
        """Called every so many seconds: a silence that has lasted too long ends."""
        self._sweeps += 1
        if self.calm and self._sweeps * seconds >= PING_EVERY:
            self.calm = False
            if not (self._parts or self._alarm):
                self._ping()

    def _ping(self) -> None:
        if not (self._done or self._wire.lost):
            if not self._wire.paused:
                self._stream()
                self._chunk(sse.PING)
            self._alarm = self._pings.start(self._ping)

    def ping(self) -> Awaitable[None]:
        """Send a comment; the answer is a stream from here on."""
        return self._event(sse.PING)

    def event(self, message: bytes) -> Awaitable[None]:
        """Send a message now; the answer is a stream from here on."""
        event_id = None if self._log is None else self._log.append(message)
        return self._event(sse.encode(message, event_id))

    def replay(self, message: bytes, event_id: bytes) -> Awaitable[None]:
        """Send an event that another stream has kept."""
        return self._event(sse.encode(message, event_id))

    async def resumable(self, open_log: Callable[[], StreamLog], retry: int | None) -> None:
        """Keep what is sent from now on; tell the client, so that it can go on after a break."""
        if self._log is None:
            self._log = open_log()
            await self._event(sse.priming_event(self._log.append(b""), retry))

    async def pause(self) -> None:
        """Close the stream; what is still to come is kept for the client's return."""
        if self._log is not None:
            await self.end()

    async def _event(self, event: bytes) -> None:
        if self._done or self._parts:
            self._told()
            return
        self._stream()
        self._chunk(event)
        if self._alarm is not None:
            self._alarm.restart()
        if self._wire.paused:
            await self._wire.drained()

    def add_header(self, name: bytes, value: bytes) -> None:
        """Add a header to the answer, before anything is sent."""
        self._headers += ((name, value),)

    def add_headers(self, fields: Headers) -> None:
        """Add headers to the answer, before anything is sent."""
        self._headers += fields

    async def finish(self, message: bytes, status: int = 200) -> None:
        """Send the last message. The status counts only where nothing was sent before."""
        self.complete(message, status)

    def complete(self, message: bytes, status: int = 200) -> None:
        event_id = None
        if self._log is not None:
            event_id = self._log.append(message)
            self._log.end(self.loop.time())
        if self._done:
            return
        if self._started:
            self._chunk(sse.encode(message, event_id))
            self._end()
            return
        if status == 200 and not (self._headers or self._wire.closing):
            self._last(_JSON_HEAD % len(message), message)
        else:
            length = (b"content-length", b"%d" % len(message))
            self._last(self._head(status, (_JSON, length, *self._headers)), message)

    async def only_event(self, message: bytes) -> None:
        """The whole answer as a stream of one event, unless it is a stream already."""
        if self._started or self._done:
            await self.finish(message)
            return
        self.whole((message,), streamed=True)

    def whole(self, parts: Sequence[bytes], *, streamed: bool) -> None:
        """The whole answer, of which nothing was sent yet, from the parts of its message.

        They are not copied where they are large. `streamed` makes it a stream of one event.
        """
        if streamed and any(b"\n" in part or b"\r" in part for part in parts):
            parts = (sse.encode(b"".join(parts)),)
        elif streamed:
            parts = (sse.DATA, *parts, sse.END)
        length = (b"content-length", b"%d" % sum(map(len, parts)))
        headers = sse.HEADERS if streamed else (_JSON,)
        self._last(self._head(200, (*headers, length, *self._headers)), *parts)

    async def empty(self, status: int, *headers: tuple[bytes, bytes]) -> None:
        """An answer without a body."""
        length = () if status == 204 else ((b"content-length", b"0"),)
        self._last(self._head(status, (*length, *headers, *self._headers)), b"")

    def refuse(self, refusal: HttpError) -> None:
        """An answer that is an HTTP error."""
        length = (b"content-length", b"%d" % len(refusal.body))
        headers = (_JSON, length, *refusal.headers, *self._headers)
        self._last(self._head(refusal.status, headers), refusal.body)

    async def end(self) -> None:
        """End a stream without a last message."""
        if self._started and not self._done:
            self._end()

    async def start(self, status: int, headers: Headers) -> None:
        """The head of an answer that is passed on as it comes, with `chunk` and `end`."""
        if self._done:
            self._told()
            return
        own = {name for name, _ in self._headers}
        headers = tuple(field for field in headers if field[0] not in own)
        self._begin(status, (*headers, *self._headers))

    async def chunk(self, content: bytes) -> None:
        """The next part of an answer that is passed on."""
        if self._done:
            self._told()
            return
        if content:
            self._chunk(content)
        if self._wire.paused:
            await self._wire.drained()

    @property
    def is_gone(self) -> bool:
        """Whether the client has gone, and can't come back for the rest."""
        return self._left and self._log is None

    @property
    def takes_parts(self) -> bool:
        """Whether a message can be sent in parts: not where it is kept for those who come back."""
        return self._log is None and not (self._done or self._parts)

    async def part(self, content: bytes) -> bool:
        """Send a part of the last message, which is JSON; False when the client has gone."""
        if not (self._parts or self._done):
            self._stop()
            self._parts = True
            self._in_event = self._started
            if self._started:
                self._chunk(sse.DATA)
            else:
                self._begin(200, (_JSON, *self._headers))
        if self._done:
            return False
        if content:
            # JSON has line ends only between tokens; in an event they would end its line.
            self._chunk(content.translate(_ONE_LINE) if self._in_event else content)
        if self._wire.paused:
            await self._wire.drained()
        return not self._done

    async def last_part(self) -> None:
        """The message was sent as a whole."""
        if not self._done:
            if self._in_event:
                self._chunk(sse.END)
            self._end()

    def abandon(self) -> None:
        """The answer can't be completed: the client sees the connection break."""
        self._stop()
        self._behind = None
        self._done = True
        if self._log is not None:
            self._log.end(self.loop.time())

    def go_on(self, work: Coroutine[Any, Any, None]) -> None:
        """A task is to complete the answer."""
        self._wire.run(work, self)

    def gone(self) -> None:
        """Called by the connection: the client has gone."""
        self._stop()
        self._done = self._left = True
        self._told()

    def _told(self) -> None:
        listener = self.on_gone
        if self._left and listener is not None:
            self.on_gone = None
            listener()

    def _stream(self) -> None:
        if not self._started:
            self._begin(200, (*sse.HEADERS, *self._headers))

    def _begin(self, status: int, headers: Headers) -> None:
        self._started = True
        whole = status in _BODILESS or any(name == b"content-length" for name, _ in headers)
        if not (whole or self._wire.old):
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
            # Who writes without a pause has to learn that the client does not read.
            self._flush()

    def _flush(self) -> None:
        if self._behind is None:
            return
        content = b"".join(self._behind)
        self._behind = None
        self._behind_size = 0
        end = b"0\r\n\r\n" if self._done else b""
        if not self._chunked:
            self._wire.write(content)
        else:
            self._wire.write(b"%x\r\n" % len(content), content, b"\r\n" + end)

    def _end(self) -> None:
        self._stop()
        self._done = True
        if self._behind is not None:
            self._flush()
        elif self._chunked:
            self._wire.write(b"0\r\n\r\n")
        self._wire.answered()

    def _last(self, *parts: bytes) -> None:
        if self._alarm is not None:
            self._stop()
        self._done = True
        self._wire.write(*parts)
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


class HeadResponseWriter(ResponseWriter):
    """Answers HEAD: what another method would get, without the body."""

    __slots__ = ()

    def _chunk(self, content: bytes) -> None:
        """Nothing follows the head."""

    def _begin(self, status: int, headers: Headers) -> None:
        super()._begin(status, headers)
        self._chunked = False

    def _last(self, *parts: bytes) -> None:
        super()._last(parts[0])
