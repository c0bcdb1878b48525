"""Forwarding of requests to the instance that has their state.

The owner in a sealed token identifies the process with the state: a stream, an upstream session, or
a pending server request. A request is forwarded over TLS. Before the instance sends anything of the
client, both ends prove that they have the sealing key, and the other end proves that it is this
exact process (`downstream/peers/tls.py`). An instance never forwards a request again.
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Final, TypeVar

from mcpproxy.backoff import Backoff
from mcpproxy.limits import instances as limits
from mcpproxy.limits.http import REQUEST_HEAD
from mcpproxy.proxy.core.identity import ANONYMOUS
from mcpproxy.proxy.core.tokens.sealed_tokens import Sealer
from mcpproxy.proxy.downstream.peers.identity_header import IDENTITY, encode_identity
from mcpproxy.proxy.downstream.peers.tls import PeerCertificate, PeerCertificates
from mcpproxy.proxy.downstream.request_context import RequestContext
from mcpproxy.proxy.http1.client.client import HttpClient, encode_request
from mcpproxy.proxy.http1.client.connection import ClientConnection, ClientResponse
from mcpproxy.proxy.http1.errors import HttpClientError, HttpError
from mcpproxy.proxy.http1.server.request import Request
from mcpproxy.proxy.http1.server.response_writer import ResponseWriter

PRINCIPAL: Final = b"mcpproxy-principal"
"""Header between instances with the client's principal, because credentials are not forwarded."""
UNREAD: Final = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
"""Response of an instance that closes an idle connection: it has not read a request that was on its
way, so that the request can be sent again (RFC 9110, section 15.5.9)."""
_UNREAD: Final = 408
MISDIRECTED: Final = 421
"""Status of a request that the instance has not run and that another instance can serve (RFC 9110,
section 15.5.20)."""
_JSON: Final = ((b"content-type", b"application/json"),)
_MOST_HEADERS: Final = REQUEST_HEAD.value - 4096
"""Bytes of the headers of a request to another instance, whose head has a few more."""
_OWN: Final = (PRINCIPAL, IDENTITY)
KEPT_FOR: Final = 60.0
"""Seconds for which an idle connection is reused; servers close idle connections later."""
_MESSAGE: Final = (
    (b"accept", b"application/json, text/event-stream"),
    (b"content-type", b"application/json"),
)
"""Headers of a message between instances about a session, whatever the client has sent."""
_OF_CONTENT: Final = frozenset({b"accept", b"content-type", b"last-event-id"})
_FORWARDED: Final = frozenset({*_OF_CONTENT, b"traceparent", b"tracestate"})
_FORWARDED_PREFIX: Final = b"mcp-"
_HOP_BY_HOP: Final = frozenset(
    {b"connection", b"transfer-encoding", b"keep-alive", b"date", b"server"}
)

HeaderLines = Iterable[tuple[bytes, bytes]]
Result = TypeVar("Result")


class PeerUnavailable(Exception):
    """The other instance has terminated, or cannot prove that it has not."""

    def __init__(self, text: str, *, may_have_run: bool = False) -> None:
        """`may_have_run` means that the instance may have received the request."""
        super().__init__(text)
        self.may_have_run = may_have_run

    def session_lost(self) -> HttpError:
        """Return the error for a request about a session that only this instance could serve."""
        outcome = "may have run" if self.may_have_run else "did not run"
        return HttpError(
            404,
            f"the instance of this session is no longer running; the request {outcome}; initialize"
            " again",
        )


class PeerSilent(PeerUnavailable):
    """The other instance has proven its identity, but does not respond in time."""


