"""Parser of the requests of one connection, within limits, on httptools.

A request is passed on once its body is complete. A malformed request is refused, and the rest of
the input is ignored, because the start of the next request is unknown.
"""

import weakref
from collections.abc import Callable
from typing import Final
from urllib.parse import unquote

import httptools

from mcpproxy.limits.http import (
    REQUEST_BODY,
    REQUEST_HEAD,
    REQUEST_LINES,
    REQUEST_TARGET,
    UNFINISHED_HEAD,
)
from mcpproxy.proxy.http1.errors import HttpError, log_failure
from mcpproxy.proxy.http1.head_cache import HEAD_END, MAX_SIZE, NO_HEAD, HeadCache
from mcpproxy.proxy.http1.server.read_ahead import ReadAhead, has_many_requests
from mcpproxy.proxy.http1.server.request import MAX_BODY, Request, RequestHead
from mcpproxy.proxy.http1.server.transport import RequestHandler

MAX_HEAD: Final = REQUEST_HEAD.value
MAX_UNREAD: Final = UNFINISHED_HEAD.value
_MAX_LINES: Final = REQUEST_LINES.value
_CODING: Final = b"chunked"
_LINE_ENDS: Final = 4
"""Bytes of a header line besides its name and value: a colon, a space, and the line end."""
MAX_OFFERS: Final = 8
"""Upgrade requests that one packet may contain."""
_SPENT: Final = httptools.HttpRequestParser(None)
"""Parser of closed connections; a parser of their own would keep them alive by a cycle."""


