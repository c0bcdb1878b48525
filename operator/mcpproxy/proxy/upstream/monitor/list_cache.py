"""Cache of one backend's lists: fetched one at a time for each kind, stored in the catalog."""

import asyncio
import functools
import itertools
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from mcpproxy.api.defaults import BackendSettings
from mcpproxy.backoff import Backoff
from mcpproxy.limits.backends import LIST_WAIT, RETRY_PAUSE
from mcpproxy.proxy.core.catalog.catalog import Catalog
from mcpproxy.proxy.core.catalog.component_list import ComponentList
from mcpproxy.proxy.core.catalog.component_selection import selections
from mcpproxy.proxy.core.errors import (
    BackendError,
    RateLimited,
    SessionNotFound,
    TimedOut,
)
from mcpproxy.proxy.core.translation.namespacing import PrefixMapping
from mcpproxy.proxy.protocol.kinds import KINDS, TOOLS, ComponentKind
from mcpproxy.proxy.upstream.context import BackendEvents
from mcpproxy.proxy.upstream.monitor.list_pages import build_list, fetch_pages, with_elapsed_ttl
from mcpproxy.proxy.upstream.monitor.list_waits import MIN_REFRESH_AGE, ListWait, RefreshTasks
from mcpproxy.proxy.upstream.monitor.request_pace import RequestRate
from mcpproxy.proxy.upstream.monitor.requester import Requester
from mcpproxy.proxy.upstream.transports.session import UpstreamSession

Reopen = Callable[[UpstreamSession], Awaitable[UpstreamSession]]
"""Coroutine function that replaces a lost session. Raises BackendError."""

log = logging.getLogger("mcpproxy.backend")

MAX_STALE: Final = 3600.0
"""Seconds after the TTL for which lists are served if the backend only responds with 429."""
RETRY_AFTER: Final = 10.0
"""Seconds until checks retry a failed list; doubles with each failure."""
UNDECLARED_WAIT: Final = 2.0
"""Maximum seconds for a list that the backend does not declare."""


class ListOvertaken(Exception):
    """The result of a request that was sent later is already known."""


@dataclass(slots=True)
class ListFailure:
    """Failure of a list."""

    error: BackendError
    at: float
    """Time of the last failure, in monotonic seconds."""
    backoff: Backoff
    """Consecutive failures, and the time at which checks may retry."""


