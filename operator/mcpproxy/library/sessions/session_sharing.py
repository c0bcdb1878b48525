"""Sessions that many requests share, and factories that decide which do.

A factory that returns a client it returned before wants that client's one session to be reused;
a new client each time is a fresh session each time.
"""

import asyncio
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Any, Final

from mcpproxy.api.defaults import BackendSettings
from mcpproxy.library.targets import ServerTarget
from mcpproxy.proxy.core.errors import SessionNotFound, Unreachable
from mcpproxy.proxy.core.exchange import CallContext, ClientIdentity
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import Message
from mcpproxy.proxy.protocol.revisions import LATEST_MODERN
from mcpproxy.proxy.upstream.backend import BackendContext
from mcpproxy.proxy.upstream.client_features import ASKED, DECLARED, FeaturePolicy
from mcpproxy.proxy.upstream.connect.negotiation import Connector
from mcpproxy.proxy.upstream.transports.session import (
    OnMessage,
    TaskSet,
    UpstreamRequest,
    UpstreamSession,
)

MAX_SOURCES: Final = 64
"""Different servers that one factory may name before the first are forgotten."""


class ListenerFlag:
    """What is said outside of requests on sessions that nobody owns: one listener is enough."""

    def __init__(self) -> None:
        self.listening = False

    def gone(self, link: UpstreamSession) -> None:
        """The backend forgot this session."""


class ClientSession(ListenerFlag):
    """The one session of a client, opened when it is first needed, and anew when it ended."""

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
        self._opener: Connector | None = None
        self._link: UpstreamSession | None = None

    async def link(self, around: BackendContext) -> UpstreamSession:
        """The session. Raises BackendError."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            # What another event loop held is lost with it.
            self._begin()
            self._loop = loop
        async with self._lock:
            if self._link is None or not self._link.alive:
                if self._opened and self._source.once:
                    raise Unreachable("its transport has ended, and can't be opened again")
                self._opened = True
                self._link = await self._open(around)
            return self._link

    async def _open(self, around: BackendContext) -> UpstreamSession:
        self.listening = False
        if self._opener is None:
            # Where the era without sessions is spoken, there is nothing to share.
            given = replace(self._source.settings, session_mode="Reused")
            self._opener = self._source.opener(given, around, self._background)
        everything = {feature: DECLARED[feature] for feature in ASKED.values()}
        declared = self._forwarding.capabilities(jsonrpc.encode(everything))
        return await self._opener.open(ClientIdentity(LATEST_MODERN, declared, info=around.info))

    def gone(self, link: UpstreamSession) -> None:
        if self._link is link:
            self._link, self.listening = None, False

    async def close(self) -> None:
        """End it."""
        link, self._link = self._link, None
        if link is not None:
            await link.close()
        await self._background.close(grace=2.0)
        if self._opener is not None:
            await self._opener.close()
        self._begin()


class FilteredSession:
    """A link that forwards only what its client lets pass."""

    def __init__(self, link: UpstreamSession, forwarding: FeaturePolicy) -> None:
        self.greeting = link.greeting
        self.stateful = link.stateful
        self._link = link
        self._forwarding = forwarding

    @property
    def behind(self) -> UpstreamSession:
        """The link that requests go over."""
        return self._link

    @property
    def alive(self) -> bool:
        return self._link.alive

    async def request(self, outgoing: UpstreamRequest, caller: CallContext) -> Message:
        return await self._forwarding.call(self._link.request, outgoing, caller)

    def begin(
        self, outgoing: UpstreamRequest, client: ClientIdentity, done: Callable[[], None]
    ) -> None:
        """A task waits for each answer."""

    def try_complete(self, outgoing: UpstreamRequest) -> bool:
        """Nothing is begun."""
        return False

    async def notify(self, message: Message, client: ClientIdentity | None = None) -> None:
        if self._forwarding.forwards(jsonrpc.decode_str(message.get("method")) or ""):
            await self._link.notify(message, client)

    async def listen(
        self,
        standing: CallContext,
        announced: OnMessage,
        ready: Callable[[], None],
        uris: Sequence[str] = (),
    ) -> None:
        await self._link.listen(self._forwarding.caller(standing), announced, ready, uris)

    async def close(self) -> None:
        await self._link.close()


class BorrowedSession(FilteredSession):
    """A link that somebody else keeps: closing it does nothing.

    It counts as a session, so that each request gets one of its own from the factory.
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
        standing: CallContext,
        announced: OnMessage,
        ready: Callable[[], None],
        uris: Sequence[str] = (),
    ) -> None:
        """The first who listens does so for all."""
        if self._session.listening and not uris:
            ready()
            return
        self._session.listening = True
        try:
            await super().listen(standing, announced, ready, uris)
        except BaseException:
            self._session.listening = False
            raise

    async def close(self) -> None: ...


class FactoryConnector(Connector):
    """Asks a factory for a client whenever a session is wanted."""

    def __init__(
        self,
        choose: Callable[[], Any],
        settings: BackendSettings,
        around: BackendContext,
        background: TaskSet,
    ) -> None:
        """`choose` is an async callable that gives a client (see `client.ProxyClient`)."""
        super().__init__(settings, background)
        self._choose = choose
        self._around = around
        self._seen: dict[int, Any] = {}
        self._shared: dict[int, Any] = {}
        self._openers: dict[Hashable, tuple[Connector, ListenerFlag]] = {}
        self._first = True

    async def open(self, client: ClientIdentity) -> UpstreamSession:
        try:
            chosen = await self._choose()
        except Exception as error:
            # It is the user's code; for clients, what it raises means that there is no backend.
            raise Unreachable(f"the client factory failed: {error}") from error
        if chosen.is_connected or await self._comes_again(chosen):
            link = await chosen.session.link(self._around)
            return BorrowedSession(link, replace(chosen.forwarding, presumed=True), chosen.session)
        return await self._fresh(chosen, client)

    async def _comes_again(self, chosen: Any) -> bool:
        """Whether the factory returns one client many times."""
        known = id(chosen) in self._seen
        if not known and len(self._seen) >= MAX_SOURCES:
            del self._seen[next(iter(self._seen))]
        self._seen[id(chosen)] = chosen
        if self._first:
            # Whether it makes new clients shows only at the second one.
            self._first = False
            known = await self._choose() is chosen
        if known:
            self._shared[id(chosen)] = chosen
        return known

    async def _fresh(self, chosen: Any, client: ClientIdentity) -> UpstreamSession:
        source: ServerTarget = chosen.source
        if source.key not in self._openers:
            if len(self._openers) >= MAX_SOURCES:
                oldest, _ = self._openers.pop(next(iter(self._openers)))
                await oldest.close()
            opener = source.opener(source.settings, self._around, self._background)
            self._openers[source.key] = opener, ListenerFlag()
        opener, listening = self._openers[source.key]
        forwarding: FeaturePolicy = chosen.forwarding
        link = await opener.open(forwarding.client(client))
        if link.stateful:
            return FilteredSession(link, forwarding)
        return BorrowedSession(link, forwarding, listening)

    def forget(self) -> None:
        for opener, _ in self._openers.values():
            opener.forget()

    async def close(self) -> None:
        for opener, _ in self._openers.values():
            await opener.close()
        for chosen in self._shared.values():
            if not chosen.is_connected:
                await chosen.session.close()
