"""One HTTP/1.1 connection to a backend: httptools parses, asyncio carries."""

import asyncio
import collections
from typing import Final

import httptools

from mcpproxy.limits.backends import RESPONSE_HEAD, RESPONSE_LINES
from mcpproxy.proxy.core.errors import ProtocolError, Unreachable
from mcpproxy.proxy.http1.client.response import HIGH_WATER, ClientResponse
from mcpproxy.proxy.http1.head_cache import HeadCache
from mcpproxy.proxy.protocol import headers as h

KnownHead = tuple[int, dict[bytes, bytes]]
"""Status and headers of an answer; several answers share the headers."""
_MAX_HEAD: Final = RESPONSE_HEAD.value
_MAX_LINES: Final = RESPONSE_LINES.value


def _joined(fields: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Header lines by name, those of one name joined (RFC 9110, section 5.3)."""
    found: dict[bytes, bytes] = {}
    for name, value in fields:
        key = name.lower()
        found[key] = found[key] + b", " + value if key in found else value
    return found


def _head_too_large() -> ProtocolError:
    RESPONSE_HEAD.record()
    return ProtocolError(f"the answer's head is larger than {_MAX_HEAD} bytes")


def _too_many_lines() -> ProtocolError:
    RESPONSE_LINES.record()
    return ProtocolError(f"the answer has more than {_MAX_LINES} header lines")


class ClientConnection(asyncio.Protocol):
    """Sends one request at a time. `on_free` is called when it can take another one."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, heads: HeadCache[KnownHead] | None = None
    ) -> None:
        """`heads` are those of answers that the backend gave before."""
        self.loop = loop
        self._heads: HeadCache[KnownHead] = HeadCache() if heads is None else heads
        self._between = True
        """Whether no part of an answer is here."""
        self._complete: ClientResponse | None = None
        """The answer that ended last, until its head was looked at or the next one begins."""
        self._reusable: bool | None = None
        """Whether the connection can be kept, once the answer is there as a whole."""
        self.lost = self.dropped = False  # Dropped: by the peer.
        self.idle_since = float("-inf")
        self.on_free: collections.abc.Callable[[ClientConnection], None] | None = None
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._response: ClientResponse | None = None
        self._head: asyncio.Future[None] | None = None
        self._fields: list[tuple[bytes, bytes]] = []
        """Header lines of a head that is not complete, or trailers."""
        self._unfinished = 0
        """Bytes that came since the parser was last through with something."""
        self._held_back = False
        self._done: collections.abc.Callable[[], None] | None = None
        self._error: Exception | None = None

    async def send(self, request: bytes) -> ClientResponse:
        """Send a request and wait for the response head. Raises Unreachable, ProtocolError."""
        response = self.begin(request, None)
        await self.headed(response)
        return response

    def begin(
        self, request: bytes, done: collections.abc.Callable[[], None] | None
    ) -> ClientResponse:
        """Send a request; its answer, of which nothing is there yet. Raises Unreachable.

        `done` is called once: when the answer is there as a whole, or can't be, or is neither
        JSON nor a stream of events; at the beginning of such a stream; or when the answer is so
        large that it has to be read in parts.
        """
        if self.lost or self._transport is None:
            raise Unreachable("the connection is closed")
        response = self._response = ClientResponse(self)
        self._done = done
        self._transport.write(request)
        return response

    async def headed(self, response: ClientResponse) -> None:
        """Wait for the head of the answer. Raises Unreachable, ProtocolError."""
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
        """Whoever began the request hears that there is something to look at."""
        if self._done is not None:
            done, self._done = self._done, None
            done()

    def abort(self) -> None:
        """Close at once."""
        self.lost = True
        if self._transport is not None:
            self._transport.abort()

    def hold_back(self, held: bool) -> None:
        """Stop or go on reading, so that a slow reader holds the peer back."""
        if held != self._held_back and self._transport is not None and not self.lost:
            self._held_back = held
            (self._transport.pause_reading if held else self._transport.resume_reading)()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        if self._response is None:
            self.abort()  # An answer that nobody asked for.
            return
        begins = self._between
        if begins:
            known = self._heads.look_up(data)
            if known is not None:
                self._whole(self._response, known[0], data[known[2] :])
                return
        self._complete = None
        self._unfinished += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if self._reusable is None:
                self._fail(ProtocolError("the answer is not HTTP/1.1"))
            else:
                self._reusable = False
        if self._reusable is not None:
            # Only now: what came behind the answer must not be taken for that to the next request.
            self._completed(self._reusable)
        elif self._unfinished > _MAX_HEAD:
            self._fail(_head_too_large())
        if self._done is not None and self._begins_events():
            self.hand_on()
        if begins and self._complete is not None:
            answer, self._complete = self._complete, None
            self._heads.keep(data, answer.headers, (answer.status, answer.headers))

    def _begins_events(self) -> bool:
        """Whether the first part of a stream of events is there."""
        response = self._response
        return response is not None and response.waiting and response.media_type == h.EVENT_STREAM

    def _whole(self, response: ClientResponse, known: KnownHead, body: bytes) -> None:
        """An answer with a known head is there at once."""
        status, response.headers = known
        awaited = self._head is not None and not self._head.done()
        if awaited or self._done is None or len(body) > HIGH_WATER:
            self._headed(status)
            if body:
                response.feed(body)
            self._completed(reusable=True)
            return
        # Nobody waits for a part of it: whoever began the request sees to all of it.
        response.status = status
        response.complete = True
        if body:
            response._chunks.append(body)
            response._size = len(body)
        self._response = None
        done, self._done = self._done, None
        if self.on_free is not None:
            self.on_free(self)
        done()

    def connection_lost(self, exc: Exception | None) -> None:
        self.dropped = not self.lost
        self.lost = True
        response = self._response
        if response is not None and self._ends_with_connection(response):
            response.end()
        self._fail(Unreachable("the connection was closed before the answer came"))
        if response is not None:
            response.wake()
        if self.on_free is not None:
            self.on_free(self)

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
        """Called by the parser."""
        if self._reusable is not None:
            raise ValueError("an answer that nobody asked for")
        self._between = False
        # Also of trailers: those of the answer before are not headers of this one.
        self._fields = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser."""
        self._fields.append((name, value))
        if len(self._fields) > _MAX_LINES:
            self._refuse(_too_many_lines())

    def _refuse(self, error: ProtocolError) -> None:
        """Have the parser go no further: what follows would complete the answer after all."""
        self._error = self._error or error
        raise self._error

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        response, fields = self._response, self._fields
        assert response is not None
        self._fields = []
        status = self._parser.get_status_code()
        if status < 200:
            # Its bytes are counted together with those of what follows.
            return
        if self._unfinished > _MAX_HEAD and sum(len(n) + len(v) for n, v in fields) > _MAX_HEAD:
            self._refuse(_head_too_large())
        self._unfinished = 0
        headers = {name.lower(): value for name, value in fields}
        response.headers = headers if len(headers) == len(fields) else _joined(fields)
        self._headed(status)

    def _headed(self, status: int) -> None:
        assert self._response is not None
        self._response.status = status
        if self._head is not None and not self._head.done():
            self._head.set_result(None)
        elif self._done is not None and not (
            status == 200 and self._response.media_type in (h.EVENT_STREAM, h.JSON)
        ):
            self.hand_on()

    def on_body(self, body: bytes) -> None:
        """Called by the parser."""
        assert self._response is not None
        self._unfinished = 0
        self._response.feed(body)

    def on_message_complete(self) -> None:
        """Called by the parser."""
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
        elif self.on_free is not None:
            self.hold_back(False)
            self.on_free(self)
        self.hand_on()
