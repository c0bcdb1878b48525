"""A thin HTTP/1.1 client: one pool of kept connections and one TLS context for each backend.

Nothing here retries: whether a request may be sent again is for the caller to know.
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

from mcpproxy.api.authority import join_host_port
from mcpproxy.limits.backends import CONNECTIONS, IDLE_CONNECTIONS, REDIRECTS
from mcpproxy.proxy.core.errors import TimedOut, TooManySessions, Unreachable
from mcpproxy.proxy.fair_shares import FairShares, Holder
from mcpproxy.proxy.http1.client.connection import ClientConnection, KnownHead
from mcpproxy.proxy.http1.client.cookies import one_cookie_line
from mcpproxy.proxy.http1.client.response import ClientResponse
from mcpproxy.proxy.http1.head_cache import HeadCache

KEPT_FOR: Final = 4.0
"""Seconds that an idle connection is used again. Shorter than the 5 seconds after which common
servers close theirs, so that no request is lost to a connection that is just being closed."""
asking: Final[ContextVar[Holder]] = ContextVar("asking", default=("", "proxy"))
"""Whose request it is that may need another connection; the proxy's own, where it is nobody's."""
_NUMBERS: Final = re.compile(r"\[Errno (\d+)\]")
CLOSED_BEHIND: Final = 0.05
"""Seconds after an answer in which a server that closes the connection does so behind each one."""
UNKEPT_FOR: Final = 60.0
_IDENTITY: Final = b"\r\naccept-encoding: identity"
_UNQUOTED: Final = "%/:=&?~+!$,;'@()*[]"

Headers = Iterable[tuple[bytes, bytes]]


class Origin:
    """Where a URL points: scheme, host, port and path, and how they are written in a request."""

    def __init__(self, url: str, resolve: Mapping[str, str] | None = None) -> None:
        """`resolve` maps `host` to the `host:port` to connect to in its place."""
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
        """Whether both are one origin (RFC 6454)."""
        mine = (self.secure, self.host, self.port)
        return mine == (other.secure, other.host, other.port)


class HttpClient:
    """Requests to one origin."""

    def __init__(
        self,
        url: str,
        connect_timeout: float,
        tls: Callable[[], ssl.SSLContext] | None = None,
        resolve: Mapping[str, str] | None = None,
        server_name: str | None = None,
        kept_for: float = KEPT_FOR,
    ) -> None:
        """`connect_timeout` is in seconds; `tls` gives what the next https connection is made
        with, `server_name` the name that the certificate must have in place of the host's;
        `kept_for` is how many seconds an idle connection is reused."""
        self.url = url
        self._resolve = resolve
        self.origin = Origin(url, resolve)
        self._connect_timeout = connect_timeout
        self._tls = tls if self.origin.secure else None
        self._server_name = server_name or self.origin.host
        self._kept_for = kept_for
        self._idle: collections.deque[ClientConnection] = collections.deque()
        self._all: dict[ClientConnection, int] = {}
        """Connections and their numbers in `_shares`."""
        self._shares: FairShares[int] = FairShares(CONNECTIONS.value)
        """Whose the connections are that are open or being opened."""
        self._numbers = itertools.count(1)
        self._heads: HeadCache[KnownHead] = HeadCache()
        self._closed = False
        self._unkept_until = float("-inf")
        """Up to which time no connection serves a second request."""
        self._renewals = 0

    async def request(
        self, method: bytes, headers: Headers, body: bytes = b"", path: str | None = None
    ) -> ClientResponse:
        """Send one request to the URL (or another path of its origin).

        Follows redirects within the origin that keep the method. Raises Unreachable, TimedOut
        (no connection in time), ProtocolError.
        """
        target = self.origin.path if path is None else path
        response = await self.send(self.head(method, target, headers), body)
        return await self.followed(response, method, target, headers, body)

    async def followed(
        self, response: ClientResponse, method: bytes, target: str, headers: Headers, body: bytes
    ) -> ClientResponse:
        """The answer to a request, behind the redirects that it may have been answered with."""
        for _ in range(REDIRECTS.value):
            if response.status not in (307, 308):
                return response
            location = response.headers.get(b"location", b"").decode("latin-1")
            response.close()
            target = self.path_of(f"{self._base}{target}", location)
            response = await self.send(self.head(method, target, headers), body)
        REDIRECTS.record()
        raise Unreachable("it redirects in a circle")

    async def send(self, head: bytes, body: bytes) -> ClientResponse:
        """Send a request whose head was made with `head`; redirects are not followed."""
        bare = not body and not head.startswith(b"POST")
        return await self.sent(head + b"\r\n" if bare else encode_request(head, body))

    async def sent(self, request: bytes, *, again: bool = False) -> ClientResponse:
        """The answer to a request; where that may be sent `again`, a connection that was used
        before and is lost is none of its failures."""
        connection = self.take()
        if connection is not None:
            try:
                return await connection.send(request)
            except Unreachable:
                if not again:
                    raise
        return await (await self.connect()).send(request)

    def path_of(self, base: str, reference: str) -> str:
        """The path that a reference of the server leads to. Raises Unreachable when it leads
        to another origin, or nowhere."""
        try:
            there = Origin(urljoin(base, reference))
        except ValueError:
            raise Unreachable("it points to what is no URL") from None
        if not reference or not there.same(self.origin):
            raise Unreachable("it points to another origin, where we do not follow")
        return there.path

    @property
    def _base(self) -> str:
        scheme = "https" if self.origin.secure else "http"
        return f"{scheme}://{self.origin.authority.decode('ascii')}"

    def head(self, method: bytes, target: str, headers: Headers) -> bytes:
        """The head of a request, but for the length of its body.

        It accepts no content coding unless `headers` say so: without the field, any of them would
        be acceptable (RFC 9110, section 12.5.3). All cookies are in one line.
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
        """A connection that is free."""
        if not self._idle:
            return None
        oldest = self._idle[-1].loop.time() - self._kept_for
        while self._idle:
            connection = self._idle.pop()
            if not connection.lost:
                if connection.idle_since > oldest:
                    return connection
                connection.abort()
        return None

    async def connect(self) -> ClientConnection:
        """A new connection. Raises Overloaded, Unreachable, TimedOut, and what `tls` raises."""
        holder = asking.get()
        if not self._shares.admits(holder):
            CONNECTIONS.record()
            raise TooManySessions(
                f"{len(self._shares)} connections are open with it already"
            ).unsent()
        number = next(self._numbers)
        self._shares.add(number, holder)
        try:
            return await self._connected(number)
        except BaseException:
            self._shares.discard(number)
            raise

    @property
    def _opening(self) -> int:
        """Connections that are being opened."""
        return len(self._shares) - len(self._all)

    def _forget(self, connection: ClientConnection) -> None:
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
            raise TimedOut(why, finding=self._at(why)).unsent() from None
        except OSError as error:
            why = _why(error)
            raise Unreachable(why, finding=self._at(why)).unsent() from None
        if connection.lost:
            self._shares.discard(number)
        else:
            self._all[connection] = number
        connection.on_free = self._freed if renewals == self._renewals else self._retired
        return connection

    def _at(self, why: str) -> str:
        host, port = self.origin.address
        return f"{join_host_port(host, port)}: {why}"

    def renew(self) -> None:
        """What `tls` gives has changed: no connection that there is serves another request.

        Answers that are on their way still come.
        """
        self._renewals += 1
        while self._idle:
            self._idle.pop().abort()
        for connection in self._all:
            # No call has to look at how old its connection is.
            connection.on_free = self._retired

    def _retired(self, connection: ClientConnection) -> None:
        if connection.lost:
            self._forget(connection)
        else:
            connection.abort()

    def _freed(self, connection: ClientConnection) -> None:
        now = connection.loop.time()
        if connection.lost:
            self._forget(connection)
            self._lost(connection, now)
        elif self._closed or now < self._unkept_until:
            connection.abort()
        elif len(self._idle) >= IDLE_CONNECTIONS.value:
            IDLE_CONNECTIONS.record()
            connection.abort()
        else:
            connection.idle_since = now
            self._idle.append(connection)

    def _lost(self, connection: ClientConnection, now: float) -> None:
        """Some servers close a connection right behind each answer and do not say so: what is
        sent over it meanwhile would be lost."""
        if connection.dropped and connection.idle_since > now - CLOSED_BEHIND:
            self._unkept_until = now + UNKEPT_FOR

    def close(self) -> None:
        """Close every connection."""
        self._closed = True
        for connection in list(self._all):
            connection.abort()


def encode_request(head: bytes, body: bytes) -> bytes:
    """A request from its head, as `HttpClient.head` makes it, and its body."""
    return b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body)


def _why(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        why = getattr(error, "verify_message", None) or error.reason or "handshake"
        return f"TLS failed: {why}"
    if isinstance(error, socket.gaierror):
        return "its name does not resolve"
    # Where a name has several addresses, the numbers are in the text of the error alone.
    numbers = {error.errno} if error.errno else set(map(int, _NUMBERS.findall(str(error))))
    if numbers == {errno.ECONNREFUSED}:
        return "connection refused"
    if numbers:
        return f"no connection: {os.strerror(min(numbers))}"
    return f"no connection: {type(error).__name__}"
