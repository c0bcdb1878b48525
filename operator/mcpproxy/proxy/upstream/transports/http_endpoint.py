"""An MCP endpoint over HTTP: what is sent to it, and how its answers are read."""

import asyncio
import copy
import re
from collections.abc import Awaitable, Callable
from typing import Final

from msgspec import Raw

from mcpproxy.api.untrusted_text import clean_text
from mcpproxy.limits.backends import MESSAGE, OWN_REQUEST_TIME, REFUSAL_TIME
from mcpproxy.proxy.core.errors import (
    HostRefused,
    ProtocolError,
    RateLimited,
    TimedOut,
    Unauthorized,
    Unreachable,
)
from mcpproxy.proxy.core.exchange import ClientIdentity
from mcpproxy.proxy.http1.client.client import Headers, HttpClient, encode_request
from mcpproxy.proxy.http1.client.content_codings import decode_response
from mcpproxy.proxy.http1.client.cookies import cookies_of
from mcpproxy.proxy.http1.client.response import ClientResponse
from mcpproxy.proxy.protocol import batches, jsonrpc
from mcpproxy.proxy.protocol import headers as h
from mcpproxy.proxy.protocol.jsonrpc import Message, RpcError
from mcpproxy.proxy.protocol.tolerance import quote
from mcpproxy.proxy.upstream.time_limits import TimeLimit
from mcpproxy.proxy.upstream.transports.event_stream import (
    MAX_MESSAGE,
    SseMessageReader,
    new_line_rate,
    new_unrelated_rate,
)

MAX_HEADS: Final = 1024
"""Heads of requests that are kept ready."""
_ACCEPT_BOTH: Final = (b"accept", b"application/json, text/event-stream")
_ACCEPT_SSE: Final = (b"accept", h.EVENT_STREAM)
_JSON: Final = (b"content-type", h.JSON)
Lines = tuple[tuple[bytes, bytes], ...]
_REFUSES_HOST: Final = (403, 421)
_INVALID_HOST: Final = re.compile(r"\binvalid host\b", re.IGNORECASE)
_PLAIN: Final = (b"", h.JSON, b"text/plain")
_WORDS: Final = 80
"""Characters of an error page that the status repeats."""
_SESSION_ID = re.compile(rb"[\x21-\x7e]{1,2048}")


class McpHttpClient:
    """The MCP endpoint of a backend: a client, and the headers that the user configured."""

    def __init__(
        self,
        client: HttpClient,
        configured: Callable[[], Lines],
        passed: frozenset[bytes] = frozenset(),
    ) -> None:
        """`passed` are the headers of clients that the backend gets."""
        self.client = client
        self._passed = passed
        self._own: Lines = ()
        """What the client has of them whose requests these are."""
        self._configured = configured
        self._in_time = TimeLimit(OWN_REQUEST_TIME.value)
        self.line_rate, self.unrelated_rate = new_line_rate(), new_unrelated_rate()
        """How fast event streams are read."""
        self._heads: dict[tuple[str, Lines, Lines], bytes] = {}
        self._kept: tuple[str, Lines, Lines, bytes] = ("", (), (), b"")
        """The latest of them: found without looking at every header."""

    def of(self, client: ClientIdentity) -> "McpHttpClient":
        """The same endpoint for requests that get the headers of this client."""
        if not self._passed:
            return self
        found = copy.copy(self)
        found._own = client.having(self._passed)
        return found

    def with_cookies(self, response: ClientResponse) -> "McpHttpClient":
        """The same endpoint for a session that begins with this answer: its requests carry the
        cookies that it sets, as load balancers want it that keep a session at one server."""
        given = response.headers.get(b"set-cookie")
        origin, configured = self.client.origin, self._configured
        cookies = given and cookies_of(given, origin.path, secure=origin.secure)
        if not cookies:
            return self
        line = (b"cookie", cookies)
        found = copy.copy(self)
        found._configured = lambda: (*configured(), line)
        return found

    def _lines(self) -> Lines:
        configured = self._configured()
        return (*configured, *self._own) if self._own else configured

    def begin(self, body: bytes, headers: Lines, done: Callable[[], None]) -> ClientResponse | None:
        """POST one message, if a connection is free."""
        client = self.client
        connection = client.take()
        if connection is None:
            return None
        lines = self._lines() if self._own else self._configured()
        head = self._head(client.origin.path, headers, lines)
        return connection.begin(encode_request(head, body), done)

    async def post(
        self,
        body: bytes,
        headers: Lines,
        path: str | None = None,
        sent: ClientResponse | None = None,
        *,
        again: bool = False,
    ) -> ClientResponse:
        """POST one message. Raises BackendError for what is no answer to it.

        `sent` is its answer where `begin` has sent it already; `again` says that the message may
        be sent twice, where a connection that was used before is lost.
        """
        path = path or self.client.origin.path
        configured = self._lines()
        client = self.client
        if sent is None:
            request = encode_request(self._head(path, headers, configured), body)
            response = await client.sent(request, again=again)
        else:
            response = await sent.head()
        if response.status in (307, 308):
            every = (_ACCEPT_BOTH, _JSON, *headers, *configured)
            response = await self.client.followed(response, b"POST", path, every, body)
        if response.status in _REFUSES_HOST:
            await self._check_host(response)
        _check(response)
        return decode_response(response)

    async def _check_host(self, response: ClientResponse) -> None:
        """Raise HostRefused where the server says that it does not serve the host it is called by.

        Servers refuse hosts that they do not know against DNS rebinding: with 421, or with 403
        and a body that says so.
        """
        words = await _first_words(response)
        if response.status != 421 and not _INVALID_HOST.search(words):
            return
        response.close()
        host = self.client.origin.authority.decode()
        told = f" ({words})" if words else ""
        raise HostRefused(
            f"it answers HTTP {response.status}: it does not serve the host that it is called by",
            finding=f"it answers HTTP {response.status}{told}: it does not serve the host {host};"
            " add it, with its port, to the allowed hosts of the server",
        )

    def _head(self, path: str, headers: Lines, configured: Lines) -> bytes:
        """The head of a POST; kept, for most requests of a link have the same."""
        kept = self._kept
        if kept[1] is headers and kept[0] is path and kept[2] == configured:
            return kept[3]
        key = path, headers, configured
        head = self._heads.get(key)
        if head is None:
            if len(self._heads) >= MAX_HEADS:
                self._heads.clear()
            lines = (_ACCEPT_BOTH, _JSON, *headers, *configured)
            head = self._heads[key] = self.client.head(b"POST", path, lines)
        self._kept = path, headers, configured, head
        return head

    async def get(self, headers: Headers) -> ClientResponse:
        """Open an event stream."""
        lines = (_ACCEPT_SSE, *headers, *self._lines())
        response = await self.client.request(b"GET", lines)
        _check(response)
        if (failure := failed(response, None)) is not None:
            response.close()
            raise failure
        return decode_response(response)

    def events(self, response: ClientResponse, last_id: bytes | None = None) -> SseMessageReader:
        """The messages of an event stream, behind the event with `last_id`."""
        return SseMessageReader(response, self.line_rate, last_id)

    async def deliver(
        self, body: bytes, headers: Lines, path: str | None = None, *, again: bool = False
    ) -> int:
        """POST a message that wants no response in JSON-RPC; the HTTP status.

        Raises BackendError: TimedOut where the HTTP response does not begin in time.
        """
        try:
            with self._in_time():
                response = await self.post(body, headers, path, again=again)
        except TimeoutError:
            OWN_REQUEST_TIME.record()
            raise TimedOut(f"no HTTP response within {OWN_REQUEST_TIME.value} s") from None
        response.leave()
        if response.status >= 500:
            raise Unreachable(f"it answers HTTP {response.status}")
        return response.status

    async def delete(self, headers: Headers) -> None:
        """End a session. Raises BackendError."""
        lines = (*headers, *self._lines())
        try:
            with self._in_time():
                try:
                    response = await self.client.request(b"DELETE", lines)
                except Unreachable:
                    # The kept connection may have been closed just then; twice does no harm.
                    response = await self.client.request(b"DELETE", lines)
        except TimeoutError:
            OWN_REQUEST_TIME.record()
            raise TimedOut(f"no HTTP response within {OWN_REQUEST_TIME.value} s") from None
        response.close()


