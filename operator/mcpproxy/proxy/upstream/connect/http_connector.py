"""Sessions with HTTP backends: probes for the era, and the choice of the transport."""

import asyncio
import functools
import hashlib
import logging
from collections.abc import Callable, Sequence
from typing import Final

from msgspec import Raw

from mcpproxy.api.defaults import BackendSettings
from mcpproxy.limits.sessions import INITIALIZED_TIME, PROBE_TIME
from mcpproxy.proxy.core.errors import (
    BackendError,
    ContinuationFailed,
    ProtocolError,
    TimedOut,
)
from mcpproxy.proxy.core.exchange import ClientIdentity
from mcpproxy.proxy.core.session_records import SessionRecord, known_capabilities
from mcpproxy.proxy.http1.client.connection import ClientResponse
from mcpproxy.proxy.protocol import headers as h
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol import revisions as rev
from mcpproxy.proxy.protocol.jsonrpc import Message, RpcError
from mcpproxy.proxy.time_limits import TimeLimit
from mcpproxy.proxy.timers import Timer
from mcpproxy.proxy.upstream.connect.handshake import (
    INITIALIZE,
    EraNotSupported,
    discover_request,
    first_response,
    initialize,
    initialize_request,
    names_modern_revision,
    parse_initialize_result,
    read_description,
    send_initialized,
)
from mcpproxy.proxy.upstream.connect.negotiation import NegotiatingConnector, TransportName
from mcpproxy.proxy.upstream.json_responses import single_message
from mcpproxy.proxy.upstream.transports import sse
from mcpproxy.proxy.upstream.transports.http_endpoint import McpHttpClient
from mcpproxy.proxy.upstream.transports.http_legacy import HttpLegacySession
from mcpproxy.proxy.upstream.transports.http_modern import HttpModernSession
from mcpproxy.proxy.upstream.transports.multiplexed import MultiplexedSession
from mcpproxy.proxy.upstream.transports.session import (
    OnOpened,
    ServerDescription,
    TaskSet,
    UpstreamSession,
    session_id_of,
)

_NO_ENDPOINT: Final = (400, 404, 405, 406, 415)

log = logging.getLogger("mcpproxy.backend")


