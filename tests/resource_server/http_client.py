"""HTTP/1.1 requests as bytes, so that a check can send what no library would."""

import http.client
import json
import select
import socket
import ssl
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

MAX_BODY: Final = 4 * 1024 * 1024
"""Bytes of a response body that are read."""

HeaderLine = tuple[str, str | bytes]


class NoResponse(Exception):
    """The server closed the connection, or sent no HTTP response in time."""


class _Socket(Protocol):
    def sendall(self, data: bytes, /) -> None: ...


@dataclass(frozen=True)
class Response:
    """A response whose body was read, except that of an event stream."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def all(self, name: str) -> list[str]:
        """Return the values of all lines of a header."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def first(self, name: str) -> str:
        """Return the value of the first line of a header, or ""."""
        return next(iter(self.all(name)), "")

    @property
    def text(self) -> str:
        """The body as text, whatever it is."""
        return self.body.decode("utf-8", errors="replace")

    def json(self) -> Any:
        """Return the body as JSON, or the last data of an event stream; None for anything else."""
        text = self.text
        if self.first("content-type").startswith("text/event-stream"):
            data = [line[5:].strip() for line in text.splitlines() if line.startswith("data:")]
            text = next((item for item in reversed(data) if item), "")
        try:
            return json.loads(text)
        except ValueError:
            return None

    @property
    def everything(self) -> str:
        """The headers and the body, to be searched."""
        return "\n".join([*(f"{name}: {value}" for name, value in self.headers), self.text])


@dataclass
class Stream:
    """An event stream that may still be open."""

    response: Response
    _source: http.client.HTTPResponse
    _socket: socket.socket
    _read: bytearray = field(default_factory=bytearray)

    def ends_by(self, deadline: float) -> bool:
        """Read until the stream ends or the monotonic deadline passes; True if it ended."""
        while (left := deadline - time.monotonic()) > 0:
            self._socket.settimeout(left)
            try:
                part = self._source.read1(65536)
            except TimeoutError:
                return False
            except (OSError, http.client.HTTPException, ValueError):
                return True
            if not part:
                return True
            self._read += part[: MAX_BODY - len(self._read)]
        return False

    @property
    def data(self) -> bytes:
        """Bytes that were read."""
        return bytes(self._read)


@dataclass(frozen=True)
class Address:
    """Address of the server, and the authority that its clients trust."""

    url: str
    authority: str
    """The host and port of the public URL: the default Host header."""
    timeout: float
    tls: ssl.SSLContext | None = None

    @property
    def path(self) -> str:
        """The path of the endpoint at this address."""
        return urlsplit(self.url).path or "/"

    @contextmanager
    def connect(self) -> Iterator[socket.socket]:
        """Open a connection and close it at the end. Raise NoResponse."""
        parts = urlsplit(self.url)
        secure = parts.scheme == "https"
        port = parts.port or (443 if secure else 80)
        try:
            raw = socket.create_connection((parts.hostname or "", port), self.timeout)
        except OSError as problem:
            raise NoResponse(f"cannot connect to {parts.netloc}: {problem}") from None
        with raw:
            if secure:
                context = self.tls or ssl.create_default_context()
                with context.wrap_socket(raw, server_hostname=parts.hostname) as wrapped:
                    yield wrapped
            else:
                yield raw

    def head(self, method: str, path: str, headers: Iterable[HeaderLine]) -> bytes:
        """Return a request head; Host is added unless it is given."""
        lines = list(headers)
        if not any(name.lower() == "host" for name, _ in lines):
            lines.insert(0, ("Host", self.authority))
        parts = [f"{method} {path} HTTP/1.1\r\n".encode("latin-1")]
        for name, value in lines:
            data = value if isinstance(value, bytes) else value.encode("latin-1")
            parts.append(name.encode("latin-1") + b": " + data + b"\r\n")
        return b"".join([*parts, b"\r\n"])

    def request(
        self, method: str, path: str, headers: Iterable[HeaderLine] = (), body: bytes = b""
    ) -> Response:
        """Send a request on a connection of its own and read the response. Raise NoResponse."""
        lines = [*headers, ("Connection", "close")]
        if body and not any(name.lower() == "transfer-encoding" for name, _ in lines):
            lines.append(("Content-Length", str(len(body))))
        with self.connect() as connection:
            return exchange(connection, self.head(method, path, lines) + body, method)

    @contextmanager
    def stream(
        self, method: str, path: str, headers: Iterable[HeaderLine], body: bytes = b""
    ) -> Iterator[Stream]:
        """Send a request and yield its response with the body unread. Raise NoResponse."""
        lines = [*headers, ("Content-Length", str(len(body)))] if body else list(headers)
        with self.connect() as connection:
            _send(connection, self.head(method, path, lines) + body)
            source = _begin(connection, method)
            with source:
                response = Response(source.status, tuple(source.getheaders()), b"")
                yield Stream(response, source, connection)


def _send(connection: _Socket, data: bytes) -> None:
    # A server may respond and close while it is still being sent to; its response counts.
    try:
        connection.sendall(data)
    except (BrokenPipeError, ConnectionResetError):
        return
    except OSError as problem:
        raise NoResponse(f"the request could not be sent: {problem}") from None


def _begin(connection: socket.socket, method: str) -> http.client.HTTPResponse:
    source = http.client.HTTPResponse(connection, method=method)
    try:
        source.begin()
    except (OSError, http.client.HTTPException) as problem:
        source.close()
        raise NoResponse(f"no HTTP response: {type(problem).__name__}: {problem}") from None
    return source


def exchange(connection: socket.socket, data: bytes, method: str = "POST") -> Response:
    """Send bytes and read one response. An event stream is read up to the response in it."""
    _send(connection, data)
    with _begin(connection, method) as source:
        kind = source.getheader("content-type") or ""
        headers = tuple(source.getheaders())
        if kind.startswith("text/event-stream") and source.status == 200:
            return Response(source.status, headers, _first_events(source, connection))
        try:
            body = source.read(MAX_BODY)
        except http.client.IncompleteRead as part:
            body = part.partial
        except OSError:
            body = b""
        return Response(source.status, headers, body)


def _first_events(source: http.client.HTTPResponse, connection: socket.socket) -> bytes:
    read = bytearray()
    deadline = time.monotonic() + (connection.gettimeout() or 0.0)
    while len(read) < MAX_BODY and time.monotonic() < deadline:
        # A response to the request ends the stream, so this waits only for streams that go on.
        if b'"result"' in read or b'"error"' in read:
            break
        try:
            part = source.read1(65536)
        except (OSError, http.client.HTTPException):
            break
        if not part:
            break
        read += part
    return bytes(read)


def is_closed(connection: socket.socket, within: float) -> bool:
    """True if the server closes the connection in time without sending more."""
    ready, _, _ = select.select([connection], [], [], within)
    return bool(ready) and not connection.recv(1)
