"""The lists of one backend: fetched one at a time for each kind, kept in the catalog."""

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final

from mcpproxy.api.defaults import BackendSettings
from mcpproxy.limits.backends import LIST_COMPONENTS, LIST_WAIT, RETRY_PAUSE
from mcpproxy.proxy.core.catalog.catalog import Catalog, ComponentList, parse_component_list
from mcpproxy.proxy.core.catalog.component_filter import ComponentFilter
from mcpproxy.proxy.core.errors import (
    BackendError,
    ProtocolError,
    RateLimited,
    SessionNotFound,
    TimedOut,
)
from mcpproxy.proxy.core.translation.namespacing import PrefixMapping
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import Message, RpcError
from mcpproxy.proxy.protocol.kinds import KINDS, TOOLS, ComponentKind
from mcpproxy.proxy.upstream.monitor.list_pages import fetch_pages
from mcpproxy.proxy.upstream.monitor.list_waits import ListWait, RefreshTasks
from mcpproxy.proxy.upstream.monitor.requester import Requester
from mcpproxy.proxy.upstream.request_pace import RequestRate
from mcpproxy.proxy.upstream.transports.session import UpstreamSession

log = logging.getLogger("mcpproxy.backend")

STALE: Final = 3600.0
"""Seconds that lists are shown, after their TTL, of a backend that only answers 429."""
YOUNG: Final = 1.0
"""Seconds that an explicit list is answered from the snapshot without asking the backend."""
AGAIN: Final = 10.0
"""Seconds until checks ask again for a list that failed; twice as many after each failure."""
UNDECLARED_WAIT: Final = 2.0
"""Seconds that a list may take which the backend does not declare."""


def selections(settings: BackendSettings) -> dict[ComponentKind, ComponentFilter]:
    """What is shown of each kind."""
    return {kind: ComponentFilter.of(settings.components.get(kind.member)) for kind in KINDS}


async def fetch_list(
    asker: Requester,
    link: UpstreamSession,
    kind: ComponentKind,
    names: PrefixMapping,
    selection: ComponentFilter,
) -> ComponentList | None:
    """A list as clients see it; None where the backend does not know its method.

    Raises BackendError.
    """
    started = asyncio.get_running_loop().time()
    pages = await fetch_pages(asker, link, kind)
    if pages is None:
        return None
    return _aged(build_list(kind, names, pages, selection), started)


def _aged(found: ComponentList, started: float) -> ComponentList:
    """A listing that may be kept as long as its first page, which was asked for then."""
    if not found.ttl_ms:
        return found
    took = int((found.fetched_at - started) * 1000)
    return replace(found, ttl_ms=max(found.ttl_ms - took, 0))


def build_list(
    kind: ComponentKind, names: PrefixMapping, pages: list[Message], selection: ComponentFilter
) -> ComponentList:
    """What clients see of pages that were fetched just now. Raises ProtocolError."""
    left = LIST_COMPONENTS.value
    try:
        for page in pages:
            left -= jsonrpc.length(page.get(kind.member), left)
            if left < 0:
                LIST_COMPONENTS.record()
                most = LIST_COMPONENTS.value
                raise ProtocolError(f"its {kind.method} has more than {most} components in all")
        return parse_component_list(
            kind, names, pages, asyncio.get_running_loop().time(), selection
        )
    except RpcError as error:
        raise ProtocolError(f"its result of {kind.method} can't be read: {error.message}") from None


@dataclass(slots=True)
class ListFailure:
    """Why a list can't be had."""

    error: BackendError
    in_a_row: int
    at: float
    """When it failed the last time, in monotonic seconds."""
    again_at: float
    """When checks may ask for it again."""


