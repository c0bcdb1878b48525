"""What one backend lists to clients that declare capabilities or have headers for it.

A list is fetched when such a client first asks for it, over a session that declares what the
client does and has its headers, and kept for all clients in which the backend sees the same. Where
it can't be had in time, they are shown what the backend lists to clients that declare nothing.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Final

from mcpproxy.api.defaults import BackendSettings
from mcpproxy.limits.backends import LIST_VARIANT_BYTES, LIST_VARIANTS, LIST_WAIT
from mcpproxy.proxy.core.catalog.catalog import Catalog, ComponentList
from mcpproxy.proxy.core.errors import BackendError, ProtocolError, SessionNotFound, Unauthorized
from mcpproxy.proxy.core.exchange import CallContext, ClientIdentity
from mcpproxy.proxy.core.translation.namespacing import PrefixMapping
from mcpproxy.proxy.protocol.kinds import KINDS, ComponentKind
from mcpproxy.proxy.upstream.monitor.list_cache import YOUNG, fetch_list, selections
from mcpproxy.proxy.upstream.monitor.list_waits import PATIENCE, ListWait, RefreshTasks
from mcpproxy.proxy.upstream.monitor.requester import Requester
from mcpproxy.proxy.upstream.request_pace import RequestRate
from mcpproxy.proxy.upstream.transports.session import UpstreamSession

log = logging.getLogger("mcpproxy.backend")

SILENCE: Final = 10.0
"""Seconds after a failure in which the backend is not asked again."""
SESSION_REQUESTS: Final = 4
"""Requests that a list takes over a session which has to be opened for it."""
MAX_ROUNDS: Final = 3
"""How often a list is fetched again that the backend says has changed meanwhile."""

Look = Callable[[ClientIdentity], AbstractAsyncContextManager[UpstreamSession]]


@dataclass(slots=True)
class ListVariantState:
    """The lists of one backend for clients in which it sees the same."""

    patience: ListWait
    flights: dict[ComponentKind, RefreshTasks]
    caller: CallContext
    """The client that asked last, as the backend sees it."""
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """One list at a time, so that one session is enough for all of them."""
    changed: set[ComponentKind] = field(default_factory=set)
    """Kinds that the backend says have changed since they were fetched."""
    missed: set[ComponentKind] = field(default_factory=set)
    """Kinds that came too late for a client, which was shown something else."""
    sizes: dict[ComponentKind, int] = field(default_factory=dict)
    """Bytes of each list."""
    silent_until: dict[ComponentKind, float] = field(default_factory=dict)
    """When a kind that failed may be asked for again, in monotonic seconds."""

    @property
    def awaited(self) -> bool:
        """Whether a list is being fetched, which clients may wait for."""
        return any(flights.pending for flights in self.flights.values())


class VariantLists:
    """Keeps a view for each kind of client; `seen` is what tells them apart: see `Backend.seen`."""

    def __init__(
        self,
        name: str,
        settings: BackendSettings,
        catalog: Catalog,
        look: Look,
        as_seen: Callable[[ClientIdentity], CallContext],
        pace: RequestRate | None = None,
    ) -> None:
        """`look` gives a client's session, `as_seen` what the backend sees of the client."""
        self.on_change: Callable[[ComponentKind, str], None] = lambda kind, session: None
        """Called when clients would see another list: the client of a session, or with an empty
        session any of them."""
        self.on_failure: Callable[[], None] = lambda: None
        self.opening = 0.0
        """Seconds that opening a session took the last time."""
        self._name = name
        self._names = PrefixMapping(settings.prefix)
        self._ttl = settings.cache_ttl
        self._timeout = settings.deadlines.connect + 2 * settings.deadlines.initialize
        self._selections = selections(settings)
        self._catalog = catalog
        self._look = look
        self._as_seen = as_seen
        self._pace = pace or RequestRate()
        self._views: OrderedDict[bytes, ListVariantState] = OrderedDict()

    def silent(self, kind: ComponentKind, seen: bytes, now: float) -> bool:
        """Whether fetching a list has failed a moment ago."""
        view = self._views.get(seen)
        return view is not None and now < view.silent_until.get(kind, 0.0)

    def old(self, kind: ComponentKind, seen: bytes, now: float) -> bool:
        """Whether an explicit list has to ask the backend: the snapshot is not young."""
        view = self._views.get(seen)
        if view is None:
            return True
        found = self._catalog.get(self._name, kind, seen)
        if found is None or kind in view.changed:
            return True
        return now - found.fetched_at >= min(YOUNG, self._ttl)

    async def refresh(self, kind: ComponentKind, client: ClientIdentity, seen: bytes) -> None:
        """Fetch a list, together with all who want it, and wait a little for it.

        The first one is waited for as long as it takes the backend to begin a session: clients
        that list once, when they begin, must not miss what is only for them. Never raises.
        """
        view = self._view(seen, client)
        flight = view.flights[kind].join(lambda: self._fly(view, kind, seen))
        done, _ = await asyncio.wait([flight], timeout=self._patience(view, kind, seen))
        if not done:
            view.patience.missed(kind)
            view.missed.add(kind)

    def _view(self, seen: bytes, client: ClientIdentity) -> ListVariantState:
        view, caller = self._views.get(seen), self._as_seen(client)
        if view is None:
            cached = self._ttl > 0
            flights = {kind: RefreshTasks(cached, self._pace) for kind in KINDS}
            view = self._views[seen] = ListVariantState(ListWait(self._ttl), flights, caller)
        view.caller = caller
        self._views.move_to_end(seen)
        for old in list(self._views)[: max(len(self._views) - LIST_VARIANTS.value, 0)]:
            if not self._views[old].awaited:
                LIST_VARIANTS.record()
                self._drop(old)
        return view

    def _make_room(self, latest: bytes) -> None:
        """Drop views until the lists of all fit, but for the one that was fetched just now."""
        size = sum(sum(view.sizes.values()) for view in self._views.values())
        for old in list(self._views):
            if size <= LIST_VARIANT_BYTES.value:
                return
            view = self._views[old]
            if old != latest and not view.awaited:
                LIST_VARIANT_BYTES.record()
                size -= sum(view.sizes.values())
                self._drop(old)

    def _patience(self, view: ListVariantState, kind: ComponentKind, seen: bytes) -> float:
        found = self._catalog.get(self._name, kind, seen)
        now = asyncio.get_running_loop().time()
        if self._ttl == 0 or (found is not None and now - found.fetched_at < self._ttl):
            return view.patience.seconds(kind)
        return min(PATIENCE + 2 * self.opening, LIST_WAIT.value)

    async def _fly(self, view: ListVariantState, kind: ComponentKind, seen: bytes) -> int:
        """Fetch a list; how many requests that took, about."""
        loop, caller = asyncio.get_running_loop(), view.caller
        try:
            async with asyncio.timeout(self._timeout), view.turn:
                started = loop.time()
                found = await self._fetched(view, kind, caller)
                view.patience.came(kind, loop.time() - started)
        except (BackendError, TimeoutError) as error:
            log.info("backend %s: %s failed: %s", self._name, kind.method, error)
            # An error in the answer concerns this list alone.
            failed = (kind,) if isinstance(error, ProtocolError) else KINDS
            if not isinstance(error, TimeoutError):
                view.patience.failed(kind)
            view.silent_until |= dict.fromkeys(failed, loop.time() + SILENCE)
            view.missed.discard(kind)
            if not isinstance(error, Unauthorized):
                # Of one that does not let this client in, nothing follows for others.
                self.on_failure()
            return SESSION_REQUESTS
        shown = self._catalog.get(self._name, kind, seen) is not None or kind in view.missed
        view.missed.discard(kind)
        view.sizes[kind] = sum(map(len, found.items))
        self._make_room(seen)
        if self._catalog.put(self._name, kind, found, seen) and shown:
            self.on_change(kind, caller.client.session)
        return SESSION_REQUESTS

    async def _fetched(
        self, view: ListVariantState, kind: ComponentKind, caller: CallContext
    ) -> ComponentList:
        found = None
        for _ in range(MAX_ROUNDS):
            view.changed.discard(kind)
            try:
                found = await self._once(kind, caller)
            except SessionNotFound:
                # A session that waited has ended meanwhile.
                found = await self._once(kind, caller)
            if kind not in view.changed:
                break
        return found or ComponentList(fetched_at=asyncio.get_running_loop().time())

    async def _once(self, kind: ComponentKind, caller: CallContext) -> ComponentList | None:
        async with self._look(caller.client) as link:
            if kind.capability not in link.greeting.capabilities:
                return None
            return await fetch_list(
                Requester(caller), link, kind, self._names, self._selections[kind]
            )

    def announced(self, kind: ComponentKind) -> None:
        """The backend says that a list changed: those that differ are fetched again.

        One that equals the list of clients that declare nothing changes when that does, and is
        fetched when a client asks for it.
        """
        everyones = self._catalog.get(self._name, kind)
        for seen, view in self._views.items():
            view.changed.add(kind)
            found = self._catalog.get(self._name, kind, seen)
            if found is not None and not found.same_items(everyones):
                self._follow(view, kind, seen)

    def announced_to(self, kind: ComponentKind, client: ClientIdentity, seen: bytes) -> None:
        """The backend says so in a session that is this client's own."""
        view = self._view(seen, client)
        view.changed.add(kind)
        # The client was shown what others are, if not what this session lists.
        view.missed.add(kind)
        self._follow(view, kind, seen)

    def _follow(self, view: ListVariantState, kind: ComponentKind, seen: bytes) -> None:
        view.flights[kind].announced(lambda: self._fly(view, kind, seen))

    def forget(self, seen: bytes) -> None:
        """No client that is seen like this is left."""
        if seen in self._views:
            self._drop(seen)

    def withdraw(self) -> set[ComponentKind]:
        """Show nothing of the backend any more; the kinds whose lists changed."""
        return {kind for seen in list(self._views) for kind in self._drop(seen)}

    def _drop(self, seen: bytes) -> set[ComponentKind]:
        for flights in self._views.pop(seen).flights.values():
            flights.cancel()
        return {kind for kind in KINDS if self._catalog.put(self._name, kind, None, seen)}
