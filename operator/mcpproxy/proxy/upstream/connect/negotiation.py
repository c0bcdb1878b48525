"""Opening links: which transport and which eras a backend speaks, found out once and remembered.

A backend that speaks both eras is spoken to in the client's own. The probe for the modern era
(`server/discover`) takes only a clear answer for a yes; whatever else comes of it (401, 429, 5xx, a
lost connection, nothing), `initialize` follows.
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
    """What is remembered of one backend's transport and eras, and how a link is opened."""

    def __init__(self, settings: BackendSettings, background: TaskSet) -> None:
        pin = settings.protocol
        self._deadline = settings.deadlines
        self._in_time = TimeLimit(self._deadline.connect + self._deadline.initialize)
        self._soon = TimeLimit(INITIALIZED_TIME.value)
        self._background = background
        self._pinned = pin if pin in rev.ALL else None
        self._sharing = settings.session_mode == "Reused"
        self._by_principal = settings.session_mode == "PerClient"
        """Clients without sessions share those with the backend, each with its own principal."""
        self._pinned_era: Era | None = None
        if pin != "auto":
            self._pinned_era = "modern" if pin == "modern" or pin in rev.MODERN else "legacy"
        self._refused: set[Era] = set()
        """Eras that it was asked for and does not speak."""
        self._spoken: set[Era] = set()
        """Eras that it was heard to speak."""
        self._doubt = Doubt()
        self.transport: TransportName | None = None

    def forget(self) -> None:
        """The backend failed: it may come back speaking another era."""
        self._refused.clear()
        self._spoken.clear()
        self._doubt = Doubt()

    def changed(self) -> bool:
        """Whether anything was opened with other mounted values than those of now, since this was
        asked last; nothing that can still be chosen should be used again then."""
        return False

    def revision_for(self, client: ClientIdentity) -> str:
        """The legacy revision to offer on behalf of a client."""
        return self._pinned or rev.negotiated(client.revision)

    async def open(self, client: ClientIdentity) -> UpstreamSession:
        """A new upstream session for this client, ready for requests. Raises BackendError."""
        deadline = self._deadline
        try:
            with self._in_time():
                return await self._open(client)
        except RpcError as error:
            raise ProtocolError(f"it does not answer as MCP wants: {error}") from None
        except TimeoutError:
            raise TimedOut(f"it did not open a session within {deadline.initialize:g} s") from None

    async def _open(self, client: ClientIdentity) -> UpstreamSession:
        """The client's own era where the backend speaks it, the other one where it does not."""
        refusal: ProtocolError | None = None
        transient: EraNotSupported | None = None
        doubt: BackendError | None = None
        eras = self._eras(client)
        for era in eras:
            try:
                link = await (self._legacy if era == "legacy" else self._modern)(client)
                if link is not None:
                    self._speaks(era, doubt)
                    return link
                self._refused.add("modern")
                refusal = refusal or ProtocolError("it does not speak the modern era")
            except EraNotSupported as error:
                if error.transient:
                    transient = error
                else:
                    self._refused.add("legacy")
                refusal = error
            except BackendError as error:
                last = era is eras[-1] or not self._doubts(era, error)
                if last and transient is None:
                    raise
                doubt = error
        self._refused.clear()
        raise transient or doubt or refusal or ProtocolError("it speaks no era of MCP")

    def _doubts(self, era: Era, error: BackendError) -> bool:
        """Whether a probe that ended so says nothing of the era, and the other one is tried."""
        unsaid = era == "modern" and era not in self._spoken
        return unsaid and error.reached

    def _speaks(self, era: Era, doubt: BackendError | None = None) -> None:
        self._spoken.add(era)
        if era == "modern":
            self._doubt = Doubt()
        elif doubt is not None:
            self._doubt.again()

    def _eras(self, client: ClientIdentity) -> list[Era]:
        if self._pinned_era is not None:
            return [self._pinned_era]
        # Where sessions are to be shared, the era that has none comes first.
        modern_first = client.modern or self._sharing
        order: list[Era] = ["modern", "legacy"] if modern_first else ["legacy", "modern"]
        known = [era for era in order if era not in self._refused]
        if known == ["modern", "legacy"] and self._doubt.lasts:
            return ["legacy", "modern"]
        return known or order

    async def _legacy(self, client: ClientIdentity) -> UpstreamSession | None:
        """A link of the legacy era. Raises EraNotSupported, BackendError."""
        raise NotImplementedError

    async def _modern(self, client: ClientIdentity) -> UpstreamSession | None:
        """A link of the modern era; None when the backend does not speak it."""
        raise NotImplementedError

    async def close(self) -> None:
        """Let go of connections."""