class PeerForwarder:
    """Connections to the other instances that tokens have named."""

    def __init__(
        self,
        sealer: Sealer,
        address: str,
        path: str,
        passed: frozenset[bytes] = frozenset(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Create without connections.

        `address` is that of this instance for others; `path` is that of their endpoint. `passed`
        names further headers that backends get, and therefore owners of upstream sessions.
        """
        self.owner = f"{address}#{secrets.token_urlsafe(6)}"
        """Identifier of this process, which differs from any other process at the same address."""
        self.address = address
        self.credentials = PeerCertificates(sealer, self.owner)
        self._passed = passed
        self._path = path
        self._clock = clock
        self._peers: dict[str, _Peer] = {}

    def is_local(self, owner: str) -> bool:
        """Return True if this process is the owner."""
        return owner == self.owner

    async def forward(self, owner: str, inbound: Request, reply: ResponseWriter) -> None:
        """Forward a request to its owner, and stream the response to the client.

        Raise PeerUnavailable if nothing was sent to the client yet; raise HttpError.
        """
        peer = self._peer(owner)
        headers = self._forwarded_headers(inbound)

        def begun(give_up: Callable[[], None]) -> None:
            reply.on_disconnect(give_up)
            if reply.is_gone:
                give_up()

        with peer.serving():
            try:
                response = await _within_silence(
                    peer.respond(inbound.method, headers, inbound.body, begun=begun)
                )
            except TimeoutError:
                limits.SILENCE.record()
                raise HttpError(
                    504,
                    "no response from the instance that serves this request; the request may have"
                    " run",
                ) from None
            except HttpClientError as error:
                if reply.is_gone:
                    return
                await peer.check_alive(error)
                raise HttpError(
                    502,
                    "the instance that serves this request closed the connection; the request may"
                    " have run",
                ) from None
            if response.status in (_UNREAD, MISDIRECTED):
                response.close()
                raise PeerUnavailable(f"{owner} is shutting down")
            await _stream_response(response, reply)

    async def send(
        self, owner: str, method: str, inbound: Request, body: bytes
    ) -> tuple[int, bytes]:
        """Send a request for which no client waits; return the status and body of the response.

        Raise PeerUnavailable.
        """
        peer = self._peer(owner)
        response: ClientResponse | None = None
        with peer.serving():
            try:
                async with asyncio.timeout(limits.ANSWER.value):
                    response = await peer.respond(method, self._message_headers(inbound), body)
                    return response.status, await response.read(limits.ANSWER_SIZE.value)
            except TimeoutError:
                limits.ANSWER.record()
                raise PeerSilent(f"no response from {owner}") from None
            except HttpClientError as error:
                await peer.check_alive(error)
                raise PeerSilent(str(error)) from None
            finally:
                if response is not None:
                    response.close()

    async def exchange(self, address: str, path: str, body: bytes) -> bytes:
        """Send a message to the instance at an address, whichever process it is; return its answer.

        Raise ConnectionError. The time is limited by the caller.
        """
        response: ClientResponse | None = None
        try:
            peer = self._peer(address)
            with peer.serving():
                response = await peer.respond("POST", _JSON, body, path)
                answer = await response.read(limits.ANSWER_SIZE.value)
        except (PeerUnavailable, HttpClientError, HttpError) as error:
            raise ConnectionError(str(error)) from None
        finally:
            if response is not None:
                response.close()
        if response.status != 200:
            raise ConnectionError(f"{address} answers with HTTP status {response.status}")
        return answer

    def expect(self, address: str) -> None:
        """Connect to an instance again although it was unreachable lately."""
        peer = self._peers.get(address)
        if peer is not None:
            peer.expect()

    def _message_headers(self, inbound: Request) -> list[tuple[bytes, bytes]]:
        """Return the headers of a message that the owner gets because of a request."""
        forwarded = self._forwarded_headers(inbound)
        return [*_MESSAGE, *(line for line in forwarded if line[0] not in _OF_CONTENT)]

    def _forwarded_headers(self, inbound: Request) -> list[tuple[bytes, bytes]]:
        """Return the headers that the owner needs to serve a request."""
        forwarded = [
            (name, value)
            for name, value in inbound.lines
            if name in _FORWARDED or name.startswith(_FORWARDED_PREFIX) or name in self._passed
            if name not in _OWN
        ]
        context: RequestContext = inbound.head.context
        forwarded.append((PRINCIPAL, context.principal.encode()))
        if context.identity is not ANONYMOUS:
            forwarded.append((IDENTITY, encode_identity(context.identity)))
        if sum(len(name) + len(value) + 4 for name, value in forwarded) > _MOST_HEADERS:
            raise HttpError(
                431,
                "the token and the headers of the request are too large together to be handed over"
                " to the instance that has the session; send fewer claims or headers",
            )
        return forwarded

    def _peer(self, owner: str) -> "_Peer":
        """Return the connections to an instance. Raise HttpError.

        Raise PeerUnavailable for a process that had the same address as this one.
        """
        if owner.partition("#")[0] == self.owner.partition("#")[0]:
            raise PeerUnavailable(f"another process now has the address of {owner}")
        peer = self._peers.pop(owner, None)
        if peer is None:
            self._make_room()
            peer = _Peer(owner, self._path, self._clock)
        # Sorted by last use.
        self._peers[owner] = peer
        peer.use(self.credentials.own)
        return peer

    def _make_room(self) -> None:
        if len(self._peers) < limits.KNOWN.value:
            return
        limits.KNOWN.record()
        idle = next((owner for owner, peer in self._peers.items() if not peer.requests), None)
        if idle is None:
            raise HttpError(503, "too many other instances are serving requests for this one")
        self._peers.pop(idle).close()

    def close(self) -> None:
        """Close the connections to other instances."""
        for peer in self._peers.values():
            peer.close()


class _Peer:
    """Connections to another instance, and the backoff after failures to connect."""

    def __init__(self, owner: str, path: str, clock: Callable[[], float]) -> None:
        self.requests = 0
        """Number of requests that it serves for this instance at present."""
        self._owner = owner
        self._url = f"https://{owner.partition('#')[0]}{path}"
        self._credential: PeerCertificate | None = None
        self._client: HttpClient | None = None
        self._clock = clock
        self._connecting = asyncio.Semaphore(limits.CONNECTING.value)
        self._backoff = Backoff(limits.RETRY_FIRST.value, limits.RETRY_LAST.value)

    def use(self, credential: PeerCertificate) -> None:
        """Open new connections with this certificate."""
        if credential is self._credential:
            return
        if self._client is not None:
            self._client.renew()
        self._credential = credential
        self._backoff.reset()
        self._client = HttpClient(
            self._url,
            limits.CONNECT.value,
            lambda: credential.client_context,
            server_name=credential.name_of(self._owner),
            kept_for=KEPT_FOR,
        )

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        """Count a request while it runs. Raise HttpError beyond the limit."""
        if self.requests >= limits.FORWARDED.value:
            limits.FORWARDED.record()
            raise HttpError(503, "another instance is serving too many requests for this one")
        self.requests += 1
        try:
            yield
        finally:
            self.requests -= 1

    def expect(self) -> None:
        """Try to connect again at once."""
        self._backoff.reset()

    async def respond(
        self,
        method: str,
        headers: HeaderLines,
        body: bytes,
        path: str | None = None,
        begun: Callable[[Callable[[], None]], None] = lambda _: None,
    ) -> ClientResponse:
        """Send a request, by default to the endpoint, and return the response with its head.

        `begun` gets the method that gives the request up. A request that arrived when the instance
        was closing its idle connection is sent again. Raise PeerUnavailable or HttpClientError.
        """
        client = self._client
        assert client is not None
        head = client.head(method.encode(), path or client.origin.path, headers)
        request = encode_request(head, body) if method == "POST" else head + b"\r\n"
        response = await self._send(client, request, begun)
        if response.status == _UNREAD:
            response.close()
            response = await self._send(client, request, begun)
        return response

    async def _send(
        self, client: HttpClient, request: bytes, begun: Callable[[Callable[[], None]], None]
    ) -> ClientResponse:
        """Send a request once the instance has proven its identity."""
        connection = client.take()
        if connection is None:
            async with self._connecting:
                connection = client.take() or await self._connect(client)
        response = connection.begin(request, None)
        begun(response.close)
        return await response.head()

    async def _connect(self, client: HttpClient) -> ClientConnection:
        if self._backoff.is_waiting(self._clock()):
            raise PeerUnavailable(f"{self._owner} was unreachable a moment ago")
        try:
            connection = await client.connect()
        except HttpClientError as error:
            self._backoff.record_failure(self._clock())
            raise PeerUnavailable(str(error)) from None
        self._backoff.reset()
        return connection

    async def check_alive(self, error: HttpClientError) -> None:
        """Raise PeerUnavailable unless the instance proves its identity again after a failure."""
        client = self._client
        assert client is not None
        try:
            async with self._connecting:
                connection = await self._connect(client)
        except PeerUnavailable:
            raise PeerUnavailable(str(error), may_have_run=True) from None
        connection.release()

    def close(self) -> None:
        """Close all connections."""
        if self._client is not None:
            self._client.close()


async def _stream_response(response: ClientResponse, reply: ResponseWriter) -> None:
    headers = tuple(pair for pair in response.headers.items() if pair[0] not in _HOP_BY_HOP)
    try:
        await reply.start(response.status, headers)
        while chunk := await _within_silence(response.next_chunk()):
            await reply.chunk(chunk)
        await reply.end()
    except TimeoutError:
        limits.SILENCE.record()
        reply.abandon()
    except HttpClientError:
        # The client must see that the response is incomplete.
        reply.abandon()
    finally:
        response.close()


async def _within_silence(wait: Awaitable[Result]) -> Result:
    """Wait for the next part of a response. Raise TimeoutError."""
    async with asyncio.timeout(limits.SILENCE.value):
        return await wait
