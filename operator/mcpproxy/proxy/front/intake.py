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

from mcpproxy.proxy.front.request import MAX_BODY, Head, HttpRefusal, Inbound
from mcpproxy.proxy.wire.heads import Heads

log = logging.getLogger("mcpproxy.http")

MAX_HEAD: Final = 64 * 1024
"""Bytes of a request's line and headers; more is answered with 431."""
MAX_UNREAD: Final = 4 * MAX_HEAD
"""Bytes of a head that may come before its first header ends, beside what came with them."""
MAX_OFFERS: Final = 8
"""Offers of other protocols that one packet may hold."""
_SPENT: Final = httptools.HttpRequestParser(None)
"""The parser of a connection that has ended: its own refers to it and would keep it alive."""


class Intake(ABC):
    """Reads what a client sends."""

    def __init__(
        self, screened: Callable[[Inbound], HttpRefusal | None], heads: Heads[Head]
    ) -> None:
        """`screened` says of a request's head why its body is not wanted, if so."""
        self._screened = screened
        self._heads = heads
        self._between = True
        """Whether no part of a request is here."""
        self._complete: Inbound | None = None
        """The request that ended last; not kept for longer than it takes to look at it."""
        self._parser = httptools.HttpRequestParser(self)
        self._ignoring = False
        """Whether the rest of what the client sends is of no interest."""
        self._url = b""
        self._lines: list[tuple[bytes, bytes]] = []
        self._head_size = 0
        self._unread = 0
        self._inbound: Inbound | None = None
        self._refusal: HttpRefusal | None = None
        self._body: bytes | bytearray = b""
        self._size = 0
        """Bytes of the body that is being read, as far as it is there."""
        self._sweeps = 0
        """Sweeps since something has happened here."""

    @abstractmethod
    def has_room(self, size: int) -> bool:
        """Whether so many more bytes of a body may be held; then they are counted."""

    @abstractmethod
    def received(
        self, inbound: Inbound, refusal: HttpRefusal | None, last: bool, old: bool
    ) -> None:
        """A request is there; the client expects no further answer after it if it is the last."""

    @abstractmethod
    def refuse_all(self, refusal: HttpRefusal) -> None:
        """Answer what can't be read, after what was asked before; then read no more."""

    def switch_protocol(self, data: bytes) -> bool:
        """Hand over a connection that does not begin with HTTP/1.1; False where none takes it."""
        return False

    @abstractmethod
    def invite(self) -> None:
        """The client may wait with a body until it is invited (RFC 9110, section 10.1.1)."""

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        if self._ignoring:
            return
        begins = self._between
        known = self._heads.look_up(data) if begins else None
        if known is not None and self.has_room(known[1] - known[2]):
            self._sweeps = 0
            self.received(Inbound(known[0], data[known[2] :]), None, False, False)
            return
        self._complete = None
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._read_on(data[offer.args[0] :])
        except httptools.HttpParserError as error:
            if not self.switch_protocol(data):
                self._unreadable(error)
        complete, self._complete = self._complete, None
        if begins and complete is not None and not self._ignoring:
            self._heads.keep(data, complete.headers, complete.head)
        if self._url and self._inbound is None:
            # The parser holds back, and does not count, what it has of a header.
            self._unread += len(data)
            if self._unread > MAX_UNREAD and not self._ignoring:
                self.refuse_all(HttpRefusal(431, "the headers are too large"))

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
        self.refuse_all(HttpRefusal(400, "only HTTP/1.1 is spoken here"))

    def _unreadable(self, error: Exception) -> None:
        if self._ignoring:
            return
        if isinstance(error, httptools.HttpParserCallbackError):
            note_failure(error.__context__ or error)
            self.refuse_all(failure())
        else:
            self.refuse_all(HttpRefusal(400, "the request is not HTTP/1.1"))

    def end_intake(self) -> None:
        """Nothing more will come."""
        self._ignoring = True
        self._parser = _SPENT

    def drop(self) -> Inbound:
        """Forget the request that is being read."""
        inbound = self._inbound or Inbound(Head("", "", []))
        self._inbound, self._refusal, self._url, self._body, self._size = None, None, b"", b"", 0
        return inbound

    # httptools

    def on_message_begin(self) -> None:
        """Called by the parser."""
        self._between = False
        self._url, self._lines, self._head_size, self._unread = b"", [], 0, 0
        self._sweeps = 0

    def on_url(self, url: bytes) -> None:
        """Called by the parser."""
        self._url += url
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser."""
        self._lines.append((name.lower(), value))
        self._head_size += len(name) + len(value)
        if self._head_size > MAX_HEAD:
            self._count(0)

    def _count(self, size: int) -> None:
        self._head_size += size
        if self._head_size > MAX_HEAD and not self._ignoring:
            self.refuse_all(HttpRefusal(431, "the headers are too large"))

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        if self._ignoring:
            return
        method = self._parser.get_method().decode("ascii")
        path, host = _target(self._url)
        try:
            inbound = Inbound(Head(method, path, self._lines))
        except HttpRefusal as refusal:
            self.refuse_all(refusal)
            return
        headers = inbound.headers
        if host is not None:
            headers[b"host"] = host
        if method == "CONNECT":
            self.refuse_all(HttpRefusal(501, "this is no proxy for other protocols"))
            return
        if b"upgrade" in headers and self._parser.should_upgrade():
            return
        # Trailers are not headers of the request.
        self._lines = []
        self._inbound = inbound
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
        self.refuse_all(HttpRefusal(413, f"a request is at most {MAX_BODY} bytes"))

    def expects_invitation(self) -> bool:
        """Whether the client waits with the body of the request that is being read."""
        if self._inbound is None or self._size or self._parser.get_http_version() != "1.1":
            return False
        return self._inbound.headers.get(b"expect", b"").lower() == b"100-continue"

    def on_body(self, body: bytes) -> None:
        """Called by the parser."""
        if self._ignoring:
            return
        size = len(body)
        if self._size + size > MAX_BODY:
            self._too_large()
        elif self._refusal is not None:
            self._size += size
        elif not self.has_room(size):
            self.refuse_all(HttpRefusal(503, "too many large requests are on their way"))
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
        inbound, last, old = self._inbound, not self._parser.should_keep_alive(), False
        # After the last one the parser takes nothing more.
        self._between = not last
        if inbound is None or self._ignoring:
            return
        if last or b"connection" in inbound.headers:
            version = self._parser.get_http_version()
            old = version != "1.1"
            if version not in ("1.0", "1.1"):
                self.refuse_all(HttpRefusal(505, "only HTTP/1.1 is spoken here"))
                return
        inbound.body = bytes(self._body)
        refusal = self._refusal
        self._inbound, self._refusal, self._url, self._body, self._size = None, None, b"", b"", 0
        if refusal is None and not (last or old):
            self._complete = inbound
        self.received(inbound, refusal, last or old, old)


def note_failure(error: BaseException) -> None:
    """Log where it failed; what an exception says may hold contents of the request."""
    kind = RuntimeError(type(error).__qualname__)
    about: Any = (RuntimeError, kind, error.__traceback__)
    log.error("a request failed", exc_info=about)


def failure() -> HttpRefusal:
    """The answer to a request that has failed."""
    return HttpRefusal(500, "the proxy failed; see its log")


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
