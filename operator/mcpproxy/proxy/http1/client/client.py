"""HTTP/1.1 client: a pool of persistent connections to one origin.

The client retries nothing on its own: only the caller knows if a request may be sent twice.
"""

import asyncio
import collections
import errno
import itertools
import os
import re
import socket
import ssl
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from typing import Final
from urllib.parse import quote, urljoin, urlsplit

from mcpproxy.limits.backends import CONNECTIONS, IDLE_CONNECTIONS, REDIRECTS
from mcpproxy.proxy.fair_shares import FairShares, Holder
from mcpproxy.proxy.http1.client.connection import ClientConnection, ClientResponse, KnownHead
from mcpproxy.proxy.http1.client.cookies import one_cookie_line
from mcpproxy.proxy.http1.errors import (
    ConnectError,
    ConnectionLost,
    ConnectTimeout,
    InvalidRedirect,
    TooManyConnections,
)
from mcpproxy.proxy.http1.head_cache import HeadCache
from mcpproxy.proxy.timers import TimerQueue

_UNKNOWN_AUTHORITY: Final = frozenset({18, 19, 20, 21})
"""OpenSSL's codes for a certificate that is self-signed or of an authority that is not trusted."""
KEPT_FOR: Final = 4.0
"""Seconds for which an idle connection is reused. Common servers close theirs after 5 seconds, and
a request on a connection that the server is closing would be lost."""
asking: Final[ContextVar[Holder]] = ContextVar("asking", default=("", "proxy"))
"""Holder of a new connection; by default the proxy itself."""
_NUMBERS: Final = re.compile(r"\[Errno (\d+)\]")
CLOSED_BEHIND: Final = 0.05
"""Seconds after a response in which a server closes a connection if it closes each of them."""
UNCHECKED_FOR: Final = 0.001
"""Seconds after a response in which a connection is reused without asking the system whether the
server has closed it, or has sent more. The event loop knows later than the system, above all when
it is busy."""
UNKEPT_FOR: Final = 60.0
"""Seconds for which no connection is reused after a server closed one like that."""
RESPONSE_TIME: Final = 300.0
"""Seconds after which a callback for a response is called without it, unless the client is made
for another time."""
_IDENTITY: Final = b"\r\naccept-encoding: identity"
_UNQUOTED: Final = "%/:=&?~+!$,;'@()*[]"

Headers = Iterable[tuple[bytes, bytes]]


class Origin:
    """Scheme, host, port and path of a URL, and their form in a request."""

    def __init__(self, url: str, resolve: Mapping[str, str] | None = None) -> None:
        """`resolve` maps hosts to the `host:port` to connect to instead."""
        parts = urlsplit(url)
        self.secure = parts.scheme == "https"
        self.host = parts.hostname or ""
        self.port = parts.port or (443 if self.secure else 80)
        query = f"?{parts.query}" if parts.query else ""
        self.path = quote((parts.path or "/") + query, safe=_UNQUOTED)
        netloc = parts.netloc.rpartition("@")[2]
        self.authority = netloc.encode("ascii" if netloc.isascii() else "idna")
        target = (resolve or {}).get(self.host)
        host, _, port = (target or "").rpartition(":")
        self.address = (host.strip("[]"), int(port)) if target else (self.host, self.port)

    def same(self, other: "Origin") -> bool:
        """True if both have the same origin (RFC 6454)."""
        mine = (self.secure, self.host, self.port)
        return mine == (other.secure, other.host, other.port)


class _RunningLoop:
    """Clock of the running event loop, for clients that are created before it."""

    def time(self) -> float:
        return asyncio.get_running_loop().time()

    def call_at(self, when: float, callback: Callable[[], object], /) -> object:
        return asyncio.get_running_loop().call_at(when, callback)


