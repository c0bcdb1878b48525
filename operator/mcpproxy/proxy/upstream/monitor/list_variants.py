"""Lists of one backend for clients with capabilities or forwarded headers.

A list variant is fetched when such a client first requests it, over a session with the client's
capabilities and headers. It is cached for all clients that look the same to the backend. If it does
not arrive in time, clients get the list for clients without capabilities.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Final, Protocol

from mcpproxy.api.defaults import BackendSettings
from mcpproxy.limits.backends import CALLER_LISTS, LIST_VARIANT_BYTES, LIST_VARIANTS, LIST_WAIT
from mcpproxy.proxy.core.catalog.catalog import Catalog
from mcpproxy.proxy.core.catalog.component_list import ComponentList
from mcpproxy.proxy.core.catalog.component_selection import selections
from mcpproxy.proxy.core.errors import BackendError, ProtocolError, SessionNotFound, Unauthorized
from mcpproxy.proxy.core.exchange import CallContext, ClientIdentity
from mcpproxy.proxy.core.translation.namespacing import PrefixMapping
from mcpproxy.proxy.protocol.kinds import KINDS, ComponentKind
from mcpproxy.proxy.upstream.context import BackendEvents
from mcpproxy.proxy.upstream.monitor.list_pages import fetch_list
from mcpproxy.proxy.upstream.monitor.list_waits import (
    MIN_REFRESH_AGE,
    REFRESH_WAIT,
    ListWait,
    RefreshTasks,
)
from mcpproxy.proxy.upstream.monitor.request_pace import RequestRate
from mcpproxy.proxy.upstream.monitor.requester import Requester
from mcpproxy.proxy.upstream.transports.session import UpstreamSession

log = logging.getLogger("mcpproxy.backend")

SILENCE: Final = 10.0
"""Seconds after a failure for which the backend gets no request."""
SESSION_REQUESTS: Final = 4
"""Requests that a list takes if a session has to be opened for it."""
LATE: Final = "the list did not arrive in time; try again"
MAX_ROUNDS: Final = 3
"""Maximum fetches of a list that changes while it is being fetched."""


class ListClients(Protocol):
    """One backend's view of the clients whose lists are fetched."""

    def for_lists(self, client: ClientIdentity) -> AbstractAsyncContextManager[UpstreamSession]:
        """Provide a session for a client's lists: its own, or one as it would get."""

    def context_of(self, client: ClientIdentity) -> CallContext:
        """Return the client as the backend sees it."""


