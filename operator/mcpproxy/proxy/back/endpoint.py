"""An MCP endpoint over HTTP: what is sent to it, and how its answers are read."""

import copy
import re
from collections.abc import Callable
from typing import Final

from mcpproxy.limits.backends import MESSAGE, OWN_REQUEST_TIME
from mcpproxy.proxy.back.client import Headers, HttpClient, with_body
from mcpproxy.proxy.back.connection import Response
from mcpproxy.proxy.back.event_stream import MAX_MESSAGE, EventReader, new_pace
from mcpproxy.proxy.back.within import Within
from mcpproxy.proxy.core.errors import NotMcp, RateLimited, TimedOut, Unauthorized, Unreachable
from mcpproxy.proxy.core.exchange import Client
from mcpproxy.proxy.wire import headers as h
from mcpproxy.proxy.wire import jsonrpc
from mcpproxy.proxy.wire.jsonrpc import Message, RpcError

MAX_HEADS: Final = 1024
"""Heads of requests that are kept ready."""
_ACCEPT_BOTH: Final = (b"accept", b"application/json, text/event-stream")
_ACCEPT_SSE: Final = (b"accept", h.EVENT_STREAM)
_JSON: Final = (b"content-type", h.JSON)
Lines = tuple[tuple[bytes, bytes], ...]
_SESSION_ID = re.compile(rb"[\x21-\x7e]{1,2048}")


class Endpoint:
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
        self._in_time = Within(OWN_REQUEST_TIME.value)
        self.pace = new_pace()
        """How fast event streams are read."""
        self._heads: dict[tuple[str, Lines, Lines], bytes] = {}
        self._kept: tuple[str, Lines, Lines, bytes] = ("", (), (), b"")
        """The latest of them: found without looking at every header."""

    def of(self, client: Client) -> "Endpoint":
        """The same endpoint for requests that get the headers of this client."""
        if not self._passed:
            return self
        found = copy.copy(self)
        found._own = client.having(self._passed)
        return found

    def _lines(self) -> Lines:
        configured = self._configured()
        return (*configured, *self._own) if self._own else configured

    def begin(self, body: bytes, headers: Lines, done: Callable[[], None]) -> Response | None:
        """POST one message, if a connection is free."""
        client = self.client
        connection = client.take()
        if connection is None:
            return None
        lines = self._lines() if self._own else self._configured()
        head = self._head(client.origin.path, headers, lines)
        return connection.begin(with_body(head, body), done)

    async def post(
        self,
        body: bytes,
        headers: Lines,
        path: str | None = None,
        sent: Response | None = None,
    ) -> Response:
        """POST one message. Raises BackendError for what is no answer to it.

        `sent` is its answer where `begin` has sent it already.
        """
        path = path or self.client.origin.path
        configured = self._lines()
        client = self.client
        if sent is None:
            connection = client.take() or await client.connect()
            head = self._head(path, headers, configured)
            response = await connection.send(with_body(head, body))
        else:
            response = await sent.head()
        if response.status in (307, 308):
            every = (_ACCEPT_BOTH, _JSON, *headers, *configured)
            response = await self.client.followed(response, b"POST", path, every, body)
        _check(response)
        return response

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

    async def get(self, headers: Headers) -> Response:
        """Open an event stream."""
        response = await self.client.request(b"GET", (_ACCEPT_SSE, *headers, *self._lines()))
        _check(response)
        return response

    def events(self, response: Response, last_id: bytes | None = None) -> EventReader:
        """The messages of an event stream, behind the event with `last_id`."""
        return EventReader(response, self.pace, last_id)

    async def deliver(self, body: bytes, headers: Lines, path: str | None = None) -> int:
        """POST a message that wants no response in JSON-RPC; the HTTP status.

        Raises BackendError: TimedOut where the HTTP response does not begin in time.
        """
        try:
            with self._in_time():
                response = await self.post(body, headers, path)
        except TimeoutError:
            OWN_REQUEST_TIME.record()
            raise TimedOut(f"no HTTP response within {OWN_REQUEST_TIME.value} s") from None
        response.leave()
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


def _check(response: Response) -> None:
    status = response.status
    if status in (401, 403):
        response.close()
        raise Unauthorized(
            f"it answers HTTP {status}: the credentials that it got are not accepted"
        )
    if status == 429:
        response.close()
        raise RateLimited("it answers HTTP 429: too many requests")
    if status >= 500 or 300 <= status < 400:
        response.close()
        raise Unreachable(f"it answers HTTP {status}")


async def read_json(response: Response) -> Message | None:
    """The JSON-RPC message of an answer that is no stream; None when it has none."""
    try:
        body = await response.read(MAX_MESSAGE)
    except NotMcp:
        MESSAGE.record()
        raise
    try:
        return jsonrpc.bounded(body)
    except RpcError:
        return None


def session_id_of(response: Response) -> bytes | None:
    """The session id that an answer carries. Raises NotMcp when it can't be one."""
    found = response.headers.get(h.SESSION_ID)
    if found is not None and _SESSION_ID.fullmatch(found) is None:
        raise NotMcp("its session id is not visible ASCII")
    return found
