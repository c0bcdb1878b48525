"""Sessions with HTTP backends: probes for the era, and the choice of the transport."""

import asyncio
import hashlib
import logging
from collections.abc import Callable, Sequence
from typing import Final

from mcpproxy.api.defaults import BackendSettings
from mcpproxy.limits.sessions import INITIALIZED_TIME, PROBE_TIME
from mcpproxy.proxy.core.errors import ContinuationFailed, ProtocolError, TimedOut
from mcpproxy.proxy.core.exchange import ClientIdentity
from mcpproxy.proxy.core.session_records import SessionRecord, known_capabilities
from mcpproxy.proxy.protocol import headers as h
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol import revisions as rev
from mcpproxy.proxy.protocol.jsonrpc import Message
from mcpproxy.proxy.time_limits import TimeLimit
from mcpproxy.proxy.upstream.connect.handshake import (
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
from mcpproxy.proxy.upstream.transports import sse
from mcpproxy.proxy.upstream.transports.http_endpoint import McpHttpClient, session_id_of
from mcpproxy.proxy.upstream.transports.http_legacy import HttpLegacySession
from mcpproxy.proxy.upstream.transports.http_modern import HttpModernSession
from mcpproxy.proxy.upstream.transports.multiplexed import MultiplexedSession
from mcpproxy.proxy.upstream.transports.session import ServerDescription, TaskSet, UpstreamSession

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

    async def _legacy_post(self, client: ClientIdentity) -> UpstreamSession:
        outgoing = initialize_request(client, self.revision_for(client))
        endpoint = self._endpoint.of(client)
        response = await endpoint.post(outgoing.body(), (), again=True)
        status, session_id = response.status, session_id_of(response)
        cookies = endpoint.cookies_of(response)
        message = await first_response(self._endpoint, response, outgoing.id)
        if message is None:
            path = endpoint.client.origin.path
            remedy = f"; correct the path {path}" if status == 404 else ""
            reason = f"initialize: HTTP {status} without an MCP message{remedy}"
            raise (
                EraNotSupported(reason, no_post=True)
                if status in _NO_ENDPOINT
                else ProtocolError(reason)
            )
        server = parse_initialize_result(message, self._pinned)
        self.transport = "streamable-http"
        names = known_capabilities(server.capabilities)
        record = SessionRecord(self._target, session_id or b"", server.revision, cookies, names)
        link = self._link(record, server, client)
        await self._send_initialized(link)
        return link

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
        """Send `notifications/initialized`.

        Only the transmission matters: a backend that refuses it, or delays its HTTP response, may
        answer requests nevertheless.
        """
        completed = asyncio.Event()
        response = link.begin_initialized(completed.set)
        if response is not None:
            deadline = self._initialized_limit.start(completed.set)
            try:
                await completed.wait()
            finally:
                deadline.cancel()
                response.leave()
            if deadline.missed:
                INITIALIZED_TIME.record()
            if deadline.missed or response.status:
                return
        # No connection was free or it broke, so the notification may be sent twice.
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