@dataclass(slots=True)
class ListVariantState:
    """The lists of one backend for clients with one variant key."""

    patience: ListWait
    flights: dict[ComponentKind, RefreshTasks]
    caller: CallContext
    """The client that made the latest request, as the backend sees it."""
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Fetches one list at a time, so that one session suffices."""
    changed: set[ComponentKind] = field(default_factory=set)
    """Kinds that have changed since they were fetched, according to the backend."""
    missed: set[ComponentKind] = field(default_factory=set)
    """Kinds that came too late for a client, which got another list instead."""
    sizes: dict[ComponentKind, int] = field(default_factory=dict)
    """Bytes of each list."""
    failed: dict[ComponentKind, BackendError | TimeoutError] = field(default_factory=dict)
    """The errors of the kinds whose last fetch failed."""
    silent_until: dict[ComponentKind, float] = field(default_factory=dict)
    """Time at which a failed kind may be fetched again, in monotonic seconds."""

    def use(self, caller: CallContext) -> None:
        """Fetch in the name of this client from now on."""
        self.caller = caller

    @property
    def awaited(self) -> bool:
        """True if a list is being fetched that clients may wait for."""
        return any(flights.pending for flights in self.flights.values())


class VariantLists:
    """The list variants of one backend, by variant key: `seen`, as in `ClientSessions`."""

    def __init__(
        self,
        name: str,
        settings: BackendSettings,
        catalog: Catalog,
        clients: ListClients,
        events: BackendEvents,
        on_failure: Callable[[], None],
        pace: RequestRate | None = None,
    ) -> None:
        self._events = events
        self._on_failure = on_failure
        self._opening_took = 0.0
        """Seconds that opening the last session took."""
        self._name = name
        self._names = PrefixMapping(settings.prefix)
        self._ttl = settings.cache_ttl
        self._timeout = settings.deadlines.connect + 2 * settings.deadlines.initialize
        self._selections = selections(settings)
        self._catalog = catalog
        self._clients = clients
        self._pace = pace or RequestRate()
        self._most, self._on_excess = LIST_VARIANTS.value, LIST_VARIANTS.record
        if settings.for_callers:
            self._most, self._on_excess = CALLER_LISTS.value, CALLER_LISTS.record
        self._views: OrderedDict[bytes, ListVariantState] = OrderedDict()

    def record_opening(self, seconds: float) -> None:
        """Record how long it took to open a session with the backend."""
        self._opening_took = seconds

    def in_backoff(self, kind: ComponentKind, seen: bytes, now: float) -> bool:
        """True if a fetch of this list failed recently."""
        view = self._views.get(seen)
        return view is not None and now < view.silent_until.get(kind, 0.0)

    def is_stale(self, kind: ComponentKind, seen: bytes, now: float) -> bool:
        """True if a list request has to be fetched first, because the cached list is too old."""
        view = self._views.get(seen)
        if view is None:
            return True
        cached = self._catalog.get(self._name, kind, seen)
        if cached is None or kind in view.changed:
            return True
        return now - cached.fetched_at >= min(MIN_REFRESH_AGE, self._ttl)

    def failure(self, kind: ComponentKind, seen: bytes) -> str | None:
        """Return why a list is missing, if no other one takes its place; None if it is present."""
        if self._catalog.get(self._name, kind, seen) is not None:
            return None
        view = self._views.get(seen)
        error = None if view is None else view.failed.get(kind)
        return LATE if error is None else str(error) or LATE

    async def refresh(self, kind: ComponentKind, client: ClientIdentity, seen: bytes) -> None:
        """Fetch a list in a task that all requests share, and wait briefly for it.

        The first fetch may take as long as opening a session: clients that list once, at their
        start, must not miss components that only they may see. Never raises.
        """
        view = self._get_or_create(seen, client)
        flight = view.flights[kind].join(lambda: self._refresh_task(view, kind, seen))
        done, _ = await asyncio.wait([flight], timeout=self._seconds_to_wait(view, kind, seen))
        if not done:
            view.patience.missed(kind)
            view.missed.add(kind)

    def _get_or_create(self, seen: bytes, client: ClientIdentity) -> ListVariantState:
        view, caller = self._views.get(seen), self._clients.context_of(client)
        if view is None:
            cached = self._ttl > 0
            flights = {kind: RefreshTasks(cached, self._pace) for kind in KINDS}
            view = self._views[seen] = ListVariantState(ListWait(self._ttl), flights, caller)
        view.use(caller)
        self._views.move_to_end(seen)
        for oldest in list(self._views)[: max(len(self._views) - self._most, 0)]:
            if not self._views[oldest].awaited:
                self._on_excess()
                self._drop(oldest)
        return view

    def _evict_bytes(self, latest: bytes) -> None:
        """Drop the oldest variants, except the latest one, until all lists fit."""
        size = sum(sum(view.sizes.values()) for view in self._views.values())
        for oldest in list(self._views):
            if size <= LIST_VARIANT_BYTES.value:
                return
            view = self._views[oldest]
            if oldest != latest and not view.awaited:
                LIST_VARIANT_BYTES.record()
                size -= sum(view.sizes.values())
                self._drop(oldest)

    def _seconds_to_wait(self, view: ListVariantState, kind: ComponentKind, seen: bytes) -> float:
        cached = self._catalog.get(self._name, kind, seen)
        now = asyncio.get_running_loop().time()
        if self._ttl == 0 or (cached is not None and now - cached.fetched_at < self._ttl):
            return view.patience.seconds(kind)
        return min(REFRESH_WAIT + 2 * self._opening_took, LIST_WAIT.value)

    async def _refresh_task(self, view: ListVariantState, kind: ComponentKind, seen: bytes) -> int:
        """Fetch a list, and return the approximate number of requests."""
        loop, caller = asyncio.get_running_loop(), view.caller
        announced = view.changed & {kind}
        try:
            async with asyncio.timeout(self._timeout), view.turn:
                started = loop.time()
                component_list = await self._fetch(view, kind, caller)
                view.patience.came(kind, loop.time() - started)
        except (BackendError, TimeoutError) as error:
            log.info("backend %s: %s failed: %s", self._name, kind.method, error)
            # An error response concerns this list only.
            failed_kinds = (kind,) if isinstance(error, ProtocolError) else KINDS
            if not isinstance(error, TimeoutError):
                view.patience.failed(kind)
            view.silent_until.update(dict.fromkeys(failed_kinds, loop.time() + SILENCE))
            view.failed.update(dict.fromkeys(failed_kinds, error))
            view.changed.update(announced)
            view.missed.discard(kind)
            if not isinstance(error, Unauthorized):
                # A backend that refuses this client's credentials may accept others.
                self._on_failure()
            return SESSION_REQUESTS
        was_shown = self._catalog.get(self._name, kind, seen) is not None or kind in view.missed
        view.missed.discard(kind)
        view.failed.pop(kind, None)
        view.sizes[kind] = sum(map(len, component_list.items))
        self._evict_bytes(seen)
        if self._catalog.put(self._name, kind, component_list, seen) and was_shown:
            self._events.list_change.publish({kind}, caller.client.session)
        return SESSION_REQUESTS

    async def _fetch(
        self, view: ListVariantState, kind: ComponentKind, caller: CallContext
    ) -> ComponentList:
        component_list = None
        for _ in range(MAX_ROUNDS):
            view.changed.discard(kind)
            try:
                component_list = await self._fetch_once(kind, caller)
            except SessionNotFound:
                # A warm session was lost before its use.
                component_list = await self._fetch_once(kind, caller)
            if kind not in view.changed:
                break
        return component_list or ComponentList(fetched_at=asyncio.get_running_loop().time())

    async def _fetch_once(self, kind: ComponentKind, caller: CallContext) -> ComponentList | None:
        async with self._clients.for_lists(caller.client) as link:
            if kind.capability not in link.server.capabilities:
                return None
            return await fetch_list(
                Requester(caller), link, kind, self._names, self._selections[kind]
            )

    def announced(self, kind: ComponentKind) -> None:
        """Fetch the variants of a list that the backend has announced as changed.

        A variant equal to the default list changes with it, and is fetched when a client requests
        it.
        """
        default_list = self._catalog.get(self._name, kind)
        for seen, view in self._views.items():
            view.changed.add(kind)
            variant = self._catalog.get(self._name, kind, seen)
            if variant is not None and not variant.same_items(default_list):
                self._schedule(view, kind, seen)

    def announced_to(self, kind: ComponentKind, client: ClientIdentity, seen: bytes) -> None:
        """Handle an announcement in a session that belongs to one client."""
        view = self._get_or_create(seen, client)
        view.changed.add(kind)
        # The client may have received the list of others before this session was open.
        view.missed.add(kind)
        self._schedule(view, kind, seen)

    def retry_announced(self, now: float) -> None:
        """Fetch the lists again that could not be fetched after the backend had announced them."""
        for seen, view in self._views.items():
            for kind in view.changed & view.failed.keys():
                if now >= view.silent_until[kind] and not view.flights[kind].pending:
                    self._schedule(view, kind, seen)

    def _schedule(self, view: ListVariantState, kind: ComponentKind, seen: bytes) -> None:
        view.flights[kind].announced(lambda: self._refresh_task(view, kind, seen))

    def forget(self, seen: bytes) -> None:
        """Drop the lists of a client session that has ended."""
        if seen in self._views:
            self._drop(seen)

    def withdraw(self) -> set[ComponentKind]:
        """Withdraw all variants, and return the kinds that changed."""
        return {kind for seen in list(self._views) for kind in self._drop(seen)}

    def _drop(self, seen: bytes) -> set[ComponentKind]:
        for flights in self._views.pop(seen).flights.values():
            flights.cancel()
        return {kind for kind in KINDS if self._catalog.put(self._name, kind, None, seen)}
