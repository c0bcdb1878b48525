"""One HTTP/1.1 connection to a server, as an asyncio protocol, and the responses on it.

The body of a response is read while it arrives.
"""

import asyncio
import collections
import select
from collections.abc import Callable
from typing import Final

from mcpproxy.proxy.http1.client.response_parser import ResponseParser
from mcpproxy.proxy.http1.errors import ConnectionLost, InvalidResponse
from mcpproxy.proxy.http1.head_cache import HEAD_END, MAX_SIZE, NO_HEAD, HeadCache, body_in_chunk
from mcpproxy.proxy.http1.media_types import EVENT_STREAM, JSON, media_type_of

KnownHead = tuple[int, dict[bytes, bytes], bytes]
"""Status, headers and media type of a response; several responses share the headers."""
HIGH_WATER: Final = 256 * 1024
"""Bytes of a body that may wait for their reader before reading from the server pauses."""
DRAIN: Final = 1.0
"""Seconds in which the rest of a discarded body may arrive before the connection is closed."""
_CLOSED: Final[int] = getattr(select, "POLLRDHUP", select.POLLHUP)
"""Event of a socket whose other end is closed; not every system reports a half that is closed."""


class ClientResponse:
    """Response to one request; `read` or `next_chunk` read its body."""

    # Values that few requests read are class attributes.
    _waiter: "asyncio.Future[None] | None" = None
    _leaving: asyncio.TimerHandle | None = None
    """Timer that runs while the rest of a discarded body may arrive."""

    def __init__(
        self, connection: "ClientConnection", sent_fields: tuple[tuple[bytes, bytes], ...] = ()
    ) -> None:
        self._connection = connection
        self.sent_fields = sent_fields
        """Header fields of the request that its sender wants to know when the response arrives."""
        self._chunks: collections.deque[bytes] = collections.deque()
        self.headers: dict[bytes, bytes] = {}
        """Headers by their names in lower case; several responses may share them."""
        self.media_type = b""
        """Content-Type without its parameters, in lower case."""
        self.status = self._size = 0
        self.complete = False
        self.single: bytes | None = None
        """The whole body, if it arrived together with a known head; it can still be read."""

    def begin(self, status: int, headers: dict[bytes, bytes]) -> None:
        """Set the head; called by the connection."""
        self.status, self.headers = status, headers
        self.media_type = media_type_of(headers.get(b"content-type", b""))

    def complete_with(self, head: KnownHead, body: bytes) -> None:
        """Set the head and the whole body, for which nothing waits; called by the connection."""
        self.status, self.headers, self.media_type = head
        self.complete = True
        if body:
            self.single = body
            self._chunks.append(body)
            self._size = len(body)

    async def head(self) -> "ClientResponse":
        """Wait for the head and return the response. Raises ConnectionLost, InvalidResponse."""
        await self._connection.headed(self)
        return self

    def rest(self) -> "ClientResponse | None":
        """Return the response if its status is 200 and its body is incomplete; otherwise None."""
        return None if self.complete or self.status != 200 else self

    @property
    def waiting(self) -> bool:
        """True if a part of the body waits for its reader."""
        return bool(self._chunks)

    @property
    def whole(self) -> bytes | None:
        """The body if it is complete, otherwise None; it can still be read."""
        return self.begun if self.complete else None

    @property
    def begun(self) -> bytes:
        """The received part of the body; it can still be read."""
        return self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)

    async def next_chunk(self) -> bytes:
        """Return what has arrived of the body, or wait for it; empty at its end.

        Raises ConnectionLost if the body breaks off, and InvalidResponse if it can't be decoded.
        """
        while not self._chunks:
            if self.complete:
                return b""
            if self._connection.lost:
                raise ConnectionLost("the connection was closed during the response")
            self._waiter = self._connection.loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        arrived, self._size = self.begun, 0
        self._chunks.clear()
        self._connection.hold_back(False)
        return arrived

    async def read(self, limit: int) -> bytes:
        """Return the whole body.

        Raises InvalidResponse if it is larger than `limit` bytes, and the errors of `next_chunk`.
        """
        if self.complete and len(self._chunks) == 1 and self._size <= limit:
            return self._chunks.pop()
        parts: list[bytes] = []
        size = 0
        while chunk := await self.next_chunk():
            parts.append(chunk)
            size += len(chunk)
            if size > limit:
                self.close()
                raise InvalidResponse(f"the response has more than {limit} bytes")
        return b"".join(parts)

    def unread(self, parts: list[bytes]) -> None:
        """Put back parts of the body that were read."""
        self._chunks.extendleft(reversed(parts))
        self._size += sum(map(len, parts))

    def close(self) -> None:
        """Give up the rest of the body; this closes the connection unless the body is complete."""
        if not self.complete:
            self._connection.abort()

    def leave(self) -> None:
        """Discard the rest of the body; if it arrives in time, the connection is kept."""
        self._chunks.clear()
        self._size = 0
        if not self.complete:
            self._leaving = self._connection.loop.call_later(DRAIN, self.close)
            self._connection.hold_back(False)

    def end(self) -> None:
        """Mark the body as complete; called by the connection."""
        self.complete = True
        if self._leaving is not None:
            self._leaving.cancel()
        self.wake()

    def feed(self, chunk: bytes) -> None:
        """Add a part of the body; called by the connection."""
        if self._leaving is not None:
            return
        self._chunks.append(chunk)
        self._size += len(chunk)
        if self._size > HIGH_WATER:
            self._connection.hold_back(True)
            self._connection.hand_on()
        self.wake()

    def wake(self) -> None:
        """Wake up the reader; called by the connection."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class ClientConnection(asyncio.Protocol):
    """Client side of one connection, which sends one request at a time.

    The callback of `notify_when_free` is called when the connection can take another request, or
    is closed.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, heads: HeadCache[KnownHead] | None = None
    ) -> None:
        """`heads` caches the heads of responses, for all connections of the client."""
        self.loop = loop
        self._heads: HeadCache[KnownHead] = HeadCache() if heads is None else heads
        self._last: tuple[bytes, tuple[KnownHead, int] | None] = NO_HEAD
        """The last known head, which is faster to compare than to look up."""
        self.lost = self.dropped = False  # Dropped: closed by the server.
        self.idle_since = float("-inf")
        self._on_free: Callable[[ClientConnection], None] = _ignore
        self._transport: asyncio.Transport | None = None
        self._poll: select.poll | None = None
        self._parser = ResponseParser()
        self._response: ClientResponse | None = None
        self._head: asyncio.Future[None] | None = None
        self._held_back = False
        self._done: Callable[[], None] | None = None
        self._error: Exception | None = None

    def notify_when_free(self, callback: "Callable[[ClientConnection], None]") -> None:
        """Set the owner, which gets the connection back after each response."""
        self._on_free = callback

    def release(self) -> None:
        """Return a connection that no request has used to its owner."""
        self.idle_since = self.loop.time()
        self._on_free(self)

    async def send(self, request: bytes) -> ClientResponse:
        """Send a request and wait for the head of the response.

        Raises ConnectionLost, InvalidResponse.
        """
        response = self.begin(request, None)
        await self.headed(response)
        return response

    def begin(
        self,
        request: bytes,
        done: Callable[[], None] | None,
        sent_fields: tuple[tuple[bytes, bytes], ...] = (),
    ) -> ClientResponse:
        """Send a request and return its response, still empty. Raises ConnectionLost.

        `done` is called once: when the response is complete or has failed; when its head shows
        that it is neither JSON nor an event stream with status 200; at the first part of an event
        stream; when the body is so large that it must be read in parts; or when the owner of the
        connection has waited for too long. `sent_fields` are those of the response.
        """
        if self.lost or self._transport is None:
            raise ConnectionLost("the connection is closed")
        response = self._response = ClientResponse(self, sent_fields)
        self._done = done
        self._transport.write(request)
        return response

    async def headed(self, response: ClientResponse) -> None:
        """Wait for the head of the response. Raises ConnectionLost, InvalidResponse."""
        if response.status:
            return
        if self._error is not None:
            raise self._error
        self._head = self.loop.create_future()
        try:
            await self._head
        except asyncio.CancelledError:
            self.abort()
            raise

    def expire(self) -> None:
        """Let the task that continues the request end it, because its time is over."""
        self.hand_on()

    def hand_on(self) -> None:
        """Call the callback of the request, unless it was called before."""
        if self._done is not None:
            done, self._done = self._done, None
            done()

    def can_be_reused(self) -> bool:
        """Return False if the server has closed the connection or sent more. Asks the system."""
        if self._transport is None or self._transport.is_closing():
            return False
        # Not every transport has a socket.
        return self._poll is None or not self._poll.poll(0)

    def abort(self) -> None:
        """Close immediately."""
        self.lost = True
        if self._transport is not None:
            self._transport.abort()

    def hold_back(self, held: bool) -> None:
        """Pause or resume reading, so that a slow reader slows down the server."""
        if held != self._held_back and self._transport is not None and not self.lost:
            self._held_back = held
            (self._transport.pause_reading if held else self._transport.resume_reading)()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        endpoint = transport.get_extra_info("socket")
        if endpoint is not None:
            self._poll = select.poll()
            # With TLS, messages that are not of HTTP may wait, such as session tickets.
            is_plain = transport.get_extra_info("sslcontext") is None
            self._poll.register(endpoint, _CLOSED | (select.POLLIN if is_plain else 0))

    def data_received(self, data: bytes) -> None:
        response = self._response
        if response is None:
            self.abort()  # A response without a request.
            return
        if self._parser.between:
            # A whole response with a known head needs no parser, and most responses are like that.
            start, known = self._last
            if not data.startswith(start):
                start = data[: data.find(HEAD_END, 0, MAX_SIZE) + 4]
                known = self._heads.known.get(start)
                if known is not None:
                    self._last = start, known
            body = None
            if known is not None:
                is_whole, begin = known[1] == len(data), len(start)
                body = data[begin:] if is_whole else body_in_chunk(data, begin, known[1])
            if known is not None and body is not None:
                done, head = self._done, self._head
                if done is None or len(body) > HIGH_WATER or (head and not head.done()):
                    self._whole(response, known[0], body)
                    return
                # Only the callback waits, and it wants the whole response.
                response.complete_with(known[0], body)
                self._response = self._done = None
                self.idle_since = self.loop.time()
                self._on_free(self)
                done()
                return
        self._feed(data, response)

    def _feed(self, data: bytes, response: ClientResponse) -> None:
        """Parse received bytes, and pass on what is complete."""
        begins, had_head, error = self._parser.between, response.status > 0, None
        try:
            self._parser.feed(data, response)
        except InvalidResponse as malformed:
            error = malformed
        if response.status and not had_head:
            self._headed(response)
        if error is not None:
            self._fail(error)
        elif self._parser.reusable is not None:
            # Not earlier: bytes after the response must not be taken for the next response.
            self._completed(response, reusable=self._parser.reusable)
        if self._done is not None and self._begins_events():
            self.hand_on()
        if begins and response.complete and not self.lost:
            known_head = response.status, response.headers, response.media_type
            self._heads.keep(data, response.headers, known_head, chunked=True)

    def _begins_events(self) -> bool:
        """True if the first part of an event stream has arrived."""
        response = self._response
        return response is not None and response.waiting and response.media_type == EVENT_STREAM

    def _whole(self, response: ClientResponse, known: KnownHead, body: bytes) -> None:
        """Handle a whole response with a known head, of which a reader wants the head first."""
        response.begin(known[0], known[1])
        self._headed(response)
        if body:
            response.feed(body)
        self._completed(response, reusable=True)

    def connection_lost(self, exc: Exception | None) -> None:
        self.dropped = not self.lost
        self.lost = True
        response = self._response
        if response is not None and self._ends_with_connection(response):
            response.end()
        self._fail(ConnectionLost("the connection was closed before the response arrived"))
        if response is not None:
            response.wake()
        self._on_free(self)

    @staticmethod
    def _ends_with_connection(response: ClientResponse) -> bool:
        headers = response.headers
        return bool(response.status) and not (
            b"content-length" in headers or b"transfer-encoding" in headers
        )

    def _fail(self, error: Exception) -> None:
        error = self._error = self._error or error
        if self._head is not None and not self._head.done():
            self._head.set_exception(error)
        if not self.lost:
            self.abort()
        self.hand_on()

    def _headed(self, response: ClientResponse) -> None:
        """Pass on the response, whose head has arrived."""
        if self._head is not None and not self._head.done():
            self._head.set_result(None)
        elif self._done is not None and not (
            response.status == 200 and response.media_type in (EVENT_STREAM, JSON)
        ):
            self.hand_on()

    def _completed(self, response: ClientResponse, *, reusable: bool) -> None:
        self._response = None
        self._parser.begin_next()
        response.end()
        if not reusable:
            self.abort()
        else:
            if self._held_back:
                self.hold_back(False)
            self.idle_since = self.loop.time()
            self._on_free(self)
        self.hand_on()


def _ignore(connection: ClientConnection) -> None:
    """Take back a connection that has no owner."""
