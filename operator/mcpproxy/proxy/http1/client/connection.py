"""One HTTP/1.1 connection to a server, as an asyncio protocol on httptools."""

import asyncio
import collections
from typing import Final

import httptools

from mcpproxy.limits.backends import RESPONSE_HEAD, RESPONSE_LINES
from mcpproxy.proxy.http1.client.response import HIGH_WATER, ClientResponse, KnownHead
from mcpproxy.proxy.http1.errors import ConnectionLost, InvalidResponse
from mcpproxy.proxy.http1.head_cache import HEAD_END, MAX_SIZE, HeadCache
from mcpproxy.proxy.http1.media_types import EVENT_STREAM, JSON

_MAX_HEAD: Final = RESPONSE_HEAD.value
_MAX_LINES: Final = RESPONSE_LINES.value


def _joined(fields: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Join the values of repeated headers (RFC 9110, section 5.3)."""
    headers: dict[bytes, bytes] = {}
    for name, value in fields:
        key = name.lower()
        headers[key] = headers[key] + b", " + value if key in headers else value
    return headers


def _head_too_large() -> InvalidResponse:
    RESPONSE_HEAD.record()
    return InvalidResponse(f"the response header section has more than {_MAX_HEAD} bytes")


def _too_many_lines() -> InvalidResponse:
    RESPONSE_LINES.record()
    return InvalidResponse(f"the response has more than {_MAX_LINES} headers")


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
        self._between = True
        """True if the parser is between two responses."""
        self._complete: ClientResponse | None = None
        """The response that ended last, until `data_received` has seen it."""
        self._reusable: bool | None = None
        """True if the connection can be reused; None until the response is complete."""
        self.lost = self.dropped = False  # Dropped: closed by the server.
        self.idle_since = float("-inf")
        self._on_free: collections.abc.Callable[[ClientConnection], None] | None = None
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._response: ClientResponse | None = None
        self._head: asyncio.Future[None] | None = None
        self._fields: list[tuple[bytes, bytes]] = []
        """Header lines of an incomplete head, or trailers."""
        self._unfinished = 0
        """Bytes since the last complete head or part of a body."""
        self._held_back = False
        self._done: collections.abc.Callable[[], None] | None = None
        self._error: Exception | None = None

    def notify_when_free(
        self, callback: "collections.abc.Callable[[ClientConnection], None]"
    ) -> None:
        """Set the owner, which gets the connection back after each response."""
        self._on_free = callback

    def release(self) -> None:
        """Return a connection that no request has used to its owner."""
        self.idle_since = self.loop.time()
        if self._on_free is not None:
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
        done: collections.abc.Callable[[], None] | None,
        sent_fields: tuple[tuple[bytes, bytes], ...] = (),
    ) -> ClientResponse:
        """Send a request and return its response, still empty. Raises ConnectionLost.

        `done` is called once: when the response is complete or has failed; when its head shows
        that it is neither JSON nor an event stream with status 200; at the first part of an event
        stream; or when the body is so large that it must be read in parts. `sent_fields` are those
        of the response.
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

    def hand_on(self) -> None:
        """Call the callback of the request, unless it was called before."""
        if self._done is not None:
            done, self._done = self._done, None
            done()

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

    def data_received(self, data: bytes) -> None:
        response = self._response
        if response is None:
            self.abort()  # A response without a request.
            return
        begins = self._between
        if begins:
            # A whole response with a known head needs no parser, and most responses are like that.
            end = data.find(HEAD_END, 0, MAX_SIZE) + 4
            known = self._heads.known.get(data[:end])
            if known is not None and len(data) == known[1]:
                done, head, body = self._done, self._head, data[end:]
                if done is None or len(body) > HIGH_WATER or (head and not head.done()):
                    self._whole(response, known[0], body)
                    return
                # Only the callback waits, and it wants the whole response.
                response.complete_with(known[0], body)
                self._response = self._done = None
                self.idle_since = self.loop.time()
                if self._on_free is not None:
                    self._on_free(self)
                done()
                return
        self._parse(data)
        if self._reusable is not None:
            # Not earlier: bytes after the response must not be taken for the next response.
            self._completed(self._reusable)
        elif self._unfinished > _MAX_HEAD:
            self._fail(_head_too_large())
        if self._done is not None and self._begins_events():
            self.hand_on()
        if begins and self._complete is not None:
            response, self._complete = self._complete, None
            self._heads.keep(
                data, response.headers, (response.status, response.headers, response.media_type)
            )

    def _parse(self, data: bytes) -> None:
        self._complete = None
        self._unfinished += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if self._reusable is None:
                self._fail(InvalidResponse("the response is not HTTP/1.1"))
            else:
                self._reusable = False

    def _begins_events(self) -> bool:
        """True if the first part of an event stream has arrived."""
        response = self._response
        return response is not None and response.waiting and response.media_type == EVENT_STREAM

    def _whole(self, response: ClientResponse, known: KnownHead, body: bytes) -> None:
        """Handle a whole response with a known head, of which a reader wants the head first."""
        self._headed(known[0], known[1])
        if body:
            response.feed(body)
        self._completed(reusable=True)

    def connection_lost(self, exc: Exception | None) -> None:
        self.dropped = not self.lost
        self.lost = True
        response = self._response
        if response is not None and self._ends_with_connection(response):
            response.end()
        self._fail(ConnectionLost("the connection was closed before the response arrived"))
        if response is not None:
            response.wake()
        if self._on_free is not None:
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

    # httptools

    def on_message_begin(self) -> None:
        if self._reusable is not None:
            raise ValueError("received a response without a request")
        self._between = False
        # Trailers of the previous response are not headers of this one.
        self._fields = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields.append((name, value))
        if len(self._fields) > _MAX_LINES:
            self._refuse(_too_many_lines())

    def _refuse(self, error: InvalidResponse) -> None:
        """Stop the parser, because the following bytes might complete the response."""
        self._error = self._error or error
        raise self._error

    def on_headers_complete(self) -> None:
        response, fields = self._response, self._fields
        assert response is not None
        self._fields = []
        status = self._parser.get_status_code()
        if status < 200:
            # The bytes of an interim response count for the head of the final one.
            return
        if self._unfinished > _MAX_HEAD and sum(len(n) + len(v) for n, v in fields) > _MAX_HEAD:
            self._refuse(_head_too_large())
        self._unfinished = 0
        headers = {name.lower(): value for name, value in fields}
        self._headed(status, headers if len(headers) == len(fields) else _joined(fields))

    def _headed(self, status: int, headers: dict[bytes, bytes]) -> None:
        assert self._response is not None
        self._response.begin(status, headers)
        if self._head is not None and not self._head.done():
            self._head.set_result(None)
        elif self._done is not None and not (
            status == 200 and self._response.media_type in (EVENT_STREAM, JSON)
        ):
            self.hand_on()

    def on_body(self, body: bytes) -> None:
        assert self._response is not None
        self._unfinished = 0
        self._response.feed(body)

    def on_message_complete(self) -> None:
        response, reusable = self._response, self._parser.should_keep_alive()
        self._between = reusable
        if response is None or not response.status:
            return
        if reusable:
            self._complete = response
        self._reusable = reusable

    def _completed(self, reusable: bool) -> None:
        response = self._response
        assert response is not None
        self._response = self._reusable = None
        self._unfinished = 0
        response.end()
        if not reusable:
            self.abort()
        elif self._on_free is not None:
            if self._held_back:
                self.hold_back(False)
            self.idle_since = self.loop.time()
            self._on_free(self)
        self.hand_on()