class RequestParser:
    """Parser of the input of one client."""

    def __init__(
        self,
        handler: RequestHandler,
        screened: Callable[[Request], HttpError | None],
        heads: HeadCache[RequestHead],
    ) -> None:
        """`handler` owns the parser. `screened` checks the head of a request, as
        `Application.screened` does."""
        # The handler refers to its parser, and only the garbage collector would free the cycle.
        self._handler: RequestHandler = weakref.proxy(handler)
        self._screened, self._heads = screened, heads
        self._last: tuple[bytes, tuple[RequestHead, int] | None] = NO_HEAD
        """The last known head, which is faster to compare than to look up."""
        self._between = True
        """True if the parser is between two requests."""
        self._complete: Request | None = None
        """The request that ended last, until `feed` has seen it."""
        self._parser = httptools.HttpRequestParser(self)
        self.ignoring = False
        """True if the rest of the input is ignored."""
        self._url, self._head_size, self._line_count = b"", 0, 0
        self._lines: list[tuple[bytes, bytes]] = []
        self._unread = 0
        """Bytes since the last complete line, chunk or request."""
        self._advanced = False
        """True if the latest input completed a line, a chunk or a request."""
        self.rest = ReadAhead()
        """Input that is not parsed yet, because enough requests wait or others have their turn."""
        self._parsing = False
        """True inside of httptools, whose callbacks must not feed it."""
        self.inbound: Request | None = None
        """The request whose head is complete and whose body is arriving."""
        self._refusal: HttpError | None = None
        self._body: bytes | bytearray = b""
        self._size = 0
        """Received bytes of the body of the current request."""

    @property
    def idle(self) -> bool:
        """True if no request has arrived in part."""
        return self.inbound is None and not (self._url or self.rest)

    @property
    def held(self) -> int:
        """Bytes of the body of the current request in memory."""
        return self._size if self._refusal is None else 0

    def whole(self, data: bytes) -> Request | None:
        """Return the request if `data` is one whole request with a known head, otherwise None.

        Most requests are like that. They need no parser, and must not be fed to it.
        """
        if not self._between or self.rest.data or self.ignoring:
            return None
        head, known = self._last
        if not data.startswith(head):
            head = data[: data.find(HEAD_END, 0, MAX_SIZE) + 4]
            known = self._heads.known.get(head)
            if known is not None:
                self._last = head, known
        if known is None or len(data) != known[1]:
            return None
        return Request(known[0], data[len(head) :])

    def feed(self, data: bytes) -> None:
        """Parse received bytes."""
        if self.ignoring:
            return
        begins = self._between
        self._complete = None
        if self.rest.data or (
            has_many_requests(data, self._handler.room_ahead()) and self._left < len(data)
        ):
            self.rest.add(data)
            self.read_rest()
            return
        self._feed(data)
        complete, self._complete = self._complete, None
        if begins and complete is not None and not self.ignoring:
            self._heads.keep(data, complete.headers, complete.head)

    def read_rest(self) -> None:
        """Parse the remaining input, as far as more requests may wait."""
        while self.can_read_rest and self._handler.room_ahead() > 0:
            self._feed(self.rest.step(self._left, in_body=self.inbound is not None))
        if self.ignoring:
            self.rest.clear()
        elif self.rest and self.rest.turn_is_over:
            self._handler.read_on_later()

    @property
    def can_read_rest(self) -> bool:
        """True if the next step of `read_rest` may begin."""
        rest = self.rest
        return bool(rest) and not (rest.turn_is_over or self._parsing or self.ignoring)

    def begin_turn(self) -> None:
        """Begin another turn, in which remaining input may be parsed."""
        self.rest.begin_turn()

    @property
    def _left(self) -> int:
        """Missing bytes of a body of known length; 0 if the length is unknown."""
        if self.inbound is None:
            return 0
        length = _length_of(self.inbound.headers)
        return 0 if length is None else length - self._size

    def _feed(self, data: bytes) -> None:
        self._advanced, self._parsing = False, True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._read_on(data[offer.args[0] :])
        except httptools.HttpParserError as error:
            if self.ignoring or not self._handler.switch_protocol(data):
                self._unreadable(error)
        self._parsing = False
        # The parser buffers an incomplete line and does not count it.
        self._unread = 0 if self._advanced else self._unread + len(data)
        if self._unread > MAX_UNREAD and not self.ignoring:
            UNFINISHED_HEAD.record()
            self.refuse(HttpError(431, f"a line has more than {MAX_UNREAD} bytes"))

    def _read_on(self, rest: bytes) -> None:
        """Parse a request again without its `Upgrade` header, such as an upgrade to HTTP/2.

        httptools never reads the body of a request with that header.
        """
        for _ in range(MAX_OFFERS):
            if self.ignoring:
                return
            kept = [b"%b: %b\r\n" % line for line in self._lines if line[0] != b"upgrade"]
            method, version = self._parser.get_method(), self._parser.get_http_version().encode()
            head = b"%b %b HTTP/%b\r\n%b\r\n" % (method, self._url, version, b"".join(kept))
            self._parser = httptools.HttpRequestParser(self)
            try:
                self._parser.feed_data(head)
                self._parser.feed_data(rest)
            except httptools.HttpParserUpgrade as offer:
                rest = rest[offer.args[0] :]
            except httptools.HttpParserError as error:
                self._unreadable(error)
                return
            else:
                return
        self.refuse(HttpError(400, "unsupported HTTP version; use HTTP/1.1"))

    def _unreadable(self, error: Exception) -> None:
        if self.ignoring:
            return
        if isinstance(error, httptools.HttpParserCallbackError):
            log_failure(error.__context__ or error)
            self.refuse(failure_response())
        else:
            self.refuse(HttpError(400, "the request is not HTTP/1.1"))

    def refuse(self, refusal: HttpError) -> None:
        """Let the handler answer the current request with an error; ignore all further input."""
        self.ignoring = True
        held, inbound = self.held, self.inbound or Request(RequestHead("", "", []))
        self.inbound, self._refusal, self._url, self._body, self._size = None, None, b"", b"", 0
        self._handler.refused(inbound, refusal, held)

    def ignore(self) -> None:
        """Ignore all further input."""
        self.ignoring = True

    def end(self) -> None:
        """Ignore all further input, because the connection is closed or has another protocol."""
        self.ignoring = True
        self._parser = _SPENT

    # httptools

    def on_message_begin(self) -> None:
        self._between = False
        self._url, self._lines, self._head_size, self._line_count = b"", [], 0, 0
        self._advanced = True
        if not self.ignoring:
            self._handler.begun()

    def on_url(self, url: bytes) -> None:
        self._url += url
        if len(self._url) > REQUEST_TARGET.value and not self.ignoring:
            REQUEST_TARGET.record()
            most = REQUEST_TARGET.value
            self.refuse(HttpError(414, f"the request target has more than {most} bytes"))
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.ignoring:
            # An exception stops the parser.
            raise ValueError("the request was refused")
        self._lines.append((name.lower(), value))
        self._advanced = True
        self._line_count += 1
        self._head_size += len(name) + len(value) + _LINE_ENDS
        if self._head_size > MAX_HEAD or self._line_count > _MAX_LINES:
            self._count(0)

    def _count(self, size: int) -> None:
        self._head_size += size
        if self.ignoring:
            return
        if self._head_size > MAX_HEAD:
            REQUEST_HEAD.record()
            self.refuse(HttpError(431, f"the headers have more than {MAX_HEAD} bytes"))
        elif self._line_count > _MAX_LINES:
            REQUEST_LINES.record()
            self.refuse(HttpError(431, f"the request has more than {_MAX_LINES} headers"))

    def on_headers_complete(self) -> None:
        self._advanced = True
        if self.ignoring:
            return
        method = self._parser.get_method().decode("ascii")
        path, host = _target(self._url)
        try:
            inbound = Request(RequestHead(method, path, self._lines))
        except HttpError as refusal:
            self.refuse(refusal)
            return
        headers = inbound.headers
        if host is not None:
            headers[b"host"] = host
        if method == "CONNECT":
            self.refuse(HttpError(501, "the method CONNECT is not supported"))
            return
        if b"upgrade" in headers and self._parser.should_upgrade():
            return
        # Trailers are not headers of the request.
        self._lines = []
        self.inbound = inbound
        unknown = _unknown_coding(headers)
        if unknown is not None:
            self.refuse(unknown)
            return
        length = _length_of(headers)
        if length is not None and length > MAX_BODY:
            self._too_large()
            return
        inbound.head.name_sender(self._handler)
        self._refusal = self._screened(inbound)
        # A request that outlives its connection must not keep it.
        inbound.head.name_sender(None)
        if b"expect" in headers:
            if self._refusal is None:
                self._handler.invite()
            else:
                self.refuse(self._refusal)

    def _too_large(self) -> None:
        REQUEST_BODY.record()
        self.refuse(HttpError(413, f"the request body has more than {MAX_BODY} bytes"))

    def expects_invitation(self) -> bool:
        """True if the client holds back the body of the current request."""
        if self.inbound is None or self._size or self._parser.get_http_version() != "1.1":
            return False
        return self.inbound.headers.get(b"expect", b"").lower() == b"100-continue"

    def on_body(self, body: bytes) -> None:
        self._advanced = True
        if self.ignoring:
            return
        size = len(body)
        if self._size + size > MAX_BODY:
            self._too_large()
        elif self._refusal is not None:
            self._size += size
        elif not self._handler.has_room(self._size, self._size + size):
            why = "too many large requests are in progress; retry later"
            self.refuse(HttpError(503, why, (b"retry-after", b"1")))
        else:
            self._size += size
            if not self._body:
                self._body = body
            else:
                if isinstance(self._body, bytes):
                    # Chunks may be many and small; an object for each would take more memory.
                    self._body = bytearray(self._body)
                self._body += body

    def on_message_complete(self) -> None:
        self._advanced = True
        inbound, last, old = self.inbound, not self._parser.should_keep_alive(), False
        # The parser accepts nothing after the last request.
        self._between = not last
        if inbound is None or self.ignoring:
            return
        if last or b"connection" in inbound.headers:
            version = self._parser.get_http_version()
            old = version != "1.1"
            if version not in ("1.0", "1.1"):
                self.refuse(HttpError(505, "unsupported HTTP version; use HTTP/1.1"))
                return
        inbound.complete(bytes(self._body))
        refusal = self._refusal
        self.inbound, self._refusal, self._url, self._body, self._size = None, None, b"", b"", 0
        if refusal is None and not (last or old):
            self._complete = inbound
        self._handler.received(inbound, refusal, last or old, old)