class HttpConnector(Connector):
    """Streamable HTTP of both eras, and HTTP+SSE."""

    transport: TransportName | None

    def __init__(
        self,
        endpoint: McpHttpClient,
        settings: BackendSettings,
        background: TaskSet,
        headers_changed: Callable[[], bool] = lambda: False,
        tls_changed: Callable[[], bool] = lambda: False,
    ) -> None:
        """The last two say what `changed` does, of requests and of connections."""
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
        """Seconds that a probe may take beside the time to initialize."""
        self._in_time = TimeLimit(deadline.connect + self._probe + deadline.initialize)

    def forget(self) -> None:
        super().forget()
        self._sse_only = self._fixed_transport == "sse"
        self._greeting = None

    def changed(self) -> bool:
        """Connections that are free are closed, others with their answer."""
        others = self._headers_changed()
        if self._tls_changed():
            self._endpoint.client.renew()
            others = True
        return others

    async def _modern(self, client: ClientIdentity) -> UpstreamSession | None:
        if self._greeting is None:
            message = await self._discover(client)
            if message is not None and names_modern_revision(message):
                # It is of the era, and would have taken another try better.
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
        patience = None if self._pinned_era else self._deadline.connect + self._probe
        try:
            async with asyncio.timeout(patience):
                endpoint = self._endpoint.of(client)
                response = await endpoint.post(outgoing.body(), headers, again=True)
                return await first_response(self._endpoint, response, outgoing.id)
        except TimeoutError:
            PROBE_TIME.record()
            raise TimedOut(f"no answer to server/discover within {patience:g} s") from None

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
                # Neither way leads to this era; it may speak the other one.
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
            remedy = f"; correct the path, now {path}" if status == 404 else ""
            why = f"it answers initialize with HTTP {status} and no MCP{remedy}"
            raise (
                EraNotSupported(why, no_post=True) if status in _NO_ENDPOINT else ProtocolError(why)
            )
        greeting = parse_initialize_result(message, self._pinned)
        self.transport = "streamable-http"
        link = HttpLegacySession(
            endpoint,
            greeting,
            session_id,
            self._background,
            shared=self._sharing
            or (self._by_principal and client.modern and bool(client.principal)),
        )
        await self._initialized(link)
        return link

    async def _initialized(self, link: HttpLegacySession) -> None:
        """Tell the backend that the session has begun.

        That it goes out is all that matters: a backend that refuses it, or holds its HTTP response
        back, may answer requests all the same.
        """
        told = asyncio.Event()
        response = link.begin_initialized(told.set)
        if response is not None:
            deadline = self._soon.start(told.set)
            try:
                await told.wait()
            finally:
                deadline.cancel()
                response.leave()
            if deadline.missed:
                INITIALIZED_TIME.record()
            if deadline.missed or response.status:
                return
        # There is no free connection, or it was lost: the notification may be sent twice.
        telling = self._background.spawn(send_initialized(link))
        done, _ = await asyncio.wait((telling,), timeout=INITIALIZED_TIME.value)
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
    """Child processes: one for each link; the first message decides the era of each."""

    def __init__(
        self,
        spawn: Any,
        settings: BackendSettings,
        background: TaskSet,
        env_changed: Callable[[], bool] = lambda: False,
    ) -> None:
        """`spawn` is an async callable that starts a process and returns its StdioChannel;
        `env_changed` says what `changed` does of the environments of processes."""
        super().__init__(settings, background)
        self._spawn = spawn
        self._env_changed = env_changed
        self.transport = "stdio"

    def changed(self) -> bool:
        return self._env_changed()

    async def _open(self, client: ClientIdentity) -> UpstreamSession:
        """One process is asked in both eras."""
        first, *others = self._eras(client)
        if first in self._spoken or not others:
            return await super()._open(client)
        try:
            return await self._agreed(client, modern_first=first == "modern")
        except Unreachable:
            # Some programs end at what they don't know.
            if first == "legacy":
                raise
        link = await self._legacy(client)
        self._speaks("legacy")
        self._refused.add("modern")
        return link

    async def _legacy(self, client: ClientIdentity) -> UpstreamSession:
        link = await self._link()
        await initialize(link, client, self.revision_for(client), self._pinned)
        return link

    async def _link(self) -> MultiplexedSession:
        channel: StdioChannel = await self._spawn()
        return MultiplexedSession(channel, self._background)

    async def _modern(self, client: ClientIdentity) -> UpstreamSession | None:
        """A link of the modern era; None when the server does not know `server/discover`."""
        link = await self._link()
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

    async def _agreed(self, client: ClientIdentity, *, modern_first: bool) -> UpstreamSession:
        """A link of the era that a new process speaks. Raises BackendError."""
        link = await self._link()
        asking = StdioHandshake(link, client, self.revision_for(client), self._pinned)
        try:
            patience = min(self._deadline.initialize / 2, float(PROGRAM_PROBE_TIME.value))
            link.greeting = await asking.greeting(patience, modern_first=modern_first)
            if not link.greeting.modern:
                await link.notify(jsonrpc.notification_message(INITIALIZED))
        except BaseException:
            await link.close()
            raise
        finally:
            asking.close()
        self._speaks("modern" if link.greeting.modern else "legacy", asking.doubt)
        if link.greeting.modern is not modern_first and asking.doubt is None:
            self._refused.add("modern" if modern_first else "legacy")
        return link
