"""Negotiation of transport and era for new upstream sessions; the result is cached.

A backend that supports both eras is used in the client's era. Only a valid response to the probe
for the modern era (`server/discover`) counts as support. After anything else (401, 429, 5xx, a
broken connection, no response), `initialize` follows.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final, Literal

from mcpproxy.api.defaults import BackendSettings
from mcpproxy.limits.sessions import INITIALIZED_TIME, PROBE_TIME, PROGRAM_PROBE_TIME
from mcpproxy.proxy.core.errors import BackendError, ProtocolError, TimedOut, Unreachable
from mcpproxy.proxy.core.exchange import INITIALIZED, ClientIdentity, NullContext
from mcpproxy.proxy.protocol import headers as h
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol import revisions as rev
from mcpproxy.proxy.protocol.jsonrpc import Message, RpcError
from mcpproxy.proxy.upstream.connect.doubt import Doubt
from mcpproxy.proxy.upstream.connect.handshake import (
    EraNotSupported,
    StdioHandshake,
    discover_request,
    first_response,
    greeting_or_error,
    initialize,
    initialize_request,
    names_modern_revision,
    parse_initialize_result,
    send_initialized,
)
from mcpproxy.proxy.upstream.time_limits import TimeLimit
from mcpproxy.proxy.upstream.transports import sse
from mcpproxy.proxy.upstream.transports.http_endpoint import McpHttpClient, session_id_of
from mcpproxy.proxy.upstream.transports.http_legacy import HttpLegacySession
from mcpproxy.proxy.upstream.transports.http_modern import HttpModernSession
from mcpproxy.proxy.upstream.transports.multiplexed import MultiplexedSession
from mcpproxy.proxy.upstream.transports.session import ServerDescription, TaskSet, UpstreamSession
from mcpproxy.proxy.upstream.transports.stdio import StdioChannel

Era = Literal["legacy", "modern"]
TransportName = Literal["streamable-http", "sse", "stdio"]
_NO_ENDPOINT: Final = (400, 404, 405, 406, 415)

log = logging.getLogger("mcpproxy.backend")


class Connector:
    """Opener of sessions with one backend; caches its transport and eras."""

    def __init__(self, settings: BackendSettings, background: TaskSet) -> None:
        pin = settings.protocol
        self._deadline = settings.deadlines
        self._time_limit = TimeLimit(self._deadline.connect + self._deadline.initialize)
        self._initialized_limit = TimeLimit(INITIALIZED_TIME.value)
        self._background = background
        self._pinned = pin if pin in rev.ALL else None
        self._sharing = settings.session_mode == "Reused"
        self._sharing_by_principal = settings.session_mode == "PerClient"
        """Clients without sessions share upstream sessions, one for each principal."""
        self._pinned_era: Era | None = None
        if pin != "auto":
            self._pinned_era = "modern" if pin == "modern" or pin in rev.MODERN else "legacy"
        self._unsupported: set[Era] = set()
        """Eras that the backend has refused."""
        self._supported: set[Era] = set()
        """Eras in which the backend has responded."""
        self._doubts: dict[Era, Doubt] = {"legacy": Doubt(), "modern": Doubt()}
        self.transport: TransportName | None = None

    def forget(self) -> None:
        """Discard what is known of the backend, because it may return with another era."""
        self._unsupported.clear()
        self._supported.clear()
        self._doubts = {"legacy": Doubt(), "modern": Doubt()}

    def changed(self) -> bool:
        """True if something was opened with outdated mounted values since the last call.

        Such connections and processes must not be used for new requests.
        """
        return False

    def revision_for(self, client: ClientIdentity) -> str:
        """Return the legacy revision to offer for a client."""
        return self._pinned or rev.negotiate_revision(client.revision)

    async def open(self, client: ClientIdentity) -> UpstreamSession:
        """Open an upstream session for this client, ready for requests. Raises BackendError."""
        deadline = self._deadline
        try:
            with self._time_limit():
                return await self._open(client)
        except RpcError as error:
            raise ProtocolError(f"invalid MCP response: {error}") from None
        except TimeoutError:
            raise TimedOut(f"no session was opened within {deadline.initialize:g} s") from None

    async def _open(self, client: ClientIdentity) -> UpstreamSession:
        """Open a session in the client's era if the backend supports it, otherwise in the other
        one."""
        refusal: ProtocolError | None = None
        transient: EraNotSupported | None = None
        doubt: BackendError | None = None
        eras = self._era_order(client)
        for era in eras:
            try:
                link = await (self._legacy if era == "legacy" else self._modern)(client)
                if link is not None:
                    self._record_support(era, doubt)
                    return link
                self._unsupported.add("modern")
                refusal = refusal or ProtocolError("the backend supports no modern revision")
            except EraNotSupported as error:
                if error.transient:
                    transient = error
                else:
                    self._unsupported.add("legacy")
                refusal = error
            except BackendError as error:
                is_final = era is eras[-1] or not self._tries_other_era(era, error)
                if is_final and transient is None:
                    raise
                doubt = error
        self._unsupported.clear()
        raise transient or doubt or refusal or ProtocolError("the backend supports no MCP revision")

    def _tries_other_era(self, era: Era, error: BackendError) -> bool:
        """True if a failed probe proves nothing about the era, so that the other era is tried."""
        is_unproven = era == "modern" and era not in self._supported
        return is_unproven and error.reached

    def _record_support(self, era: Era, doubt: BackendError | None = None) -> None:
        self._supported.add(era)
        self._doubts[era] = Doubt()
        if doubt is not None and era == "legacy":
            self._doubts["modern"].again()

    def _era_order(self, client: ClientIdentity) -> list[Era]:
        if self._pinned_era is not None:
            return [self._pinned_era]
        # Reused sessions prefer the era without sessions.
        modern_first = client.modern or self._sharing
        order: list[Era] = ["modern", "legacy"] if modern_first else ["legacy", "modern"]
        not_refused = [era for era in order if era not in self._unsupported]
        if len(not_refused) == 2 and self._doubts[order[0]].is_active:
            not_refused.reverse()
        return not_refused or order

    async def _legacy(self, client: ClientIdentity) -> UpstreamSession | None:
        """Open a legacy session. Raises EraNotSupported, BackendError."""
        raise NotImplementedError

    async def _modern(self, client: ClientIdentity) -> UpstreamSession | None:
        """Open a modern session; None if the backend does not support the era. Raises
        BackendError."""
        raise NotImplementedError

    async def close(self) -> None:
        """Close connections."""


class HttpConnector(Connector):
    """Connector for Streamable HTTP of both eras, and HTTP+SSE."""

    transport: TransportName | None

    def __init__(
        self,
        endpoint: McpHttpClient,
        settings: BackendSettings,
        background: TaskSet,
        headers_changed: Callable[[], bool] = lambda: False,
        tls_changed: Callable[[], bool] = lambda: False,
    ) -> None:
        """The last two report changed values of the headers and of the TLS context."""
        super().__init__(settings, background)
        self._endpoint = endpoint
        self._headers_changed = headers_changed
        self._tls_changed = tls_changed
        self._fixed_transport = settings.transport
        if settings.transport == "sse":
            self._pinned_era = "legacy"
        self._greeting: ServerDescription | None = None
        self._sse_only = settings.transport == "sse"
        deadline = self._deadline
        self._probe = min(deadline.initialize / 2, float(PROBE_TIME.value))
        """Seconds that a probe may take in addition to the time to initialize."""
        self._time_limit = TimeLimit(deadline.connect + self._probe + deadline.initialize)

    def forget(self) -> None:
        super().forget()
        self._sse_only = self._fixed_transport == "sse"
        self._greeting = None

    def changed(self) -> bool:
        # Free connections are closed at once, the others after their response.
        is_changed = self._headers_changed()
        if self._tls_changed():
            self._endpoint.client.renew()
            is_changed = True
        return is_changed

    async def _modern(self, client: ClientIdentity) -> UpstreamSession | None:
        if self._greeting is None:
            message = await self._discover(client)
            if message is not None and names_modern_revision(message):
                # The backend supports the era, and suggests another revision.
                message = await self._discover(client)
            if message is not None:
                self._greeting = greeting_or_error(message)
        if self._greeting is None:
            return None
        self.transport = "streamable-http"
        return HttpModernSession(self._endpoint.of(client), self._greeting)

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
                if self._fixed_transport != "auto" or not error.no_post or self._greeting:
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
        endpoint = endpoint.with_cookies(response)
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
        greeting = parse_initialize_result(message, self._pinned)
        self.transport = "streamable-http"
        link = HttpLegacySession(
            endpoint,
            greeting,
            session_id,
            self._background,
            shared=self._sharing
            or (self._sharing_by_principal and client.modern and bool(client.principal)),
        )
        await self._send_initialized(link)
        return link

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
        self._endpoint.client.close()


class StdioConnector(Connector):
    """Connector for child processes: one for each session, whose first messages decide the era."""

    def __init__(
        self,
        spawn: Any,
        settings: BackendSettings,
        background: TaskSet,
        env_changed: Callable[[], bool] = lambda: False,
    ) -> None:
        """`spawn` is an async callable that starts a process and returns its StdioChannel.
        `env_changed` reports changed values in the environment."""
        super().__init__(settings, background)
        self._spawn = spawn
        self._env_changed = env_changed
        self.transport = "stdio"

    def changed(self) -> bool:
        return self._env_changed()

    async def _open(self, client: ClientIdentity) -> UpstreamSession:
        # One process is probed for both eras.
        first, *others = self._era_order(client)
        if first in self._supported or not others:
            return await super()._open(client)
        try:
            return await self._open_probed(client, modern_first=first == "modern")
        except Unreachable:
            # Some programs exit when they receive an unknown method.
            link = await (self._legacy if first == "modern" else self._modern)(client)
            if link is None:
                raise
        self._record_support(others[0])
        if self._doubts[first].is_confirmed_by_exit():
            self._unsupported.add(first)
        return link

    async def _legacy(self, client: ClientIdentity) -> UpstreamSession:
        link = await self._start_session()
        await initialize(link, client, self.revision_for(client), self._pinned)
        return link

    async def _start_session(self) -> MultiplexedSession:
        channel: StdioChannel = await self._spawn()
        return MultiplexedSession(channel, self._background)

    async def _modern(self, client: ClientIdentity) -> UpstreamSession | None:
        # None if the server does not know `server/discover`.
        link = await self._start_session()
        greeting = None
        try:
            answer = await link.request(discover_request(client), NullContext(client))
            greeting = greeting_or_error(answer)
        finally:
            if greeting is None:
                await link.close()
        if greeting is None:
            return None
        link.greeting = greeting
        return link

    async def _open_probed(self, client: ClientIdentity, *, modern_first: bool) -> UpstreamSession:
        """Open a session in the era that a new process supports. Raises BackendError."""
        link = await self._start_session()
        handshake = StdioHandshake(link, client, self.revision_for(client), self._pinned)
        try:
            probe_limit = min(self._deadline.initialize / 2, float(PROGRAM_PROBE_TIME.value))
            link.greeting = await handshake.greeting(probe_limit, modern_first=modern_first)
            if not link.greeting.modern:
                await link.notify(jsonrpc.notification_message(INITIALIZED))
        except BaseException:
            await link.close()
            raise
        finally:
            handshake.close()
        self._record_support("modern" if link.greeting.modern else "legacy", handshake.doubt)
        if link.greeting.modern is not modern_first and handshake.doubt is None:
            self._unsupported.add("modern" if modern_first else "legacy")
        return link
