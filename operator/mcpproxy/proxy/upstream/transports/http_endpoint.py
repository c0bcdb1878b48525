"""MCP endpoint of a backend over HTTP: its requests, and how its responses are read."""

import copy
import re
from collections.abc import Callable
from typing import Final

from mcpproxy.limits.backends import OWN_REQUEST_TIME
from mcpproxy.proxy.core.errors import (
    BackendError,
    HostRefused,
    HttpFailed,
    TimedOut,
)
from mcpproxy.proxy.core.exchange import BackendCredentials, ClientIdentity
from mcpproxy.proxy.http1.client.client import Headers, HttpClient, encode_request
from mcpproxy.proxy.http1.client.connection import ClientResponse
from mcpproxy.proxy.http1.client.content_codings import decode_response
from mcpproxy.proxy.http1.client.cookies import cookies_of
from mcpproxy.proxy.http1.errors import ConnectError, ConnectionLost
from mcpproxy.proxy.protocol import headers as h
from mcpproxy.proxy.time_limits import TimeLimit
from mcpproxy.proxy.upstream.http_errors import BACKEND_ERRORS, check_status, first_words
from mcpproxy.proxy.upstream.json_responses import failed
from mcpproxy.proxy.upstream.transports.event_stream import (
    SseMessageReader,
    StandaloneActivity,
    new_line_rate,
    new_unrelated_rate,
)

MAX_HEADS: Final = 1024
"""Encoded request heads that are cached."""
MAX_SERVED: Final = 1024
"""Clients whose endpoint is cached."""
_ACCEPT_BOTH: Final = (b"accept", b"application/json, text/event-stream")
_ACCEPT_SSE: Final = (b"accept", h.EVENT_STREAM)
_AUTHORIZATION: Final = b"authorization"
_JSON: Final = (b"content-type", h.JSON)
Lines = tuple[tuple[bytes, bytes], ...]
Challenged = Callable[[int, bytes, tuple[bytes, bytes] | None], bool]
"""Called for a refusal (401 or 403): its status, its WWW-Authenticate and the credentials that were
sent. Returns True if others may help."""
_REFUSALS: Final = (401, 403)
_REFUSES_HOST: Final = (403, 421)
_INVALID_HOST: Final = re.compile(r"\binvalid host\b", re.IGNORECASE)


