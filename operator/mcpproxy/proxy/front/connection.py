"""One HTTP/1.1 connection of a client: httptools parses, asyncio carries.

A request is served once its body is there; requests of one connection are served one after the
other. What a client sends too early waits, what it takes too slowly holds back who writes.
"""

import asyncio
import collections
import logging
from collections.abc import Awaitable
from typing import Final, Protocol, cast
from urllib.parse import unquote

import httptools

from mcpproxy.proxy.core.deadlines import Deadlines
from mcpproxy.proxy.front.reply import Reply
from mcpproxy.proxy.front.request import MAX_BODY, HttpRefusal, Inbound

log = logging.getLogger("mcpproxy.http")

MAX_HEAD: Final = 64 * 1024
"""Bytes of a request's line and headers; more is answered with 431."""
MAX_WAITING: Final = 8
"""Requests that a client may send ahead before it is held back."""
SWEEP_EVERY: Final = 5.0
IDLE_SWEEPS: Final = 15
"""Sweeps, of 5 s, that a client's idle connection is kept."""
REQUEST_SWEEPS: Final = 12
"""Sweeps that a request may take to arrive in full."""
STALLED_SWEEPS: Final = 24
"""Sweeps that a client may take nothing of an answer."""
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class App(Protocol):
    """What is served."""

    def screened(self, inbound: Inbound) -> HttpRefusal | None:
        """Called with the head of a request: why its body is not wanted, if so."""

    def at_once(self, inbound: Inbound, reply: Reply) -> bool:
        """Begin to answer without a task; False where it takes one. Raises HttpRefusal."""

    def serve(self, inbound: Inbound, reply: Reply) -> Awaitable[None]:
        """Answer a request. May raise HttpRefusal before anything was sent."""


class Surroundings(Protocol):
    """What the connections of one server share."""

    app: App
    pings: Deadlines
    loop: asyncio.AbstractEventLoop
    draining: bool
    connections: "set[Connection]"

    def gone(self, connection: "Connection") -> None:
        """A connection has ended."""

    def has_room(self, size: int) -> bool:
        """Whether so many more bytes of a body may be held."""

    def release(self, size: int) -> None:
        """So many bytes are held no longer."""