class HttpConnector(NegotiatingConnector):
    """Connector for Streamable HTTP of both eras, and HTTP+SSE."""

    transport: TransportName | None

    def __init__(
        self,
        endpoint: McpHttpClient,
        settings: BackendSettings,
        background: TaskSet,
        headers_changed: Sequence[Callable[[], bool]] = (),
        tls_changed: Callable[[], bool] = lambda: False,
    ) -> None:
        """The last two report changed values of the headers, and of the TLS context."""
        super().__init__(settings, background)
        self._endpoint = endpoint
        self._headers_changed = headers_changed
        self._tls_changed = tls_changed
        self._fixed_transport = settings.transport
        self._for_callers = settings.for_callers
        if settings.transport == "sse":
            self._pinned_era = "legacy"
        url = endpoint.client.url.encode()
        self._target = hashlib.blake2b(url, digest_size=6).hexdigest()
        self._server: ServerDescription | None = None
        self._declared: tuple[bytes, bytes | None, str] | None = None
        self._body = b""
        """The latest `initialize`, which declared `_declared`."""
        self._introduced: tuple[Raw, ServerDescription, tuple[str, ...]] | None = None
        """The latest result of `initialize`."""
        self._known: tuple[bytes, ServerDescription, tuple[str, ...]] | None = None
        """The latest response to `initialize` that callbacks have read, and its contents."""
        self._sse_only = settings.transport == "sse"
        deadline = self._deadline
        self._probe = min(deadline.initialize / 2, float(PROBE_TIME.value))
        """Seconds that a probe may take in addition to the time to initialize."""
        self._time_limit = TimeLimit(deadline.connect + self._probe + deadline.initialize)

    @property
    def answered_at(self) -> float:
        return self._endpoint.client.answered_at

    @property
    def connecting(self) -> tuple[int, float]:
        return self._endpoint.client.connects, self._endpoint.client.connect_seconds

    def forget(self) -> None:
        super().forget()
        self._sse_only = self._fixed_transport == "sse"
        self._server = None

    def changed(self) -> bool:
        # Free connections are closed at once, the others after their response.
        is_changed = any(changed() for changed in self._headers_changed)
        if self._tls_changed():
            self._endpoint.client.renew()
            is_changed = True
        return is_changed

    async def _modern(self, client: ClientIdentity) -> UpstreamSession | None:
        if self._server is None:
            message = await self._discover(client)
            if message is not None and names_modern_revision(message):
                # The backend supports the era, and suggests another revision.
                message = await self._discover(client)
            if message is not None:
                self._server = read_description(message)
        if self._server is None:
            return None
        self.transport = "streamable-http"
        return HttpModernSession(self._endpoint.of(client), self._server)

    async def _discover(self, client: ClientIdentity) -> Message | None:
        outgoing = discover_request(client)
        headers = (
            (h.PROTOCOL_VERSION, rev.LATEST_MODERN.encode()),
            (h.METHOD, b"server/discover"),
        )
        limit = None if self._pinned_era else self._deadline.connect + self._probe
        try:
            async with asyncio.timeout(limit):
                endpoint = self._endpoint.of(client)
                response = await endpoint.post(outgoing.body(), headers, again=True)
                return await first_response(self._endpoint, response, outgoing.id)
        except TimeoutError:
            PROBE_TIME.record()
            raise TimedOut(f"no response to server/discover within {limit:g} s") from None

    async def _legacy(self, client: ClientIdentity) -> UpstreamSession:
        if not self._sse_only:
            try:
                return await self._legacy_post(client)
            except EraNotSupported as error:
                # A session over HTTP+SSE could not follow the tokens of its caller.
                stays = self._fixed_transport != "auto" or self._for_callers
                if stays or not error.no_post or self._server:
                    raise
                refusal = error
            try:
                return await self._sse(client)
            except ProtocolError:
                # The backend has no transport of this era, but may support the other era.
                raise refusal from None
        return await self._sse(client)

    async def _legacy_post(
        self, client: ClientIdentity, sent: ClientResponse | None = None
    ) -> UpstreamSession:
        """Open a session, or continue with the response if `initialize` was `sent`."""
        endpoint, body = self._endpoint.of(client), self._initialize_body(client)
        response = await endpoint.post(body, (), sent=sent, again=True)
        try:
            status, session_id = response.status, session_id_of(response)
            cookies = endpoint.cookies_of(response)
        except BaseException:
            response.close()
            raise
        message = await first_response(self._endpoint, response, INITIALIZE)
        if message is None:
            path = endpoint.client.origin.path
            remedy = f"; correct the path {path}" if status == 404 else ""
            reason = f"initialize: HTTP {status} without an MCP message{remedy}"
            raise (
                EraNotSupported(reason, no_post=True)
                if status in _NO_ENDPOINT
                else ProtocolError(reason)
            )
        server, names = self._introduction(message)
        self.transport = "streamable-http"
        record = SessionRecord(self._target, session_id or b"", server.revision, cookies, names)
        link = self._link(record, server, client)
        await self._send_initialized(link)
        return link

    def begin_open(self, client: ClientIdentity, done: OnOpened) -> bool:
        # Only with a backend that is known to have sessions over Streamable HTTP.
        known = self.transport == "streamable-http" and "legacy" in self._supported
        if not known or self._era_order(client)[0] != "legacy":
            return False

        def on_response() -> None:
            deadline.cancel()
            if response is None or deadline.missed:
                done(None, self._raise_late)
                return
            link = self._link_of(endpoint, response, client)
            if link is None:
                done(None, functools.partial(self._open_after, response, client))
                return
            again = functools.partial(done, None, functools.partial(self._repeat, link))
            self._begin_initialized(link, functools.partial(done, link, None), again)

        endpoint = self._endpoint.of(client)
        response = endpoint.send(self._initialize_body(client), (), on_response)
        if response is None:
            return False
        deadline = self._time_limit.start(response.close)
        return True

    def _link_of(
        self, endpoint: McpHttpClient, response: ClientResponse, client: ClientIdentity
    ) -> HttpLegacySession | None:
        """Return the session that began with this response, or None if only a task can read it."""
        body, known = single_message(response), self._known
        if body is None:
            return None
        try:
            if known is None or body != known[0]:
                message = jsonrpc.parse_bounded(body)
                if "method" in message or not jsonrpc.answers(message, INITIALIZE):
                    return None
                known = self._known = (body, *self._introduction(message))
            session_id = session_id_of(response)
        except (BackendError, RpcError):
            return None
        if not response.complete:
            response.leave()
        cookies = endpoint.cookies_of(response)
        record = SessionRecord(
            self._target, session_id or b"", known[1].revision, cookies, known[2]
        )
        return self._link(record, known[1], client)

    async def _open_after(
        self, response: ClientResponse, client: ClientIdentity
    ) -> UpstreamSession:
        """Continue with a response to `initialize` that callbacks could not read."""
        if not response.status:
            # The server may have just closed the connection.
            response.close()
            return await self.open(client)
        try:
            return await self._in_time(self._legacy_post(client, response))
        except EraNotSupported:
            return await self.open(client)

    async def _raise_late(self) -> UpstreamSession:
        raise self._late()

    async def _repeat(self, link: HttpLegacySession) -> UpstreamSession:
        await self._repeat_initialized(link)
        return link

    def _initialize_body(self, client: ClientIdentity) -> bytes:
        """Return the request that begins a session of this client, usually that of the session
        before."""
        declared = client.capabilities, client.info, self.revision_for(client)
        if declared != self._declared:
            request = initialize_request(client, declared[2])
            self._declared, self._body = declared, request.body()
        return self._body

    def _introduction(self, message: Message) -> tuple[ServerDescription, tuple[str, ...]]:
        """Parse a response to `initialize`, usually the same as that of the session before, and
        return it with its capabilities. Raises EraNotSupported, ProtocolError."""
        result = message.get("result")
        if self._introduced is None or result != self._introduced[0]:
            server = parse_initialize_result(message, self._pinned)
            names = known_capabilities(server.capabilities)
            self._introduced = (message["result"], server, names)
        return self._introduced[1:]

    def _link(
        self,
        record: SessionRecord,
        server: ServerDescription,
        client: ClientIdentity,
        *,
        resumed: bool = False,
    ) -> HttpLegacySession:
        return HttpLegacySession(
            self._endpoint.of(client).with_cookies(record.cookies),
            server,
            record.id or None,
            self._background,
            shared=self._sharing
            or (self._sharing_by_principal and client.modern and bool(client.principal)),
            record=record,
            resumed=resumed,
        )

    def record_of(self, link: UpstreamSession) -> SessionRecord | None:
        if not link.stateful:
            return SessionRecord(self._target)
        return link.record if isinstance(link, HttpLegacySession) else None

    def can_resume(self, record: SessionRecord) -> bool:
        return record.target == self._target

    async def resume(self, record: SessionRecord, client: ClientIdentity) -> UpstreamSession:
        if not self.can_resume(record):
            return await super().resume(record, client)
        if record.id:
            return self._resumed(record, client)
        link = await self.open(client)
        if link.stateful:
            await link.close()
            raise ContinuationFailed("the backend has restarted, and keeps sessions now")
        return link

    def _resumed(
        self, record: SessionRecord, client: ClientIdentity, *, resumed: bool = True
    ) -> HttpLegacySession:
        capabilities = jsonrpc.encode_raw({name: {} for name in record.capabilities})
        server = ServerDescription(record.revision, {"capabilities": capabilities})
        return self._link(record, server, client, resumed=resumed)

    async def end(self, record: SessionRecord, client: ClientIdentity) -> None:
        if record.id and self.can_resume(record):
            await self._resumed(record, client, resumed=False).close()

    async def _send_initialized(self, link: HttpLegacySession) -> None:
        """Send `notifications/initialized`. Never raises."""
        ended, again = asyncio.Event(), asyncio.Event()

        def on_failure() -> None:
            again.set()
            ended.set()

        self._begin_initialized(link, ended.set, on_failure)
        await ended.wait()
        if again.is_set():
            await self._repeat_initialized(link)

    def _begin_initialized(
        self, link: HttpLegacySession, done: Callable[[], object], again: Callable[[], object]
    ) -> None:
        """Send `notifications/initialized`; `again` is called if a task has to repeat it.

        Only the transmission matters: a backend that refuses it, or delays its HTTP response, may
        answer requests nevertheless.
        """
        waiting: list[Timer] = []

        def on_end() -> None:
            if not waiting or response is None:
                return
            # Removed, because a cycle of the timer and its callback would outlive both.
            deadline = waiting.pop()
            deadline.cancel()
            response.leave()
            if deadline.missed:
                INITIALIZED_TIME.record()
            # Without a response, the connection broke.
            (done if deadline.missed or response.status else again)()

        response = link.begin_initialized(on_end)
        if response is None:
            again()
        else:
            waiting.append(self._initialized_limit.start(on_end))

    async def _repeat_initialized(self, link: HttpLegacySession) -> None:
        """Send `notifications/initialized`, which may have been sent before, in a task."""
        task = self._background.spawn(send_initialized(link))
        done, _ = await asyncio.wait((task,), timeout=INITIALIZED_TIME.value)
        if not done:
            INITIALIZED_TIME.record()

    async def _sse(self, client: ClientIdentity) -> UpstreamSession:
        channel = await sse.connect(self._endpoint.of(client), self._deadline.initialize)
        link = MultiplexedSession(channel, self._background)
        await initialize(link, client, self.revision_for(client), self._pinned)
        self.transport, self._sse_only = "sse", True
        return link

    async def close(self) -> None:
        await self._endpoint.close()
