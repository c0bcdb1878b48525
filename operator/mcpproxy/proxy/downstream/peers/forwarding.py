"""Requests that another instance serves, because what they are about lives there.

The owner name in a sealed token says which process that is: a stream, a session with a backend or
a server request that waits for its response lives there. A request goes there over TLS, in which
both ends prove that they hold the sealing key and the other end that it is this very process,
before anything of the client is sent (`downstream/peers/tls.py`). An instance serves what it
receives and never forwards it again.
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Final, TypeVar

from mcpproxy.limits import instances as limits
from mcpproxy.proxy.core.tokens.sealed_tokens import Sealer
from mcpproxy.proxy.downstream.peers.tls import PeerCertificate, PeerCertificates
from mcpproxy.proxy.http1.client.client import HttpClient, encode_request
from mcpproxy.proxy.http1.client.connection import ClientConnection
from mcpproxy.proxy.http1.client.response import ClientResponse
from mcpproxy.proxy.http1.errors import HttpClientError, HttpError
from mcpproxy.proxy.http1.server.request import Request
from mcpproxy.proxy.http1.server.response_writer import ResponseWriter

PRINCIPAL: Final = b"mcpproxy-principal"
"""Between instances alone: the principal of the client, whose credentials stay where they came."""
KEPT_FOR: Final = 60.0
"""Seconds that an idle connection is reused; shorter than instances keep idle ones of clients."""
_PASSED: Final = frozenset(
    {b"accept", b"content-type", b"last-event-id", b"traceparent", b"tracestate"}
)
_PASSED_PREFIX: Final = b"mcp-"
_BACK: Final = frozenset({b"connection", b"transfer-encoding", b"keep-alive", b"date", b"server"})

HeaderLines = Iterable[tuple[bytes, bytes]]
Found = TypeVar("Found")


class PeerUnavailable(Exception):
    """The other instance has terminated, or can't prove that it has not."""


class PeerSilent(PeerUnavailable):
    """The other instance is the right one, but does not answer in time."""