class ListCache:
    """The lists of one session; without one there is nothing to fetch.

    Each kind stands for itself: the list that fails is hidden, and no other one.
    """

    def __init__(
        self,
        name: str,
        settings: BackendSettings,
        catalog: Catalog,
        asker: Requester,
        pace: RequestRate | None = None,
        hidden_after: int = 1,
    ) -> None:
        """A list is hidden once it has failed `hidden_after` times in a row."""
        self.link: UpstreamSession | None = None
        self.reopen: Callable[[UpstreamSession], Awaitable[UpstreamSession]] = _not_reopened
        """Called with a link whose session is lost; returns the one that takes its place. Raises
        BackendError."""
        self.on_change: Callable[[ComponentKind], None] = lambda kind: None
        """Called when clients would see another list."""
        self.on_pages: Callable[[ComponentKind, list[Message]], None] = lambda kind, pages: None
        """Called with the pages of a list as the backend sent them."""
        self.on_failure: Callable[[], None] = lambda: None
        self.failures: dict[ComponentKind, ListFailure] = {}
        """The lists that failed the last time."""
        self._name = name
        self._names = PrefixMapping(settings.prefix)
        self._timeout = max(settings.deadlines.initialize, float(LIST_WAIT.value))
        self._ttl = settings.cache_ttl
        self._selections = selections(settings)
        self._catalog = catalog
        self._asker = asker
        self._hidden_after = hidden_after
        self._patience = ListWait(settings.cache_ttl)
        pace = pace or RequestRate()
        self._flights = {kind: RefreshTasks(settings.cache_ttl > 0, pace) for kind in KINDS}
        self._settled: set[ComponentKind] = set()
        """Kinds of which is known what there is, if only that there is no such list."""
        self._lacking: set[ComponentKind] = set()
        """Kinds that the backend did not have when it was asked last."""
        self._undeclared: set[ComponentKind] = set()
        """Kinds that it has without saying so."""

    @property
    def complete(self) -> bool:
        """Whether everything that the backend offers was listed."""
        return len(self._settled) == len(KINDS)

    def outdated(self) -> bool:
        """Whether a list is too old to be shown of a backend that can't be asked."""
        oldest = asyncio.get_running_loop().time() - self._ttl - STALE
        found = (self._catalog.get(self._name, kind) for kind in KINDS)
        return any(one is not None and one.fetched_at <= oldest for one in found)

    @property
    def not_offered(self) -> list[str]:
        """The kinds that the backend is known not to have; a name for each."""
        known = (kind for kind in KINDS if kind in self._settled and kind not in self.failures)
        return [kind.member for kind in known if self._catalog.get(self._name, kind) is None]

    def lacks(self, kind: ComponentKind) -> bool:
        """Whether the backend had no list of this kind when it was asked last."""
        return kind in self._lacking

    @property
    def undeclared(self) -> set[str]:
        """The capabilities that the backend has without declaring them."""
        return {kind.capability for kind in self._undeclared}

    def offers(self, kind: ComponentKind) -> bool:
        """Whether the backend has this kind of component at all."""
        link = self.link
        return link is not None and (kind in self._undeclared or _declares(link, kind))

    def old(self, kind: ComponentKind, now: float) -> bool:
        """Whether an explicit list has to ask the backend: the snapshot is not young."""
        if self._flights[kind].changed:
            return True
        failure, found = self.failures.get(kind), self._catalog.get(self._name, kind)
        at = failure.at if failure is not None else None if found is None else found.fetched_at
        return at is None or now - at >= min(YOUNG, self._ttl)

    async def refresh(self, kind: ComponentKind) -> None:
        """Fetch a list, together with all who want it, and wait a little for it.

        Never raises: the snapshot stays then.
        """
        flights = self._flights[kind]
        try:
            async with asyncio.timeout(self._patience.seconds(kind)):
                # What was announced while it was being fetched has another one follow.
                for _ in range(2):
                    await asyncio.wait([flights.join(lambda: self._fly(kind))])
                    if not flights.changed:
                        return
        except TimeoutError:
            self._patience.missed(kind)

    def announced(self, kind: ComponentKind) -> None:
        """The backend says that a list changed."""
        if self.offers(kind):
            self._flights[kind].announced(lambda: self._fly(kind))

    async def _fly(self, kind: ComponentKind) -> int:
        """Fetch a list; how many requests that took."""
        link = self.link
        if link is None or not self.offers(kind):
            return 0
        changed, requests = await self._attempt(link, kind)
        if kind in self.failures:
            self.on_failure()
        if changed:
            self.on_change(kind)
        return requests

    async def fetch_all(self, link: UpstreamSession) -> set[ComponentKind]:
        """Fetch every list; which ones changed.

        Raises BackendError where each list fails that the backend declares, or it is of no use to
        ask for others.
        """
        declared = [kind for kind in KINDS if _declares(link, kind)]
        self._undeclared.clear()
        self.failures.clear()
        order = sorted(KINDS, key=lambda kind: kind not in declared)
        first = await self._attempted(link, order[0])
        self.raise_failure(early=True)
        link = self.link or link
        others = await asyncio.gather(*(self._attempted(link, kind) for kind in order[1:]))
        self.raise_failure()
        return {kind for kind, differs in zip(order, (first, *others), strict=True) if differs}

    async def _attempted(self, link: UpstreamSession, kind: ComponentKind) -> bool:
        """Fetch a list for the first time; whether clients see a difference."""
        if _declares(link, kind):
            return (await self._attempt(link, kind))[0]
        return await self._tried(link, kind)

    async def fetch_old(self, link: UpstreamSession, at_most: float) -> None:
        """Fetch the lists that are older than the cache's TTL, and wait for them `at_most` so long.

        Raises BackendError as `fetch_all` does.
        """
        now = asyncio.get_running_loop().time()
        due = [kind for kind in KINDS if self.offers(kind) and self._due(kind, now)]
        flights = [self._flights[kind].join(functools.partial(self._fly, kind)) for kind in due]
        if flights:
            await asyncio.wait(flights, timeout=at_most)
        self.raise_failure(early=True)
        if due:
            self.raise_failure()

    def _due(self, kind: ComponentKind, now: float) -> bool:
        failure = self.failures.get(kind)
        if failure is not None:
            return now >= failure.again_at
        found = self._catalog.get(self._name, kind)
        if found is None:
            return kind not in self._lacking
        return now - found.fetched_at >= self._ttl

    def raise_failure(self, *, early: bool = False) -> None:
        """Raise the error that concerns the whole backend, if there is one. Raises BackendError.

        `early`: some lists have not been asked for yet.
        """
        for failure in self.failures.values():
            if isinstance(failure.error, RateLimited):
                raise failure.error
        declared = [kind for kind in KINDS if self.offers(kind)]
        if not early and declared and all(kind in self.failures for kind in declared):
            raise self.failures[declared[0]].error

    async def _attempt(self, link: UpstreamSession, kind: ComponentKind) -> tuple[bool, int]:
        """Fetch a list; whether clients see a difference, and how many requests that took."""
        try:
            async with asyncio.timeout(self._timeout):
                found, requests = await self._fetch_anyway(link, kind)
        except TimeoutError:
            text = f"its {kind.method} has no answer within {self._timeout:g} s"
            return self._failed(kind, TimedOut(text)), 1
        except BackendError as error:
            self._patience.failed(kind)
            return self._failed(kind, error), 1
        self.failures.pop(kind, None)
        (self._lacking.add if found is None else self._lacking.discard)(kind)
        return self._put(kind, found), requests

    async def _tried(self, link: UpstreamSession, kind: ComponentKind) -> bool:
        """Fetch a list that is not declared, where clients of the SDKs would show it."""
        found = None
        if kind is TOOLS or not any(_declares(link, other) for other in KINDS):
            try:
                async with asyncio.timeout(UNDECLARED_WAIT):
                    found, _ = await self._fetch_anyway(link, kind)
            except (BackendError, TimeoutError) as error:
                log.debug("backend %s: %s is not declared: %s", self._name, kind.method, error)
        if found is not None and not found.items:
            found = None
        if found is not None:
            self._undeclared.add(kind)
        (self._lacking.add if found is None else self._lacking.discard)(kind)
        return self._put(kind, found)

    async def _fetch_anyway(
        self, link: UpstreamSession, kind: ComponentKind
    ) -> tuple[ComponentList | None, int]:
        """Fetch a list, over another link if its session is lost. Raises BackendError."""
        try:
            return await self._fetch(link, kind)
        except BackendError as error:
            # Another list may have met the same before, and had the link closed.
            if not isinstance(error, SessionNotFound) and self.link in (link, None):
                raise
        return await self._fetch(await self.reopen(link), kind)

    async def _fetch(
        self, link: UpstreamSession, kind: ComponentKind
    ) -> tuple[ComponentList | None, int]:
        """Fetch a list; and how many requests that took. Raises BackendError."""
        started = asyncio.get_running_loop().time()
        pages = await fetch_pages(self._asker, link, kind)
        self._patience.came(kind, asyncio.get_running_loop().time() - started)
        if pages is None:
            return None, 1
        found = build_list(kind, self._names, pages, self._selections[kind])
        self.on_pages(kind, pages)
        return _aged(found, started), len(pages)

    def _failed(self, kind: ComponentKind, error: BackendError) -> bool:
        """Note that a list failed; whether clients see a difference."""
        before, now = self.failures.get(kind), asyncio.get_running_loop().time()
        in_a_row = 1 if before is None else before.in_a_row + 1
        again_at = now + min(AGAIN * 2.0 ** min(in_a_row - 1, 8), RETRY_PAUSE.value)
        self.failures[kind] = ListFailure(error, in_a_row, now, again_at)
        log.info("backend %s: %s failed: %s", self._name, kind.method, error)
        if isinstance(error, RateLimited):
            return False
        if self._catalog.get(self._name, kind) is None:
            # What it lists is not to be had: that much is known.
            self._settled.add(kind)
        elif in_a_row >= self._hidden_after:
            self._settled.discard(kind)
            return self._catalog.put(self._name, kind, None)
        return False

    def _put(self, kind: ComponentKind, found: ComponentList | None) -> bool:
        self._settled.add(kind)
        return self._catalog.put(self._name, kind, found)

    def withdraw(self) -> set[ComponentKind]:
        """Show nothing of the backend any more; the kinds whose lists changed."""
        self._settled.clear()
        return {kind for kind in KINDS if self._catalog.put(self._name, kind, None)}

    def stop(self) -> None:
        """The link is gone: so is what was fetched over it."""
        self.link = None
        for flights in self._flights.values():
            flights.cancel()


async def _not_reopened(link: UpstreamSession) -> UpstreamSession:
    return link


def _declares(link: UpstreamSession, kind: ComponentKind) -> bool:
    return kind.capability in link.greeting.capabilities