def _length_of(headers: dict[bytes, bytes]) -> int | None:
    """Return the length of a body in bytes; None if no header names it."""
    length = headers.get(b"content-length")
    # Python limits the digits of an integer, HTTP allows any number of zeros before it.
    return None if length is None else int(length.lstrip(b"0") or b"0")


def _unknown_coding(headers: dict[bytes, bytes]) -> HttpError | None:
    """Return the error for a body with an unknown coding; None if there is none.

    RFC 9112, section 6.1; RFC 9110, section 15.5.16.
    """
    transfer = headers.get(b"transfer-encoding")
    if transfer is not None and transfer.strip().lower() != _CODING:
        return HttpError(501, "unsupported Transfer-Encoding; use chunked")
    content = headers.get(b"content-encoding")
    if content is not None and content.strip().lower() not in (b"", b"identity"):
        accepted = (b"accept-encoding", b"identity")
        return HttpError(415, "unsupported Content-Encoding; send the body without one", accepted)
    return None


def failure_response() -> HttpError:
    """Return the error response to a request that failed unexpectedly."""
    return HttpError(500, "internal error; the proxy's log has details")


def _target(url: bytes) -> tuple[str, bytes | None]:
    """Return the path of a request target, and its host if it has one (RFC 9112, section 3.2)."""
    host = None
    if url.startswith(b"/"):
        path = url.partition(b"?")[0]
    else:
        try:
            parsed = httptools.parse_url(url)
        except httptools.HttpParserInvalidURLError:
            return "", None
        path = parsed.path or b"/"
        if parsed.host is not None:
            name = b"[%b]" % parsed.host if b":" in parsed.host else parsed.host
            host = name if parsed.port is None else b"%b:%d" % (name, parsed.port)
    text = path.decode("latin-1")
    return (unquote(text) if "%" in text else text), host
