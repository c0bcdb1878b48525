"""ASGI requests as connections of the HTTP server, within the process.

Each request becomes a connection that carries this request alone, so that all limits and checks of
the server apply to it. The ASGI server only reads and writes the network.
"""

import asyncio
import re
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final
from urllib.parse import quote

import httptools

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]

MAX_UNSENT: Final = 64 * 1024
"""Bytes of a response from which on the writer waits for the client."""
_SAFE: Final = "/!$&'()*+,;=:@~-._"
_REQUEST_ONLY: Final = frozenset(
    (b"connection", b"content-length", b"expect", b"keep-alive", b"transfer-encoding", b"upgrade")
)
"""Headers of the connection to the ASGI server, and those that describe the length of the body."""
_RESPONSE_ONLY: Final = frozenset((b"connection", b"transfer-encoding"))
_WELL_KNOWN: Final = "/.well-known/"
_INCOMPLETE: Final = "the response ended before it was complete"
_BAD_REQUEST: Final = 400
_UNAVAILABLE: Final = 503


def target_of(scope: Scope) -> str:
    """Return the path of a request, as the endpoint knows it.

    It is relative to the place where the application is mounted. Paths of metadata have a fixed
    place on a host (RFC 8615), so they are absolute.
    """
    path, root = str(scope["path"]), str(scope.get("root_path", "")).rstrip("/")
    if path.startswith(_WELL_KNOWN):
        return path
    return path[len(root) :] or "/" if path == root or path.startswith(f"{root}/") else path


def _is_readable(scope: Scope) -> bool:
    """True if nothing in the head of a request could be read as something else."""
    fields = [part for header in scope["headers"] for part in header]
    names = [name for name, _ in scope["headers"]]
    return (
        re.fullmatch(r"[A-Z]+", scope["method"]) is not None
        and not any(re.search(rb"[\r\n\0]", field) for field in fields)
        and not any(re.search(rb"[\s:]", name) or not name for name in names)
    )


def _head_of(scope: Scope, length: bytes) -> bytes:
    """Return the head of a request in HTTP/1.1."""
    target = quote(target_of(scope), safe=_SAFE, errors="surrogatepass").encode("ascii")
    lines = [b"%b %b HTTP/1.1" % (scope["method"].encode("ascii"), target)]
    for name, value in scope["headers"]:
        if name.lower() not in _REQUEST_ONLY:
            lines.append(b"%b: %b" % (name, value))
    return b"\r\n".join([*lines, length, b"", b""])