class PeerForwarder:
    """The other instances, as far as tokens have named them."""

    def __init__(
        self,
        sealer: Sealer,
        address: str,
        path: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`address` is where others reach this instance, `path` where their endpoint is."""
        self.owner = f"{address}#{secrets.token_urlsafe(6)}"
        """This process, and not another one at the same address."""
        self.credentials = PeerCertificates(sealer, self.owner)
        self.passed: frozenset[bytes] = frozenset()
        """Names of headers that backends get, and so the owner of a session with one."""
        self._path = path
        self._clock = clock
        self._peers: dict[str, _Peer] = {}

    def mine(self, owner: str) -> bool:
        """Whether this process is the owner."""
        return owner == self.owner

    async def pass_on(self, owner: str, inbound: Request, reply: ResponseWriter) -> None:
        """Let the owner answer: its answer goes to our client as it comes.

        Raises Gone when nothing was sent to the client yet, and HttpError.
        """
        peer = self._peer(owner)
        with peer.serving():
            try:
                response = await peer.begin(inbound.method, self._needed(inbound), inbound.body)
                reply.on_gone = response.close
                if reply.is_gone:
                    response.close()
                    return
                await _within_silence(response.head())
            except TimeoutError:
                limits.SILENCE.record()
                raise HttpError(504, "the instance that serves this does not answer") from None
            except HttpClientError as error:
                if reply.is_gone:
                    return
                await peer.check_alive(error)
                raise HttpError(502, "the instance that serves this broke off") from None
            await _pass_back(response, reply)

    async def tell(
        self, owner: str, method: str, inbound: Request, body: bytes
    ) -> tuple[int, bytes]:
        """Hand over what the client is not waiting for; the answer's status and body.

        Raises Gone.
        """
        peer = self._peer(owner)
        response: ClientResponse | None = None
        with peer.serving():
            try:
                async with asyncio.timeout(limits.ANSWER.value):
                    response = await peer.begin(method, self._needed(inbound), body)
                    await response.head()
                    return response.status, await response.read(limits.ANSWER_SIZE.value)
            except TimeoutError:
                limits.ANSWER.record()
                raise PeerSilent(f"{owner} does not answer") from None
            except HttpClientError as error:
                await peer.check_alive(error)
                raise PeerSilent(str(error)) from None
            finally:
                if response is not None:
                    response.close()

    def _needed(self, inbound: Request) -> list[tuple[bytes, bytes]]:
        """The headers without which the owner can't serve a request."""
        needed = [
            (name, value)
            for name, value in inbound.lines
            if name in _PASSED or name.startswith(_PASSED_PREFIX) or name in self.passed
            if name != PRINCIPAL
        ]
        return [*needed, (PRINCIPAL, inbound.head.context.principal.encode())]

    def _peer(self, owner: str) -> "_Peer":
        """Raises Gone for a process that had our own address before us, and HttpError."""
        if owner.partition("#")[0] == self.owner.partition("#")[0]:
            raise PeerUnavailable(f"another process has the address of {owner}")
        peer = self._peers.pop(owner, None)
        if peer is None:
            self._make_room()
            peer = _Peer(owner, self._path, self._clock)
        # The one that was used last is the last one.
        self._peers[owner] = peer
        peer.use(self.credentials.own)
        return peer

    def _make_room(self) -> None:
        if len(self._peers) < limits.KNOWN.value:
            return
        limits.KNOWN.record()
        idle = next((owner for owner, peer in self._peers.items() if not peer.requests), None)
        if idle is None:
            raise HttpError(503, "too many other instances serve requests for this one")
        self._peers.pop(idle).close()

    def close(self) -> None:
        """Close connections to other instances."""
        for peer in self._peers.values():
            peer.close()


class _Peer:
    """Another instance: connections to it, and failures to connect."""

    def __init__(self, owner: str, path: str, clock: Callable[[], float]) -> None:
        self.requests = 0
        """Requests that it serves for us now."""
        self._owner = owner
        self._url = f"https://{owner.partition('#')[0]}{path}"
        self._credential: PeerCertificate | None = None
        self._client: HttpClient | None = None
        self._clock = clock
        self._connecting = asyncio.Semaphore(limits.CONNECTING.value)
        self._wait = 0
        """Seconds that it was last not tried again; 0 unless the last connection failed."""
        self._retry_at = 0.0

    def use(self, credential: PeerCertificate) -> None:
        """Open connections with this credential from now on."""
        if credential is self._credential:
            return
        if self._client is not None:
            self._client.renew()
        self._credential = credential
        self._wait, self._retry_at = 0, 0.0
        self._client = HttpClient(
            self._url,
            limits.CONNECT.value,
            lambda: credential.client_context,
            server_name=credential.name_of(self._owner),
            kept_for=KEPT_FOR,
        )

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        """Count a request. Raises HttpError."""
        if self.requests >= limits.FORWARDED.value:
            limits.FORWARDED.record()
            raise HttpError(503, "another instance serves too many requests for this one")
        self.requests += 1
        try:
            yield
        finally:
            self.requests -= 1

    async def begin(self, method: str, headers: HeaderLines, body: bytes) -> ClientResponse:
        """Send a request, once the instance has proven itself. Raises Gone, HttpClientError."""
        client = self._client
        assert client is not None
        head = client.head(method.encode(), client.origin.path, headers)
        request = encode_request(head, body) if method == "POST" else head + b"\r\n"
        connection = client.take()
        if connection is None:
            async with self._connecting:
                connection = client.take() or await self._connect(client)
        return connection.begin(request, None)

    async def _connect(self, client: HttpClient) -> ClientConnection:
        if self._clock() < self._retry_at:
            raise PeerUnavailable(f"{self._owner} was not reached a moment ago")
        try:
            connection = await client.connect()
        except HttpClientError as error:
            wait = self._wait * 2 or limits.RETRY_FIRST.value
            self._wait = min(wait, limits.RETRY_LAST.value)
            self._retry_at = self._clock() + self._wait
            raise PeerUnavailable(str(error)) from None
        self._wait = 0
        return connection

    async def check_alive(self, error: HttpClientError) -> None:
        """A request has failed. Raises Gone unless the instance proves itself once more."""
        client = self._client
        assert client is not None
        try:
            async with self._connecting:
                connection = await self._connect(client)
        except PeerUnavailable:
            raise PeerUnavailable(str(error)) from None
        if connection.on_free is not None:
            connection.on_free(connection)

    def close(self) -> None:
        """Close all connections."""
        if self._client is not None:
            self._client.close()


async def _pass_back(response: ClientResponse, reply: ResponseWriter) -> None:
    headers = tuple(pair for pair in response.headers.items() if pair[0] not in _BACK)
    try:
        await reply.start(response.status, headers)
        while chunk := await _within_silence(response.next_chunk()):
            await reply.chunk(chunk)
        await reply.end()
    except TimeoutError:
        limits.SILENCE.record()
        reply.abandon()
    except HttpClientError:
        # It broke off: the client is to see that.
        reply.abandon()
    finally:
        response.close()


async def _within_silence(wait: Awaitable[Found]) -> Found:
    """Wait for the next part of a response. Raises TimeoutError."""
    async with asyncio.timeout(limits.SILENCE.value):
        return await wait