class McpHttpClient:
    """MCP endpoint of a backend: an HTTP client and the configured headers."""

    def __init__(
        self,
        client: HttpClient,
        configured: Callable[[], Lines],
        passed: frozenset[bytes] = frozenset(),
        credentials: BackendCredentials | None = None,
        on_challenge: Challenged | None = None,
    ) -> None:
        """`passed` are the names of client headers that are forwarded to the backend.

        `credentials` are those with which the backend is called, apart from headers.
        `on_challenge` is called for 401 and 403 in place of them.
        """
        self.client = client
        self._passed = passed
        self._on_challenge = on_challenge
        self._credentials = credentials
        """The credentials for the client that this endpoint serves."""
        self._every = credentials
        """The credentials for all clients."""
        self.by_client = bool(passed) or (credentials is not None and credentials.by_caller)
        """True if requests of different clients have different headers."""
        self._own: Lines = ()
        """The forwarded headers of the client that this endpoint serves."""
        self._configured = configured
        self._client: ClientIdentity | None = None
        self._served: dict[int, McpHttpClient] = {}
        """Endpoints by the identity of clients; all copies share them."""
        self._in_time = TimeLimit(OWN_REQUEST_TIME.value)
        self.line_rate, self.unrelated_rate = new_line_rate(), new_unrelated_rate()
        """Rates at which event streams are read."""
        self.standalone = StandaloneActivity()
        self._heads: dict[tuple[bytes, str, Lines, Lines], bytes] = {}
        self._kept: tuple[str, Lines, Lines, bytes] = ("", (), (), b"")
        """The latest head of a POST, which needs no comparison of all headers."""
        self._sent: tuple[Lines, tuple[bytes, bytes] | None, Lines] = ((), None, ())
        """The latest headers and credentials, and the header fields that they make."""

    async def close(self) -> None:
        """Close every connection, and end the work of the credentials."""
        if self._every is not None:
            await self._every.close()
        self.client.close()

    def of(self, client: ClientIdentity) -> "McpHttpClient":
        """Return the endpoint for requests with the headers and credentials of this client."""
        if not self.by_client:
            return self
        served = self._served.get(id(client))
        if not (served and served._client is client and served._configured is self._configured):
            served = self._add_served(client)
        every, credentials = self._every, served._credentials
        if every is not None:
            # Again for each request, because the credentials of callers are discarded in time.
            latest = every.latest
            if latest is None or latest is not credentials or latest.subject is not client.identity:
                credentials = every.of(client)
                if served._credentials is not credentials:
                    served._serve(client, credentials)
        return served

    def _add_served(self, client: ClientIdentity) -> "McpHttpClient":
        if len(self._served) >= MAX_SERVED:
            self._served.clear()
        endpoint = self._served[id(client)] = copy.copy(self)
        endpoint._serve(client, self._every)
        return endpoint

    def _serve(self, client: ClientIdentity, credentials: BackendCredentials | None) -> None:
        """Take the headers and credentials of a client."""
        self._client, self._own = client, client.having(self._passed)
        self._credentials = credentials

    def cookies_of(self, response: ClientResponse) -> bytes:
        """Return the cookies for the session that began with this response."""
        set_cookie, origin = response.headers.get(b"set-cookie"), self.client.origin
        return cookies_of(set_cookie, origin.path, secure=origin.secure) if set_cookie else b""

    def with_cookies(self, cookies: bytes) -> "McpHttpClient":
        """Return the endpoint for a session whose requests carry these cookies, by which load
        balancers keep it at one server."""
        if not cookies:
            return self
        configured, line = self._configured, (b"cookie", cookies)
        endpoint = copy.copy(self)
        endpoint._configured = lambda: (*configured(), line)
        return endpoint

    def _lines(self) -> Lines:
        configured = self._configured()
        return (*configured, *self._own) if self._own else configured

    def send(
        self, body: bytes, headers: Lines, on_response: Callable[[], None]
    ) -> ClientResponse | None:
        """POST a message if a connection is idle; otherwise return None.

        `on_response` is called as by `ClientConnection.begin`.
        """
        client, credential = self.client, None
        if self._credentials is not None:
            credential = self._credentials.header()
            if credential is None:
                return None
        try:
            lines = self._lines() if self._own else self._configured()
        except BackendError:
            # A task reports the value that is missing.
            return None
        connection = client.take()
        if connection is None:
            return None
        path, kept, sent = client.origin.path, self._kept, self._sent
        if credential is not None:
            if sent[1] is not credential or sent[0] != lines:
                sent = self._sent = lines, credential, (*lines, credential)
            lines = sent[2]
        if kept[1] is headers and kept[0] is path and kept[2] == lines:
            head = kept[3]
        else:
            head = self._head(path, headers, lines)
        try:
            return connection.begin(encode_request(head, body), on_response, lines)
        except ConnectionLost:
            return None

    async def post(
        self,
        body: bytes,
        headers: Lines,
        path: str | None = None,
        sent: ClientResponse | None = None,
        *,
        again: bool = False,
    ) -> ClientResponse:
        """POST a message and return the response. Raises BackendError.

        `sent` is the response if `begin` sent the message. If `again`, the message is sent twice
        if a reused connection is lost.
        """
        path = path or self.client.origin.path
        client = self.client
        # After `sent`, the credentials may have been replaced.
        configured = self._lines() if sent is None else sent.sent_fields
        if sent is None and self._credentials is not None:
            configured = await self._with_credential(configured)
        with BACKEND_ERRORS:
            if sent is None:
                request = encode_request(self._head(path, headers, configured), body)
                response = await client.sent(request, again=again)
            else:
                response = await sent.head()
            if response.status in _REFUSALS and self._may_retry(response, configured):
                # The backend refused the request before executing it.
                configured = await self._with_credential(self._lines())
                request = encode_request(self._head(path, headers, configured), body)
                response = await client.sent(request, again=again)
            if response.status in (307, 308):
                every = (_ACCEPT_BOTH, _JSON, *headers, *configured)
                response = await self.client.followed(response, b"POST", path, every, body)
            if response.status in _REFUSES_HOST:
                await self._check_host(response)
            check_status(response)
            return decode_response(response)

    async def _with_credential(self, lines: Lines) -> Lines:
        """Add the credentials to header fields. Raises BackendError."""
        assert self._credentials is not None
        credential = await self._credentials.obtain()
        return lines if credential is None else (*lines, credential)

    def _may_retry(self, response: ClientResponse, lines: Lines) -> bool:
        """True if other credentials may be accepted than those in `lines`, which were refused."""
        if self._credentials is None:
            return False
        line = lines[-1] if lines and lines[-1][0] == _AUTHORIZATION else None
        if self._on_challenge is not None:
            challenge = response.headers.get(b"www-authenticate", b"")
            may_retry = self._on_challenge(response.status, challenge, line)
        else:
            concerns_token = line is not None and response.status == 401
            may_retry = bool(concerns_token and line and self._credentials.refused(line))
        if may_retry:
            response.leave()
        return may_retry

    async def _check_host(self, response: ClientResponse) -> None:
        """Raise HostRefused if the server does not serve the host in the request.

        As a protection from DNS rebinding, servers refuse unknown hosts with 421, or with 403 and
        a body that names the reason.
        """
        words = await first_words(response)
        if response.status != 421 and not _INVALID_HOST.search(words):
            return
        response.close()
        host = self.client.origin.authority.decode()
        told = f" ({words})" if words else ""
        raise HostRefused(
            f"HTTP {response.status}: the backend does not serve the requested host",
            finding=f"HTTP {response.status}{told}: the backend does not serve the host {host}; add"
            " it, with its port, to the allowed hosts of the server",
        )

    def _head(self, path: str, headers: Lines, configured: Lines, method: bytes = b"POST") -> bytes:
        """Return the head of a request: the session id, and all else from a cache, because most
        requests of all sessions share it."""
        session, shared = b"", headers
        if headers and headers[-1][0] == h.SESSION_ID:
            session, shared = b"%b: %b\r\n" % headers[-1], headers[:-1]
        key = method, path, shared, configured
        head = self._heads.get(key)
        if head is None:
            if len(self._heads) >= MAX_HEADS:
                self._heads.clear()
            first = (_ACCEPT_BOTH, _JSON) if method == b"POST" else ()
            head = self._heads[key] = self.client.head(method, path, (*first, *shared, *configured))
        head += session
        if method == b"POST":
            self._kept = path, headers, configured, head
        return head

    async def get(self, headers: Headers) -> ClientResponse:
        """GET an event stream. Raises BackendError."""
        own = self._lines()
        if self._credentials is not None:
            own = await self._with_credential(own)
        with BACKEND_ERRORS:
            response = await self.client.request(b"GET", (_ACCEPT_SSE, *headers, *own))
            if response.status in _REFUSALS and self._may_retry(response, own):
                own = await self._with_credential(self._lines())
                response = await self.client.request(b"GET", (_ACCEPT_SSE, *headers, *own))
            check_status(response)
            if (failure := failed(response, None)) is not None:
                response.close()
                raise failure
            return decode_response(response)

    def path_of(self, reference: str) -> str:
        """Resolve a reference of the backend to a path. Raises Unreachable for another origin."""
        with BACKEND_ERRORS:
            return self.client.path_of(self.client.url, reference)

    def events(self, response: ClientResponse, last_id: bytes | None = None) -> SseMessageReader:
        """Return a reader of the messages of a stream; `last_id` is the last known event id."""
        return SseMessageReader(response, self.line_rate, last_id)

    async def deliver(
        self, body: bytes, headers: Lines, path: str | None = None, *, again: bool = False
    ) -> int:
        """POST a message that has no JSON-RPC response, and return the HTTP status.

        Raises BackendError, such as TimedOut if the HTTP response does not begin in time.
        """
        try:
            with self._in_time():
                response = await self.post(body, headers, path, again=again)
        except TimeoutError:
            OWN_REQUEST_TIME.record()
            raise TimedOut(f"no HTTP response within {OWN_REQUEST_TIME.value} s") from None
        response.leave()
        if response.status >= 500:
            raise HttpFailed(f"the backend responded with HTTP {response.status}")
        return response.status

    def begin_delete(self, headers: Lines, done: Callable[[], None]) -> ClientResponse | None:
        """DELETE a session without a task, as `send` sends a message."""
        line = None if self._credentials is None else self._credentials.header()
        try:
            lines = (*self._lines(), line) if line else self._lines()
        except BackendError:
            return None
        connection = None if self._credentials and line is None else self.client.take()
        if connection is None:
            return None
        head = self._head(self.client.origin.path, headers, lines, b"DELETE")
        try:
            return connection.begin(head + b"\r\n", done)
        except ConnectionLost:
            return None

    async def delete(self, headers: Headers) -> None:
        """DELETE a session. Raises BackendError."""
        lines = (*headers, *self._lines())
        try:
            with BACKEND_ERRORS, self._in_time():
                if self._credentials is not None:
                    lines = await self._with_credential(lines)
                try:
                    response = await self.client.request(b"DELETE", lines)
                except (ConnectError, ConnectionLost):
                    # The server may have just closed the connection. A DELETE may be repeated.
                    response = await self.client.request(b"DELETE", lines)
        except TimeoutError:
            OWN_REQUEST_TIME.record()
            raise TimedOut(f"no HTTP response within {OWN_REQUEST_TIME.value} s") from None
        response.close()