class AsgiTransport(asyncio.Transport):
    """The network of one request, with the response as events of ASGI."""

    def __init__(self, protocol: asyncio.Protocol, scope: Scope) -> None:
        super().__init__({"peername": tuple(scope["client"])} if scope.get("client") else {})
        self._protocol = protocol
        self._is_head = scope["method"] == "HEAD"
        self._parser = httptools.HttpResponseParser(self)
        self._headers: list[tuple[bytes, bytes]] = []
        self._events: deque[Event] = deque()
        self._changed = asyncio.Event()
        self._may_read = asyncio.Event()
        self._may_read.set()
        self._unsent = 0
        self._paused = False
        self._complete = False
        self._closed = False
        self._begun = False
        self.aborted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Completed when the server ends the connection without the end of a response that has
        begun, such as that of a client that does not take it."""
        self._ended = False
        """True once the server knows that the client has disconnected."""

    # Output of the server

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not (self._closed or self._complete):
            self._parser.feed_data(data)
            self._changed.set()
            if self._unsent > MAX_UNSENT and not self._paused:
                self._paused = True
                self._protocol.pause_writing()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        for data in list_of_data:
            self.write(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header of the response."""
        if name.lower() not in _RESPONSE_ONLY:
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Begin the response."""
        status = self._parser.get_status_code()
        headers, self._headers = self._headers, []
        self._events.append(
            {"type": "http.response.start", "status": status, "headers": headers},
        )
        if self._is_head:
            self.on_message_complete()

    def on_body(self, body: bytes) -> None:
        """Continue the response."""
        self._unsent += len(body)
        self._events.append({"type": "http.response.body", "body": body, "more_body": True})

    def on_message_complete(self) -> None:
        """End the response."""
        if not self._complete:
            self._complete = True
            self._events.append({"type": "http.response.body", "body": b"", "more_body": False})

    def get_write_buffer_size(self) -> int:
        return self._unsent

    def can_write_eof(self) -> bool:
        return False

    def is_closing(self) -> bool:
        return self._closed

    def close(self) -> None:
        self._closed = True
        self._may_read.set()
        self._changed.set()

    def abort(self) -> None:
        self.close()
        if self._begun and not self.aborted.done():
            self.aborted.set_result(None)

    def pause_reading(self) -> None:
        self._may_read.clear()

    def resume_reading(self) -> None:
        self._may_read.set()

    # Input of the ASGI server

    async def feed(self, scope: Scope, receive: Receive) -> None:
        """Pass the request to the server, and its end when the client disconnects."""
        event = await receive()
        body, is_more = event.get("body", b""), event.get("more_body", False)
        if event["type"] == "http.request":
            length = b"transfer-encoding: chunked" if is_more else b"content-length: %d" % len(body)
            self._protocol.data_received(_head_of(scope, length) + (b"" if is_more else body))
        while is_more and event["type"] == "http.request":
            if body:
                self._protocol.data_received(b"%x\r\n%b\r\n" % (len(body), body))
            await self._may_read.wait()
            event = await receive()
            body, is_more = event.get("body", b""), event.get("more_body", False)
            if event["type"] == "http.request" and not is_more:
                last = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
                self._protocol.data_received(last + b"0\r\n\r\n")
        while event["type"] != "http.disconnect":
            event = await receive()
        self.disconnect()

    def disconnect(self) -> None:
        """Tell the server that the client has disconnected."""
        if not self._ended:
            self._ended = True
            self._closed = True
            self._changed.set()
            self._protocol.connection_lost(None)

    # Output to the ASGI server

    async def deliver(self, send: Send) -> None:
        """Send the response as it is written, until it is complete or cannot be completed.

        Raise ConnectionAbortedError if the server ended a response that had begun.
        """
        while True:
            while self._events:
                event = self._events.popleft()
                self._begun = True
                await send(event)
                self._count_sent(len(event.get("body", b"")))
                if event.get("more_body") is False:
                    return
            if self._closed:
                break
            self._changed.clear()
            await self._changed.wait()
        if self._ended:
            return
        if self._begun:
            raise ConnectionAbortedError(_INCOMPLETE)
        await _refuse(send, _UNAVAILABLE, (b"retry-after", b"1"))

    def _count_sent(self, size: int) -> None:
        self._unsent -= size
        if self._paused and self._unsent <= MAX_UNSENT // 2 and not self._ended:
            self._paused = False
            self._protocol.resume_writing()


async def _refuse(send: Send, status: int, *headers: tuple[bytes, bytes]) -> None:
    """Send a response without a body."""
    lines = [*headers, (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": status, "headers": lines})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def serve_request(
    protocol: asyncio.Protocol, scope: Scope, receive: Receive, send: Send
) -> None:
    """Serve one request of ASGI as the only one of a new connection."""
    if not _is_readable(scope):
        await _refuse(send, _BAD_REQUEST)
        return
    transport = AsgiTransport(protocol, scope)
    protocol.connection_made(transport)
    feeding = asyncio.create_task(transport.feed(scope, receive))
    delivering = asyncio.create_task(transport.deliver(send))
    try:
        ends: list[asyncio.Future[None]] = [feeding, delivering, transport.aborted]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if feeding.done():
            # Without the request there is no response.
            feeding.result()
        if transport.aborted.done() and not delivering.done():
            raise ConnectionAbortedError(_INCOMPLETE)
        await delivering
    finally:
        for task in (feeding, delivering):
            task.cancel()
        await asyncio.gather(feeding, delivering, return_exceptions=True)
        transport.disconnect()