class ListCache:
    """The lists of the monitor's session. Nothing is fetched without a session.

    Kinds are independent: a failed list is hidden, and no other one.
    """

    def __init__(
        self,
        name: str,
        settings: BackendSettings,
        catalog: Catalog,
        asker: Requester,
        events: BackendEvents,
        reopen: Reopen,
        on_failure: Callable[[], None],
        pace: RequestRate | None = None,
        hidden_after: int = 1,
        slack: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """`reopen` replaces a lost session. A list is hidden once it has failed `hidden_after`
        times in a row. `slack` returns the seconds after the TTL after which checks refresh it."""
        self._slack = slack
        self._link: UpstreamSession | None = None
        self._events = events
        self._reopen = reopen
        self._on_failure = on_failure
        self.failures: dict[ComponentKind, ListFailure] = {}
        """The lists whose last fetch failed."""
        self._name = name
        self._names = PrefixMapping(settings.prefix)
        self._timeout = max(settings.deadlines.initialize, float(LIST_WAIT.value))
        self._ttl = settings.cache_ttl
        self._selections = selections(settings)
        self._catalog = catalog
        self._asker = asker
        self._hidden_after = hidden_after
        self._waits = ListWait(settings.cache_ttl)
        pace = pace or RequestRate()
        self._flights = {kind: RefreshTasks(settings.cache_ttl > 0, pace) for kind in KINDS}
        self._settled: set[ComponentKind] = set()
        """Kinds whose list is known, or known to be absent."""
        self._lacking: set[ComponentKind] = set()
        """Kinds that the backend did not have at the last fetch."""
        self._undeclared: set[ComponentKind] = set()
        """Kinds that the backend has without declaring them."""
        self.outdated = False
        """True if one list was fetched in a new session, and the others are of an earlier one."""
        self._requests = itertools.count(1)
        self._newest = dict.fromkeys(KINDS, 0)
        """The number of the latest request for each list that has a result."""

    @property
    def complete(self) -> bool:
        """True if every list of the backend is known."""
        return len(self._settled) == len(KINDS)

    def has_expired(self) -> bool:
        """True if a list is too old to be served for a backend that cannot be reached."""
        oldest = asyncio.get_running_loop().time() - self._ttl - MAX_STALE
        lists = (self._catalog.get(self._name, kind) for kind in KINDS)
        return any(
            component_list is not None and component_list.fetched_at <= oldest
            for component_list in lists
        )

    @property
    def not_offered(self) -> list[str]:
        """The kinds that the backend is known not to have, by their names in results."""
        known_kinds = (
            kind for kind in KINDS if kind in self._settled and kind not in self.failures
        )
        return [kind.member for kind in known_kinds if self._catalog.get(self._name, kind) is None]

    def lacks(self, kind: ComponentKind) -> bool:
        """True if the backend had no list of this kind at the last fetch."""
        return kind in self._lacking

    @property
    def undeclared(self) -> set[str]:
        """The capabilities that the backend has without declaring them."""
        return {kind.capability for kind in self._undeclared}

    def offers(self, kind: ComponentKind) -> bool:
        """True if the backend has components of this kind."""
        link = self._link
        return link is not None and (kind in self._undeclared or _declares(link, kind))

    def is_stale(self, kind: ComponentKind, now: float) -> bool:
        """True if a list request has to be fetched first, because the cached list is too old."""
        if self._flights[kind].changed:
            return True
        failure, cached = self.failures.get(kind), self._catalog.get(self._name, kind)
        at = failure.at if failure is not None else None if cached is None else cached.fetched_at
        return at is None or now - at >= min(MIN_REFRESH_AGE, self._ttl)

    async def refresh(self, kind: ComponentKind) -> None:
        """Fetch a list in a task that all requests share, and wait briefly for it.

        Never raises; the cached list stays if the fetch fails.
        """
        flights = self._flights[kind]
        try:
            async with asyncio.timeout(self._waits.seconds(kind)):
                # A change that was announced during the fetch requires another one.
                for _ in range(2):
                    await asyncio.wait([flights.join(lambda: self._refresh_task(kind))])
                    if not flights.changed:
                        return
        except TimeoutError:
            self._waits.missed(kind)

    def announced(self, kind: ComponentKind) -> None:
        """Fetch a list that the backend has announced as changed."""
        if self.offers(kind):
            self._flights[kind].announced(lambda: self._refresh_task(kind))

    async def _refresh_task(self, kind: ComponentKind) -> int:
        """Fetch a list, and return the number of requests."""
        link = self._link
        if link is None or not self.offers(kind):
            return 0
        changed, requests = await self._fetch_or_record(link, kind)
        if kind in self.failures:
            self._on_failure()
        elif self._link is not link:
            self.outdated = True
        if changed:
            self._events.list_change.publish({kind}, "")
        return requests

    async def fetch_all(self, link: UpstreamSession) -> set[ComponentKind]:
        """Fetch every list, and return the kinds that changed.

        Raises BackendError if all declared lists fail, or if further requests are useless.
        """
        declared = [kind for kind in KINDS if _declares(link, kind)]
        self.outdated = False
        self._undeclared.clear()
        self.failures.clear()
        order = sorted(KINDS, key=lambda kind: kind not in declared)
        first = await self._fetch_first(link, order[0])
        self.raise_failure(early=True)
        link = self._link or link
        others = await asyncio.gather(*(self._fetch_first(link, kind) for kind in order[1:]))
        self.raise_failure()
        return {kind for kind, differs in zip(order, (first, *others), strict=True) if differs}

    async def _fetch_first(self, link: UpstreamSession, kind: ComponentKind) -> bool:
        """Fetch a list in a new session, and return True if it changed for clients."""
        if _declares(link, kind):
            return (await self._fetch_or_record(link, kind))[0]
        return await self._fetch_undeclared(link, kind)

    async def fetch_expired(self, link: UpstreamSession, at_most: float) -> None:
        """Fetch the lists that are older than the TTL, and wait up to `at_most` seconds for them.

        Raises BackendError as `fetch_all` does.
        """
        now = asyncio.get_running_loop().time()
        due = [kind for kind in KINDS if self.offers(kind) and self._is_due(kind, now)]
        flights = [
            self._flights[kind].join(functools.partial(self._refresh_task, kind)) for kind in due
        ]
        if flights:
            await asyncio.wait(flights, timeout=at_most)
        self.raise_failure(early=True)
        if due:
            self.raise_failure()

    def _is_due(self, kind: ComponentKind, now: float) -> bool:
        failure = self.failures.get(kind)
        if failure is not None:
            return not failure.backoff.is_waiting(now)
        cached = self._catalog.get(self._name, kind)
        if cached is None:
            return kind not in self._lacking
        return now - cached.fetched_at >= self._ttl + self._slack()

    def raise_failure(self, *, early: bool = False) -> None:
        """Raise the error that concerns the whole backend, if any. Raises BackendError.

        `early` means that some lists have not been requested yet.
        """
        for failure in self.failures.values():
            if isinstance(failure.error, RateLimited):
                raise failure.error
        declared = [kind for kind in KINDS if self.offers(kind)]
        if not early and declared and all(kind in self.failures for kind in declared):
            raise self.failures[declared[0]].error

    async def _fetch_or_record(
        self, link: UpstreamSession, kind: ComponentKind
    ) -> tuple[bool, int]:
        """Fetch a list; return whether it changed for clients, and the number of requests."""
        number = next(self._requests)
        try:
            async with asyncio.timeout(self._timeout):
                fetched, requests = await self._fetch_with_reopen(link, kind)
        except ListOvertaken:
            return False, 1
        except (BackendError, TimeoutError) as error:
            if number < self._newest[kind]:
                return False, 1
            if isinstance(error, BackendError):
                self._waits.failed(kind)
            else:
                error = TimedOut(f"{kind.method}: no response within {self._timeout:g} s")
            return self._record_failure(kind, error), 1
        self.failures.pop(kind, None)
        (self._lacking.add if fetched is None else self._lacking.discard)(kind)
        return self._put(kind, fetched), requests

    async def _fetch_undeclared(self, link: UpstreamSession, kind: ComponentKind) -> bool:
        """Fetch an undeclared list where clients of the SDKs would do so."""
        fetched = None
        if kind is TOOLS or not any(_declares(link, other) for other in KINDS):
            try:
                async with asyncio.timeout(UNDECLARED_WAIT):
                    fetched, _ = await self._fetch_with_reopen(link, kind)
            except ListOvertaken:
                self._undeclared.add(kind)
                return False
            except (BackendError, TimeoutError) as error:
                log.debug("backend %s: %s is not declared: %s", self._name, kind.method, error)
        if fetched is not None and not fetched.items:
            fetched = None
        if fetched is not None:
            self._undeclared.add(kind)
        (self._lacking.add if fetched is None else self._lacking.discard)(kind)
        return self._put(kind, fetched)

    async def _fetch_with_reopen(
        self, link: UpstreamSession, kind: ComponentKind
    ) -> tuple[ComponentList | None, int]:
        """Fetch a list, in a new session if this one is lost. Raises as `_fetch` does."""
        try:
            return await self._fetch(link, kind)
        except BackendError as error:
            # The fetch of another list may have found the session lost and closed it.
            if not isinstance(error, SessionNotFound) and self._link in (link, None):
                raise
        return await self._fetch(await self._reopen(link), kind)

    async def _fetch(
        self, link: UpstreamSession, kind: ComponentKind
    ) -> tuple[ComponentList | None, int]:
        """Fetch a list; return it and the number of requests.

        Raises BackendError, ListOvertaken.
        """
        started, number = asyncio.get_running_loop().time(), next(self._requests)
        pages = await fetch_pages(self._asker, link, kind)
        if number < self._newest[kind]:
            raise ListOvertaken
        self._waits.came(kind, asyncio.get_running_loop().time() - started)
        if pages is None:
            self._newest[kind] = number
            return None, 1
        component_list = build_list(kind, self._names, pages, self._selections[kind])
        self._newest[kind] = number
        self._events.pages.publish(self._name, kind, pages)
        return with_elapsed_ttl(component_list, started), len(pages)

    def _record_failure(self, kind: ComponentKind, error: BackendError) -> bool:
        """Record a failed fetch, and return True if the list changed for clients."""
        before, now = self.failures.get(kind), asyncio.get_running_loop().time()
        backoff = Backoff(RETRY_AFTER, RETRY_PAUSE.value) if before is None else before.backoff
        backoff.record_failure(now)
        self.failures[kind] = ListFailure(error, now, backoff)
        log.info("backend %s: %s failed: %s", self._name, kind.method, error)
        if isinstance(error, RateLimited):
            return False
        if self._catalog.get(self._name, kind) is None:
            # The list is known to be unavailable.
            self._settled.add(kind)
        elif backoff.failures >= self._hidden_after:
            self._settled.discard(kind)
            return self._catalog.put(self._name, kind, None)
        return False

    def _put(self, kind: ComponentKind, component_list: ComponentList | None) -> bool:
        self._settled.add(kind)
        return self._catalog.put(self._name, kind, component_list)

    def withdraw(self) -> set[ComponentKind]:
        """Withdraw all lists of the backend, and return the kinds that changed."""
        self._settled.clear()
        return {kind for kind in KINDS if self._catalog.put(self._name, kind, None)}

    def use(self, link: UpstreamSession) -> None:
        """Fetch over this session from now on."""
        self._link = link

    def stop(self) -> None:
        """Cancel all fetches, because the session is closed."""
        self._link = None
        for flights in self._flights.values():
            flights.cancel()


def _declares(link: UpstreamSession, kind: ComponentKind) -> bool:
    return kind.capability in link.server.capabilities
