"""Shared sessions, and connectors for client factories that decide which requests share one.

If a factory returns the same client again, that client's only session is reused. A new client for
each request means a new session for each request.
"""

import asyncio
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Any, Final

from mcpproxy.api.defaults import BackendSettings
from mcpproxy.library.targets import ServerTarget
from mcpproxy.proxy.embed import (
    ASKED,
    DECLARED,
    LATEST_MODERN,
    BackendContext,
    CallContext,
    ClientIdentity,
    Connector,
    FeaturePolicy,
    Message,
    OnMessage,
    SessionNotFound,
    TaskSet,
    Unreachable,
    UpstreamRequest,
    UpstreamSession,
    jsonrpc,
)

MAX_SOURCES: Final = 64
"""Number of different servers of one factory that are remembered; the oldest is forgotten first."""


class ListenerFlag:
    """A flag that ensures a single listener for messages outside of requests on shared sessions."""

    def __init__(self) -> None:
        self.listening = False

    def gone(self, link: UpstreamSession) -> None:
        """Forget a session that no longer exists at the backend."""


class ClientSession(ListenerFlag):
    """The only session of a client. It is opened when needed, and reopened after it ended."""

    def __init__(self, source: ServerTarget, forwarding: FeaturePolicy) -> None:
        super().__init__()
        self._source = source
        self._forwarding = forwarding
        self._opened = False
        self._begin()

    def _begin(self) -> None:
        self.listening = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = asyncio.Lock()
        self._background = TaskSet()
        self._connector: Connector | None = None
        self._link: UpstreamSession | None = None

    async def link(self, context: BackendContext) -> UpstreamSession:
        """Return the session. Raise BackendError."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            # A session cannot be used in an event loop other than its own.
            self._begin()
            self._loop = loop
        async with self._lock:
            if self._link is None or not self._link.alive:
                if self._opened and self._source.once:
                    raise Unreachable("the transport has ended and cannot be opened again")
                self._opened = True
                self._link = await self._open(context)
            return self._link

    async def _open(self, context: BackendContext) -> UpstreamSession:
        self.listening = False
        if self._connector is None:
            # In the era without sessions, nothing is shared.
            settings = replace(self._source.settings, session_mode="Reused")
            self._connector = self._source.make_connector(settings, context, self._background)
        everything = {feature: DECLARED[feature] for feature in ASKED.values()}
        declared = self._forwarding.capabilities(jsonrpc.encode(everything))
        return await self._connector.open(
            ClientIdentity(LATEST_MODERN, declared, info=context.info)
        )

    def gone(self, link: UpstreamSession) -> None:
        if self._link is link:
            self._link, self.listening = None, False

    async def close(self) -> None:
        """End the session."""
        link, self._link = self._link, None
        if link is not None:
            await link.close()
        await self._background.close(grace=2.0)
        if self._connector is not None:
            await self._connector.close()
        self._begin()


class FilteredSession:
    """A session that forwards only the features that its client permits."""

    def __init__(self, link: UpstreamSession, forwarding: FeaturePolicy) -> None:
        self.server = link.server
        self.stateful = link.stateful
        self._link = link
        self._forwarding = forwarding

    @property
    def behind(self) -> UpstreamSession:
        """The session that carries the requests."""
        return self._link

    @property
    def alive(self) -> bool:
        return self._link.alive

    async def request(self, outgoing: UpstreamRequest, caller: CallContext) -> Message:
        return await self._forwarding.call(self._link.request, outgoing, caller)

    async def notify(self, message: Message, client: ClientIdentity | None = None) -> None:
        if self._forwarding.forwards(jsonrpc.decode_str(message.get("method")) or ""):
            await self._link.notify(message, client)

    async def listen(
        self,
        session_context: CallContext,
        announced: OnMessage,
        ready: Callable[[], None],
        uris: Sequence[str] = (),
    ) -> None:
        await self._link.listen(self._forwarding.caller(session_context), announced, ready, uris)

    async def close(self) -> None:
        await self._link.close()


class BorrowedSession(FilteredSession):
    """A session that another object owns; closing it has no effect.

    It counts as stateful, so that each request gets a session from the factory.
    """

    def __init__(
        self, link: UpstreamSession, forwarding: FeaturePolicy, session: "ListenerFlag"
    ) -> None:
        super().__init__(link, forwarding)
        self.stateful = True
        self._session = session

    async def request(self, outgoing: UpstreamRequest, caller: CallContext) -> Message:
        try:
            return await super().request(outgoing, caller)
        except SessionNotFound:
            self._session.gone(self._link)
            raise

    async def listen(
        self,
        session_context: CallContext,
        announced: OnMessage,
        ready: Callable[[], None],
        uris: Sequence[str] = (),
    ) -> None:
        # The first listener serves all requests.
        if self._session.listening and not uris:
            ready()
            return
        self._session.listening = True
        try:
            await super().listen(session_context, announced, ready, uris)
        except BaseException:
            self._session.listening = False
            raise

    async def close(self) -> None: ...


class FactoryConnector(Connector):
    """A connector that requests a client from a factory for each session."""

    def __init__(
        self,
        choose: Callable[[], Any],
        settings: BackendSettings,
        context: BackendContext,
        background: TaskSet,
    ) -> None:
        """Create a connector. `choose` is an async callable that returns a client."""
        super().__init__(settings, background)
        self._choose = choose
        self._context = context
        self._seen: dict[int, Any] = {}
        self._shared: dict[int, Any] = {}
        self._connectors: dict[Hashable, tuple[Connector, ListenerFlag]] = {}
        self._first = True

    async def open(self, client: ClientIdentity) -> UpstreamSession:
        try:
            chosen = await self._choose()
        except Exception as error:
            # The user's code may raise any error. For clients, it means that no backend is
            # available.
            raise Unreachable(f"the client factory failed: {error}") from error
        if chosen.is_connected or await self._is_reused(chosen):
            link = await chosen.session.link(self._context)
            return BorrowedSession(link, replace(chosen.forwarding, presumed=True), chosen.session)
        return await self._open_unshared(chosen, client)

    async def _is_reused(self, chosen: Any) -> bool:
        """True if the factory returns the same client repeatedly."""
        is_known = id(chosen) in self._seen
        if not is_known and len(self._seen) >= MAX_SOURCES:
            del self._seen[next(iter(self._seen))]
        self._seen[id(chosen)] = chosen
        if self._first:
            # Only a second call shows if the factory creates new clients.
            self._first = False
            is_known = await self._choose() is chosen
        if is_known:
            self._shared[id(chosen)] = chosen
        return is_known

    async def _open_unshared(self, chosen: Any, client: ClientIdentity) -> UpstreamSession:
        source: ServerTarget = chosen.source
        if source.key not in self._connectors:
            if len(self._connectors) >= MAX_SOURCES:
                oldest, _ = self._connectors.pop(next(iter(self._connectors)))
                await oldest.close()
            connector = source.make_connector(source.settings, self._context, self._background)
            self._connectors[source.key] = connector, ListenerFlag()
        connector, listening = self._connectors[source.key]
        forwarding: FeaturePolicy = chosen.forwarding
        link = await connector.open(forwarding.client(client))
        if link.stateful:
            return FilteredSession(link, forwarding)
        return BorrowedSession(link, forwarding, listening)

    def forget(self) -> None:
        for connector, _ in self._connectors.values():
            connector.forget()

    async def close(self) -> None:
        for connector, _ in self._connectors.values():
            await connector.close()
        for chosen in self._shared.values():
            if not chosen.is_connected:
                await chosen.session.close()