async def _first_words(response: ClientResponse) -> str:
    """The beginning of a body that is a text or JSON, on one line; empty for any other."""
    if response.media_type not in _PLAIN:
        return ""
    try:
        async with asyncio.timeout(REFUSAL_TIME.value):
            chunk = await response.next_chunk()
    except TimeoutError:
        REFUSAL_TIME.record()
        return ""
    response.unread([chunk] if chunk else [])
    return clean_text(" ".join(chunk[:_WORDS].decode(errors="replace").split()), _WORDS)


def _check(response: ClientResponse) -> None:
    status = response.status
    if status in (401, 403):
        response.close()
        raise Unauthorized(
            f"it answers HTTP {status}: the credentials that it got are not accepted"
        )
    if status == 429:
        response.close()
        raise RateLimited("it answers HTTP 429: too many requests")
    if (status >= 500 and response.media_type != h.JSON) or 300 <= status < 400:
        response.close()
        raise Unreachable(f"it answers HTTP {status}")


def failed(response: ClientResponse, message: Message | None) -> Unreachable | None:
    """The failure that HTTP status 5xx stands for, unless its body is an error of JSON-RPC."""
    if response.status < 500 or (message is not None and "error" in message):
        return None
    return Unreachable(f"it answers HTTP {response.status}")


async def read_json(
    response: ClientResponse,
    request_id: Raw | None = None,
    told: Callable[[Message], Awaitable[None]] | None = None,
) -> Message | None:
    """Return the JSON-RPC message of a response that is not a stream; None if it has none.

    In a batch, that is the response to `request_id`, else the first response; notifications and
    requests of the batch go to `told`. See `no_response` for the reason why there is none.
    """
    body = await _body(response)
    try:
        messages = batches.of_backend(body)
    except RpcError:
        response.unread([body])
        return None
    if len(messages) == 1:
        return messages[0]
    responses = [message for message in messages if "method" not in message]
    if told is not None:
        for message in messages:
            if "method" in message:
                await told(message)
    answers = (m for m in responses if request_id is None or jsonrpc.answers(m, request_id))
    return next(answers, responses[0] if responses else messages[0])


async def no_response(response: ClientResponse) -> ProtocolError:
    """Return the error for an HTTP response without a JSON-RPC response.

    It quotes what the backend took for a message, and no page or error of its own.
    """
    why = f"it answers HTTP {response.status} without a JSON-RPC response"
    is_message = response.status < 400 and response.media_type == h.JSON
    body = await _body(response) if is_message else b""
    try:
        if body:
            batches.of_backend(body)
    except RpcError as error:
        why = f"{why}: {error}: {quote(body)}"
    return ProtocolError(why)


async def _body(response: ClientResponse) -> bytes:
    try:
        return await response.read(MAX_MESSAGE)
    except ProtocolError:
        MESSAGE.record()
        raise


def session_id_of(response: ClientResponse) -> bytes | None:
    """The session id that an answer carries. Raises ProtocolError when it can't be one."""
    found = response.headers.get(h.SESSION_ID)
    if found is not None and _SESSION_ID.fullmatch(found) is None:
        raise ProtocolError("its session id is not visible ASCII")
    return found
