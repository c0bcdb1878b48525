"""From the bytes of one connection to its requests, within limits: httptools parses.

A request is handed on once its body is there. What can't be read is refused, and then the rest of
what the client sends is of no interest: where its next request begins is not known any more.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import unquote

import httptools

from mcpproxy.limits.http import (
    REQUEST_BODY,
    REQUEST_HEAD,
    REQUEST_LINES,
    REQUEST_TARGET,
    UNFINISHED_HEAD,
)
from mcpproxy.proxy.http1.head_cache import HeadCache
from mcpproxy.proxy.http1.server.read_ahead import ReadAhead, has_many_requests
from mcpproxy.proxy.http1.server.request import MAX_BODY, HttpError, Request, RequestHead

log = logging.getLogger("mcpproxy.http")

MAX_HEAD: Final = REQUEST_HEAD.value
MAX_UNREAD: Final = UNFINISHED_HEAD.value
_MAX_LINES: Final = REQUEST_LINES.value
_CODING: Final = b"chunked"
_LINE_ENDS: Final = 4
"""Bytes of a header line besides its name and value: a colon, a blank, and the end of the line."""
MAX_OFFERS: Final = 8
"""Offers of other protocols that one packet may hold."""
_SPENT: Final = httptools.HttpRequestParser(None)
"""The parser of a connection that has ended: its own refers to it and would keep it alive."""


class RequestParser(ABC):
    """Reads what a client sends."""

    def __init__(
        self, screened: Callable[[Request], HttpError | None], heads: HeadCache[RequestHead]
    ) -> None:
        """`screened` says of a request's head why its body is not wanted, if so."""
        self._screened = screened
        self._heads = heads
        self._between = True
        """Whether no part of a request is here."""
        self._complete: Request | None = None
        """The request that ended last; not kept for longer than it takes to look at it."""
        self._parser = httptools.HttpRequestParser(self)
        self._ignoring = False
        """Whether the rest of what the client sends is of no interest."""
        self._url = b""
        self._lines: list[tuple[bytes, bytes]] = []
        self._head_size = 0
        self._line_count = 0
        self._unread = 0
        """Bytes that came since the parser was through with a line, a chunk or a request."""
        self._advanced = False
        """Whether it was through with one lately."""
        self._rest = ReadAhead()
        """What is not parsed yet: enough requests wait, or others have their turn."""
        self._parsing = False
        """Whether the parser is at work: what it calls must not have it read on."""
        self._inbound: Request | None = None
        self._refusal: HttpError | None = None
        self._body: bytes | bytearray = b""
        self._size = 0
        """Bytes of the body that is being read, as far as it is there."""
        self._sweeps = 0
        """Sweeps since something has happened here."""

    @abstractmethod
    def has_room(self, before: int, after: int) -> bool:
        """Whether a body of `before` bytes may grow to `after`; then that is counted."""

    @abstractmethod
    def room_ahead(self) -> int:
        """How many more requests may wait; where it is 0, `read_rest` follows later."""

    @abstractmethod
    def read_on_later(self) -> None:
        """Read no more; `begin_turn` and `read_rest` follow when others had their turn."""

    @abstractmethod
    def received(self, inbound: Request, refusal: HttpError | None, last: bool, old: bool) -> None:
        """A request is there; the client expects no further answer after it if it is the last."""

    @abstractmethod
    def refuse_all(self, refusal: HttpError) -> None:
        """Answer what can't be read, after what was asked before; then read no more."""

    def switch_protocol(self, data: bytes) -> bool:
        """Hand over a connection that does not begin with HTTP/1.1; False where none takes it."""
        return False

    @abstractmethod
    def invite(self) -> None:
        """The client may wait with a body until it is invited (RFC 9110, section 10.1.1)."""

    def data_received(self, data: bytes) -> None:
        if self._ignoring:
            return
        begins = self._between
        known = self._heads.look_up(data) if begins else None
        if known is not None and not self._rest.data and self.has_room(0, known[1] - known[2]):
            self._sweeps = 0
            self.received(Request(known[0], data[known[2] :]), None, False, False)
            return
        self._complete = None
        if self._rest.data or (
            has_many_requests(data, self.room_ahead()) and self._left < len(data)
        ):
            self._rest.add(data)
            self.read_rest()
            return
        self._feed(data)
        complete, self._complete = self._complete, None
        if begins and complete is not None and not self._ignoring:
            self._heads.keep(data, complete.headers, complete.head)

    def read_rest(self) -> None:
        """Parse what waits, request by request, as far as requests may wait to be served."""
        while self._can_read_rest and self.room_ahead() > 0:
            self._feed(self._rest.step(self._left, in_body=self._inbound is not None))
        if self._ignoring:
            self._rest.clear()
        elif self._rest and self._rest.turn_is_over:
            self.read_on_later()

    @property
    def _can_read_rest(self) -> bool:
        rest = self._rest
        return bool(rest) and not (rest.turn_is_over or self._parsing or self._ignoring)

    def begin_turn(self) -> None:
        """Others had their turn: what waits may be parsed on."""
        self._rest.steps = 0

    @property
    def _left(self) -> int:
        """Bytes that are missing of a body whose length is known; 0 where it is not."""
        if self._inbound is None:
            return 0
        length = self._inbound.headers.get(b"content-length")
        return 0 if length is None else int(length) - self._size

    def _feed(self, data: bytes) -> None:
        self._advanced, self._parsing = False, True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._read_on(data[offer.args[0] :])
        except httptools.HttpParserError as error:
            if self._ignoring or not self.switch_protocol(data):
                self._unreadable(error)
        self._parsing = False
        # The parser holds back, and does not count, what it has of a line.
        self._unread = 0 if self._advanced else self._unread + len(data)
        if self._unread > MAX_UNREAD and not self._ignoring:
            UNFINISHED_HEAD.record()
            self.refuse_all(HttpError(431, f"a line is longer than {MAX_UNREAD} bytes"))

    def _read_on(self, rest: bytes) -> None:
        """Read a request with the offer of another protocol (HTTP/2, say) as if without it.

        The parser does not read the body of such a request, and nothing tells it to.
        """
        for _ in range(MAX_OFFERS):
            if self._ignoring:
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
        self.refuse_all(HttpError(400, "only HTTP/1.1 is spoken here"))

    def _unreadable(self, error: Exception) -> None:
        if self._ignoring:
            return
        if isinstance(error, httptools.HttpParserCallbackError):
            log_failure(error.__context__ or error)
            self.refuse_all(failure_response())
        else:
            self.refuse_all(HttpError(400, "the request is not HTTP/1.1"))

    def end_intake(self) -> None:
        """Nothing more will come."""
        self._ignoring = True
        self._parser = _SPENT

    def drop(self) -> Request:
        """Forget the request that is being read."""
        inbound = self._inbound or Request(RequestHead("", "", []))
        self._inbound, self._refusal, self._url, self._body, self._size = None, None, b"", b"", 0
        return inbound

    # httptools

    def on_message_begin(self) -> None:
        """Called by the parser."""
        self._between = False
        self._url, self._lines, self._head_size, self._line_count = b"", [], 0, 0
        self._advanced = True
        self._sweeps = 0

    def on_url(self, url: bytes) -> None:
        """Called by the parser."""
        self._url += url
        if len(self._url) > REQUEST_TARGET.value and not self._ignoring:
            REQUEST_TARGET.record()
            most = REQUEST_TARGET.value
            self.refuse_all(HttpError(414, f"the request target is longer than {most} bytes"))
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser."""
        if self._ignoring:
            # It goes no further.
            raise ValueError("a request that was refused")
        self._lines.append((name.lower(), value))
        self._advanced = True
        self._line_count += 1
        self._head_size += len(name) + len(value) + _LINE_ENDS
        if self._head_size > MAX_HEAD or self._line_count > _MAX_LINES:
            self._count(0)

    def _count(self, size: int) -> None:
        self._head_size += size
        if self._ignoring:
            return
        if self._head_size > MAX_HEAD:
            REQUEST_HEAD.record()
            self.refuse_all(HttpError(431, f"the headers have more than {MAX_HEAD} bytes"))
        elif self._line_count > _MAX_LINES:
            REQUEST_LINES.record()
            self.refuse_all(HttpError(431, f"there are more than {_MAX_LINES} header lines"))

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        self._advanced = True
        if self._ignoring:
            return
        method = self._parser.get_method().decode("ascii")
        path, host = _target(self._url)
        try:
            inbound = Request(RequestHead(method, path, self._lines))
        except HttpError as refusal:
            self.refuse_all(refusal)
            return
        headers = inbound.headers
        if host is not None:
            headers[b"host"] = host
        if method == "CONNECT":
            self.refuse_all(HttpError(501, "this is no proxy for other protocols"))
            return
        if b"upgrade" in headers and self._parser.should_upgrade():
            return
        # Trailers are not headers of the request.
        self._lines = []
        self._inbound = inbound
        unknown = _unknown_coding(headers)
        if unknown is not None:
            self.refuse_all(unknown)
            return
        length = headers.get(b"content-length")
        if length is not None and int(length) > MAX_BODY:
            self._too_large()
            return
        self._refusal = self._screened(inbound)
        if b"expect" in headers:
            if self._refusal is None:
                self.invite()
            else:
                self.refuse_all(self._refusal)

    def _too_large(self) -> None:
        REQUEST_BODY.record()
        self.refuse_all(HttpError(413, f"a request is at most {MAX_BODY} bytes"))

    def expects_invitation(self) -> bool:
        """Whether the client waits with the body of the request that is being read."""
        if self._inbound is None or self._size or self._parser.get_http_version() != "1.1":
            return False
        return self._inbound.headers.get(b"expect", b"").lower() == b"100-continue"

    def on_body(self, body: bytes) -> None:
        """Called by the parser."""
        self._advanced = True
        if self._ignoring:
            return
        size = len(body)
        if self._size + size > MAX_BODY:
            self._too_large()
        elif self._refusal is not None:
            self._size += size
        elif not self.has_room(self._size, self._size + size):
            why = "too many requests of this size are on their way"
            self.refuse_all(HttpError(503, why, (b"retry-after", b"1")))
        else:
            self._size += size
            if not self._body:
                self._body = body
            else:
                if isinstance(self._body, bytes):
                    # Chunks may be small and many: each as an object would take far more room.
                    self._body = bytearray(self._body)
                self._body += body

    def on_message_complete(self) -> None:
        """Called by the parser."""
        self._advanced = True
        inbound, last, old = self._inbound, not self._parser.should_keep_alive(), False
        # After the last one the parser takes nothing more.
        self._between = not last
        if inbound is None or self._ignoring:
            return
        if last or b"connection" in inbound.headers:
            version = self._parser.get_http_version()
            old = version != "1.1"
            if version not in ("1.0", "1.1"):
                self.refuse_all(HttpError(505, "only HTTP/1.1 is spoken here"))
                return
        inbound.body = bytes(self._body)
        refusal = self._refusal
        self._inbound, self._refusal, self._url, self._body, self._size = None, None, b"", b"", 0
        if refusal is None and not (last or old):
            self._complete = inbound
        self.received(inbound, refusal, last or old, old)


def _unknown_coding(headers: dict[bytes, bytes]) -> HttpError | None:
    """Why a body can't be read as it is (RFC 9112, section 6.1; RFC 9110, section 15.5.16)."""
    transfer = headers.get(b"transfer-encoding")
    if transfer is not None and transfer.strip().lower() != _CODING:
        return HttpError(501, "of transfer codings only chunked is known here")
    content = headers.get(b"content-encoding")
    if content is not None and content.strip().lower() not in (b"", b"identity"):
        accepted = (b"accept-encoding", b"identity")
        return HttpError(415, "bodies with a Content-Encoding are not read here", accepted)
    return None


def log_failure(error: BaseException) -> None:
    """Log where it failed; what an exception says may hold contents of the request."""
    kind = RuntimeError(type(error).__qualname__)
    about: Any = (RuntimeError, kind, error.__traceback__)
    log.error("a request failed", exc_info=about)


def failure_response() -> HttpError:
    """The answer to a request that has failed."""
    return HttpError(500, "the proxy failed; see its log")


def _target(url: bytes) -> tuple[str, bytes | None]:
    """The path of a request's target, and the host where it names one (RFC 9112, section 3.2)."""
    host = None
    if url.startswith(b"/"):
        path = url.partition(b"?")[0]
    else:
        try:
            found = httptools.parse_url(url)
        except httptools.HttpParserInvalidURLError:
            return "", None
        path = found.path or b"/"
        if found.host is not None:
            name = b"[%b]" % found.host if b":" in found.host else found.host
            host = name if found.port is None else b"%b:%d" % (name, found.port)
    text = path.decode("latin-1")
    return (unquote(text) if "%" in text else text), host