class Connection(asyncio.Protocol):
    """One client."""

    def __init__(self, server: Surroundings) -> None:
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: collections.deque[tuple[Inbound, HttpRefusal | None, bool]] = (
            collections.deque()
        )
        self._reply: Reply | None = None
        self._task: asyncio.Task[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._ignoring = False
        """Whether the rest of what the client sends is of no interest."""
        self._url = b""
        self._lines: list[tuple[bytes, bytes]] = []
        self._head_size = 0
        self._inbound: Inbound | None = None
        self._refusal: HttpRefusal | None = None
        self._parts: list[bytes] = []
        self._held = 0
        self._sweeps = 0
        self.lost = False
        self.paused = False
        self.closing = False
        self.old = False

    @property
    def idle(self) -> bool:
        """Whether no request is there, nor a part of one."""
        return self._reply is None and self._inbound is None and not (self._waiting or self._url)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self._transport = cast("asyncio.Transport", transport)
        self._server.connections.add(self)

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        if self._ignoring:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            # An offer of another protocol (HTTP/2, say) need not be taken up.
            rest = data[upgrade.args[0] :]
            if rest:
                self.data_received(rest)
        except httptools.HttpParserError:
            if not self._ignoring:
                self._refuse_all(HttpRefusal(400, "the request is not HTTP/1.1"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop."""
        self.lost = True
        self._server.gone(self)
        self._release()
        self._waiting.clear()
        self.resume_writing()
        if self._reply is not None:
            self._reply.gone()

    def pause_writing(self) -> None:
        """Called by the loop."""
        self.paused = True

    def resume_writing(self) -> None:
        """Called by the loop."""
        self.paused = False
        self._sweeps = 0
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        if self._reply is None:
            self._next()

    # httptools

    def on_message_begin(self) -> None:
        """Called by the parser."""
        self._url, self._lines, self._head_size, self._parts = b"", [], 0, []
        if self._reply is None:
            self._sweeps = 0

    def on_url(self, url: bytes) -> None:
        """Called by the parser."""
        self._url += url
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser."""
        self._lines.append((name.lower(), value))
        self._count(len(name) + len(value))

    def _count(self, size: int) -> None:
        self._head_size += size
        if self._head_size > MAX_HEAD and not self._ignoring:
            self._refuse_all(HttpRefusal(431, "the headers are too large"))

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        if self._ignoring:
            return
        method = self._parser.get_method().decode("ascii")
        inbound = self._inbound = Inbound(method, _path(self._url), self._lines)
        length = inbound.headers.get(b"content-length", b"0")
        if len(length) > 12 or int(length) > MAX_BODY:
            self._refuse_all(HttpRefusal(413, f"a request is at most {MAX_BODY} bytes"))
            return
        self._refusal = self._server.app.screened(inbound)
        if inbound.headers.get(b"expect", b"").lower() == b"100-continue" and not self._reply:
            self.write(_CONTINUE)

    def on_body(self, body: bytes) -> None:
        """Called by the parser."""
        if self._refusal is not None or self._ignoring:
            return
        self._held += len(body)
        if self._held > MAX_BODY:
            self._refuse_all(HttpRefusal(413, f"a request is at most {MAX_BODY} bytes"))
        elif not self._server.has_room(len(body)):
            self._held -= len(body)
            self._refuse_all(HttpRefusal(503, "too many large requests are on their way"))
        else:
            self._parts.append(body)

    def on_message_complete(self) -> None:
        """Called by the parser."""
        inbound = self._inbound
        if self._ignoring or inbound is None:
            return
        parts = self._parts
        inbound.body = parts[0] if len(parts) == 1 else b"".join(parts)
        self._inbound, self._url, self._parts = None, b"", []
        last = not self._parser.should_keep_alive() or inbound.method == "HEAD"
        self.old = self.old or self._parser.get_http_version() == "1.0"
        self._waiting.append((inbound, self._refusal, last or self.old))
        self._refusal = None
        if self._reply is None and not self.paused:
            self._next()
        elif len(self._waiting) >= MAX_WAITING and self._transport is not None:
            self._transport.pause_reading()

    # Serving

    def _next(self) -> None:
        """Serve the next request, if there is one."""
        if self.lost or not self._waiting:
            return
        inbound, refusal, last = self._waiting.popleft()
        if len(self._waiting) == MAX_WAITING - 1 and self._transport is not None:
            self._transport.resume_reading()
        self.closing = last or self._server.draining
        reply = self._reply = Reply(self, self._server.pings, self._server.loop)
        app = self._server.app
        try:
            if refusal is not None:
                reply.refuse(refusal)
            elif not app.at_once(inbound, reply):
                self.run(app.serve(inbound, reply))
        except HttpRefusal as found:
            reply.refuse(found)
        except Exception:
            log.exception("a request failed")
            self.abort()

    def run(self, work: Awaitable[None]) -> None:
        """See Wire."""
        assert self._reply is not None
        self._task = self._server.loop.create_task(self._serve(work, self._reply))

    async def _serve(self, work: Awaitable[None], reply: Reply) -> None:
        try:
            try:
                await work
            except HttpRefusal as found:
                reply.refuse(found)
        except asyncio.CancelledError:
            self.abort()
            raise
        except Exception:
            log.exception("a request failed")
            if reply.untouched:
                reply.refuse(HttpRefusal(500, "the proxy failed; see its log"))
        finally:
            if self._reply is reply:
                # An answer that was begun and can't be completed.
                reply.abandon()
                self.abort()

    def answered(self) -> None:
        """See Wire."""
        self._reply = self._task = None
        self._sweeps = 0
        if self._held:
            self._release()
        if self.closing:
            self._shut()
        elif self._waiting and not self.paused:
            self._next()

    def _release(self) -> None:
        self._server.release(self._held)
        self._held = 0

    def write(self, *parts: bytes) -> None:
        """See Wire."""
        if self.lost or self._transport is None:
            return
        if len(parts) == 1:
            self._transport.write(parts[0])
        else:
            self._transport.writelines(parts)

    async def drained(self) -> None:
        """See Wire."""
        while self.paused and not self.lost:
            if self._drained is None or self._drained.done():
                self._drained = self._server.loop.create_future()
            await asyncio.shield(self._drained)

    # Ends

    def _refuse_all(self, refusal: HttpRefusal) -> None:
        """Answer what can't be read, after what was asked before; then read no more."""
        self._ignoring = True
        inbound = self._inbound or Inbound("", "", [])
        self._inbound, self._url, self._parts = None, b"", []
        self._waiting.append((inbound, refusal, True))
        if self._reply is None and not self.paused:
            self._next()

    def _shut(self) -> None:
        """Close once everything is written; what the client still sends is read and dropped.

        A connection that is closed while the peer sends would be reset, and the answer lost.
        """
        if self._transport is None or self.lost:
            return
        if self._ignoring and self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._ignoring = True
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def drain(self) -> None:
        """The server stops: no further request after the present one."""
        self.closing = True
        if self._reply is None and not self._waiting:
            self._shut()

    def cancel(self) -> None:
        """The server can't wait any longer."""
        if self._task is not None:
            self._task.cancel()
        self.abort()

    def sweep(self) -> None:
        """Called every SWEEP_EVERY seconds: end what has lasted too long."""
        self._sweeps += 1
        if self._reply is not None:
            if not self.paused:
                self._sweeps = 0
            elif self._sweeps > STALLED_SWEEPS:
                self.abort()
        elif self._ignoring:
            if self._sweeps > 1:
                self.abort()
        elif self.idle:
            if self._sweeps > IDLE_SWEEPS:
                self._shut()
        elif self._sweeps > REQUEST_SWEEPS:
            self._refuse_all(HttpRefusal(408, "the request did not arrive in time"))


def _path(url: bytes) -> str:
    """The path of a request's target."""
    if url.startswith(b"/"):
        path = url.partition(b"?")[0]
    else:
        try:
            path = httptools.parse_url(url).path or b"/"
        except httptools.HttpParserInvalidURLError:
            path = b""
    text = path.decode("latin-1")
    return unquote(text) if "%" in text else text