class HttpClient:
    """Client of one origin."""

    def __init__(
        self,
        url: str,
        connect_timeout: float,
        tls: Callable[[], ssl.SSLContext] | None = None,
        resolve: Mapping[str, str] | None = None,
        server_name: str | None = None,
        kept_for: float = KEPT_FOR,
        response_time: float = RESPONSE_TIME,
    ) -> None:
        """Create a client of the origin of `url`.

        `connect_timeout` is in seconds. `tls` returns the context of the next https connection.
        The certificate must have the name `server_name`, by default the host. `kept_for` is the
        number of seconds for which an idle connection is reused. `response_time` is the number of
        seconds after which `ClientConnection.begin` calls its callback without a response.
        """
        self.url = url
        self._resolve = resolve
        self.origin = Origin(url, resolve)
        self._connect_timeout = connect_timeout
        self._tls = tls if self.origin.secure else None
        self._server_name = server_name or self.origin.host
        self._kept_for = kept_for
        self._overdue = TimerQueue(_RunningLoop(), response_time)
        """Timers of the connections that `take` returned, which expire without a response."""
        self._idle: collections.deque[ClientConnection] = collections.deque()
        self._all: dict[ClientConnection, int] = {}
        """All connections, with their numbers in `_shares`."""
        self._shares: FairShares[int] = FairShares(CONNECTIONS.value)
        """Holders of the connections that are open or being opened."""
        self._numbers = itertools.count(1)
        self._heads: HeadCache[KnownHead] = HeadCache()
        self._closed = False
        self._unkept_until = float("-inf")
        """Time of the loop until which no connection is reused."""
        self._renewals = 0
        self.connects, self.connect_seconds = 0, 0.0
        """Number of connections that were opened or failed, and the time that it took."""

    async def request(
        self, method: bytes, headers: Headers, body: bytes = b"", path: str | None = None
    ) -> ClientResponse:
        """Send a request to the URL, or to another path of its origin.

        Follows redirects within the origin that keep the method. Raises HttpClientError, and the
        errors of `tls`.
        """
        target = self.origin.path if path is None else path
        response = await self.send(self.head(method, target, headers), body)
        return await self.followed(response, method, target, headers, body)

    async def followed(
        self, response: ClientResponse, method: bytes, target: str, headers: Headers, body: bytes
    ) -> ClientResponse:
        """Follow the redirects that `response` begins, and return the last response."""
        for _ in range(REDIRECTS.value):
            if response.status not in (307, 308):
                return response
            location = response.headers.get(b"location", b"").decode("latin-1")
            response.close()
            target = self.path_of(f"{self._base}{target}", location)
            response = await self.send(self.head(method, target, headers), body)
        REDIRECTS.record()
        raise InvalidRedirect("too many redirects")

    async def send(self, head: bytes, body: bytes) -> ClientResponse:
        """Send a request with a head from `head`, without following redirects."""
        bare = not body and not head.startswith(b"POST")
        return await self.sent(head + b"\r\n" if bare else encode_request(head, body))

    async def sent(self, request: bytes, *, again: bool = False) -> ClientResponse:
        """Send an encoded request and return the response, once its head has arrived.

        If `again`, a request that is lost with a reused connection is sent on a new one.
        """
        connection = self.take()
        if connection is not None:
            try:
                return await connection.send(request)
            except ConnectionLost:
                if not again:
                    raise
        return await (await self.connect()).send(request)

    def path_of(self, base: str, reference: str) -> str:
        """Resolve a reference of the server to a path. Raises InvalidRedirect."""
        try:
            there = Origin(urljoin(base, reference))
        except ValueError:
            raise InvalidRedirect("the server sent an invalid URL") from None
        if not reference or not there.same(self.origin):
            raise InvalidRedirect(
                "the server sent a URL of another origin, which the proxy does not follow"
            )
        return there.path

    @property
    def _base(self) -> str:
        scheme = "https" if self.origin.secure else "http"
        return f"{scheme}://{self.origin.authority.decode('ascii')}"

    def head(self, method: bytes, target: str, headers: Headers) -> bytes:
        """Encode the head of a request, except the length of its body.

        The request accepts no content coding unless `headers` say so: without the field, all of
        them would be acceptable (RFC 9110, section 12.5.3). All cookies are in one line.
        """
        lines = [b"%b %b HTTP/1.1\r\nhost: %b" % (method, target.encode(), self.origin.authority)]
        lines += [b"%b: %b" % header for header in headers]
        head = b"\r\n".join(lines)
        names = head.lower()
        if names.count(b"\ncookie:") > 1:
            return self.head(method, target, one_cookie_line(headers))
        if b"\naccept-encoding:" not in names:
            head += _IDENTITY
        return head + b"\r\n"

    def take(self) -> ClientConnection | None:
        """Return an idle connection, or None."""
        if not self._idle:
            return None
        now, overdue = self._idle[-1].loop.time(), self._overdue
        oldest = now - self._kept_for
        while self._idle:
            connection = self._idle.pop()
            if not connection.lost:
                idle_since = connection.idle_since
                if idle_since > oldest and (
                    idle_since > now - UNCHECKED_FOR or connection.can_be_reused()
                ):
                    overdue.running[connection] = due = now + overdue.seconds
                    if not overdue.ticking:
                        overdue.tick_at(due)
                    return connection
                connection.abort()
        return None

    async def connect(self) -> ClientConnection:
        """Open a connection.

        Raises TooManyConnections, ConnectError, ConnectTimeout, and the errors of `tls`.
        """
        holder = asking.get()
        if not self._shares.admits(holder):
            CONNECTIONS.record()
            raise TooManyConnections(f"{len(self._shares)} connections are already open")
        number, began = next(self._numbers), asyncio.get_running_loop().time()
        self._shares.add(number, holder)
        try:
            return await self._connected(number)
        except BaseException:
            self._shares.discard(number)
            raise
        finally:
            self.connects += 1
            self.connect_seconds += asyncio.get_running_loop().time() - began

    @property
    def answered_at(self) -> float:
        """Time of the loop at which the last response on an open connection was complete."""
        return max((connection.idle_since for connection in self._all), default=float("-inf"))

    @property
    def _opening(self) -> int:
        """Number of connections that are being opened."""
        return len(self._shares) - len(self._all)

    def _forget(self, connection: ClientConnection) -> None:
        self._overdue.running.pop(connection, None)
        number = self._all.pop(connection, None)
        if number is not None:
            self._shares.discard(number)

    async def _connected(self, number: int) -> ClientConnection:
        loop = asyncio.get_running_loop()
        tls = self._tls() if self._tls else None
        renewals = self._renewals
        host, port = self.origin.address
        try:
            async with asyncio.timeout(self._connect_timeout):
                _, connection = await loop.create_connection(
                    lambda: ClientConnection(loop, self._heads),
                    host,
                    port,
                    ssl=tls,
                    server_hostname=self._server_name if tls else None,
                )
        except TimeoutError:
            why = f"no connection within {self._connect_timeout:g} s"
            raise ConnectTimeout(why, detail=self._at(why)) from None
        except OSError as error:
            why = _why(error)
            raise ConnectError(why, detail=self._at(why)) from None
        if connection.lost:
            self._shares.discard(number)
        else:
            self._all[connection] = number
        connection.notify_when_free(self._freed if renewals == self._renewals else self._retired)
        return connection

    def _at(self, why: str) -> str:
        host, port = self.origin.address
        return f"[{host}]:{port}: {why}" if ":" in host else f"{host}:{port}: {why}"

    def renew(self) -> None:
        """Reuse no existing connection, because `tls` returns another context.

        Responses in progress are still received.
        """
        self._renewals += 1
        while self._idle:
            self._idle.pop().abort()
        for connection in self._all:
            # So no request has to check the age of its connection.
            connection.notify_when_free(self._retired)

    def _retired(self, connection: ClientConnection) -> None:
        if connection.lost:
            self._forget(connection)
        else:
            connection.abort()

    def _freed(self, connection: ClientConnection) -> None:
        self._overdue.running.pop(connection, None)
        if connection.lost:
            self._forget(connection)
            self._lost(connection, connection.loop.time())
        elif self._closed or connection.idle_since < self._unkept_until:
            connection.abort()
        elif len(self._idle) >= IDLE_CONNECTIONS.value:
            IDLE_CONNECTIONS.record()
            connection.abort()
        else:
            self._idle.append(connection)

    def _lost(self, connection: ClientConnection, now: float) -> None:
        """Stop reusing connections if the server closed one right after a response.

        Such servers do so after each response without announcing it, so that a request on a
        reused connection would be lost.
        """
        if connection.dropped and connection.idle_since > now - CLOSED_BEHIND:
            self._unkept_until = now + UNKEPT_FOR

    def close(self) -> None:
        """Close every connection."""
        self._closed = True
        for connection in list(self._all):
            connection.abort()


def encode_request(head: bytes, body: bytes) -> bytes:
    """Encode a request from a head of `HttpClient.head` and a body."""
    return b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body)


def _why(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        why = getattr(error, "verify_message", None) or error.reason or "handshake"
        remedy = ""
        if getattr(error, "verify_code", 0) in _UNKNOWN_AUTHORITY:
            remedy = "; name the authority of the certificate in caFrom"
        return f"TLS failed: {why}{remedy}"
    if isinstance(error, socket.gaierror):
        return "the host name does not resolve"
    # If a name has several addresses, only the text of the error contains the numbers.
    numbers = {error.errno} if error.errno else set(map(int, _NUMBERS.findall(str(error))))
    if numbers == {errno.ECONNREFUSED}:
        return "connection refused"
    if numbers:
        return f"no connection: {os.strerror(min(numbers))}"
    return f"no connection: {type(error).__name__}"
