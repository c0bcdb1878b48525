"""The lists of one backend: fetched one flight at a time for each kind, kept in the catalog."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from msgspec import Raw

from mcpproxy.api.defaults import BackendSettings
from mcpproxy.limits.backends import LIST_BYTES, LIST_COMPONENTS, LIST_PAGES
from mcpproxy.proxy.back.asking import Asker
from mcpproxy.proxy.back.link import Link
from mcpproxy.proxy.back.patience import Flights, Patience
from mcpproxy.proxy.core.catalog import Catalog, Listing, listing
from mcpproxy.proxy.core.errors import BackendError, NotMcp
from mcpproxy.proxy.core.kinds import KINDS, Kind
from mcpproxy.proxy.core.names import Names
from mcpproxy.proxy.core.selection import Selection
from mcpproxy.proxy.wire import jsonrpc
from mcpproxy.proxy.wire.jsonrpc import Message, RpcError

log = logging.getLogger("mcpproxy.backend")

STALE: Final = 3600.0
"""Seconds that lists are shown, after their TTL, of a backend that only answers 429."""
YOUNG: Final = 1.0
"""Seconds that an explicit list is answered from the snapshot without asking the backend."""


def selections(settings: BackendSettings) -> dict[Kind, Selection]:
    """What is shown of each kind."""
    return {kind: Selection.of(settings.components.get(kind.member)) for kind in KINDS}


async def pages_of(asker: Asker, link: Link, kind: Kind) -> list[Message] | None:
    """All pages of a list as they came; None where the backend does not know its method.

    Raises BackendError, RpcError.
    """
    pages: list[Message] = []
    cursor: Raw | None = None
    seen: set[bytes] = set()
    size = 0
    while True:
        if len(pages) >= LIST_PAGES.value:
            LIST_PAGES.record()
            break
        params = {} if cursor is None else {"cursor": cursor}
        answer = await asker.ask(link, kind.method, params, optional=True)
        if answer is None:
            return None
        pages.append(answer)
        size += sum(map(len, answer.values()))
        if size > LIST_BYTES.value:
            LIST_BYTES.record()
            raise NotMcp(f"its {kind.method} has more than {LIST_BYTES.value} bytes in all")
        cursor = answer.get("nextCursor")
        if cursor is None or cursor == jsonrpc.NULL or bytes(cursor) in seen:
            break
        seen.add(bytes(cursor))
    return pages


async def fetched(
    asker: Asker, link: Link, kind: Kind, names: Names, selection: Selection
) -> Listing | None:
    """A list as clients see it; None where the backend does not know its method.

    Raises BackendError, RpcError.
    """
    pages = await pages_of(asker, link, kind)
    return None if pages is None else shown(kind, names, pages, selection)


def shown(kind: Kind, names: Names, pages: list[Message], selection: Selection) -> Listing:
    """What clients see of pages that were fetched just now. Raises NotMcp, RpcError."""
    left = LIST_COMPONENTS.value
    for page in pages:
        left -= jsonrpc.length(page.get(kind.member), left)
        if left < 0:
            LIST_COMPONENTS.record()
            most = LIST_COMPONENTS.value
            raise NotMcp(f"its {kind.method} has more than {most} components in all")
    return listing(kind, names, pages, asyncio.get_running_loop().time(), selection)


class Lists:
    """Fetches over the link that there is; without one there is nothing to fetch."""

    def __init__(
        self, name: str, settings: BackendSettings, catalog: Catalog, asker: Asker
    ) -> None:
        self.link: Link | None = None
        self.on_change: Callable[[Kind], None] = lambda kind: None
        """Called when clients would see a list anew, or the backend said that it changed."""
        self.on_pages: Callable[[Kind, list[Message]], None] = lambda kind, pages: None
        """Called with the pages of a list as the backend sent them."""
        self.on_failure: Callable[[], None] = lambda: None
        self._name = name
        self._names = Names(settings.prefix)
        self._timeout = settings.deadlines.initialize
        self._ttl = settings.cache_ttl
        self._selections = selections(settings)
        self._catalog = catalog
        self._asker = asker
        self._patience = Patience(settings.cache_ttl)
        self._flights = {kind: Flights(settings.cache_ttl > 0) for kind in KINDS}
        self._settled: set[Kind] = set()
        """Kinds of which is known what there is, if only that there is no such list."""

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
        known = (kind for kind in KINDS if kind in self._settled)
        return [kind.member for kind in known if self._catalog.get(self._name, kind) is None]

    def offers(self, kind: Kind) -> bool:
        """Whether the backend has this kind of component at all."""
        return self.link is not None and kind.capability in self.link.greeting.capabilities

    def old(self, kind: Kind, now: float) -> bool:
        """Whether an explicit list has to ask the backend: the snapshot is not young."""
        found = self._catalog.get(self._name, kind)
        return found is None or now - found.fetched_at >= min(YOUNG, self._ttl)

    async def refresh(self, kind: Kind) -> None:
        """Fetch a list, together with all who want it, and wait a little for it.

        Never raises: the snapshot stays then.
        """
        flights = self._flights[kind]
        try:
            async with asyncio.timeout(self._patience.seconds(kind)):
                while True:
                    flight = flights.join(lambda: self._fly(kind, announced=False))
                    await asyncio.wait([flight])
                    # One that was given up for a change of the list has another in its place.
                    if not flight.cancelled():
                        return
        except TimeoutError:
            self._patience.missed(kind)

    def announced(self, kind: Kind) -> None:
        """The backend says that a list changed: what is fetched may be the state before that."""
        self._flights[kind].restart(lambda: self._fly(kind, announced=True))

    async def _fly(self, kind: Kind, *, announced: bool) -> None:
        link = self.link
        if link is None or not self.offers(kind):
            return
        try:
            async with asyncio.timeout(self._timeout):
                changed = await self._fetch(link, kind)
        except (BackendError, RpcError, TimeoutError) as error:
            log.info("backend %s: %s failed: %s", self._name, kind.method, error)
            self.on_failure()
            return
        # What the backend announces is passed on even where we see no difference.
        if changed or announced:
            self.on_change(kind)

    async def fetch_all(self, link: Link, *, only_old: bool = False) -> set[Kind]:
        """Fetch every list, or those that are older than the cache's TTL; which ones changed.

        Raises BackendError, RpcError.
        """
        now = asyncio.get_running_loop().time()
        changed = set()
        for kind in KINDS:
            if kind.capability not in link.greeting.capabilities:
                if self._put(kind, None):
                    changed.add(kind)
                continue
            found = self._catalog.get(self._name, kind)
            fresh = found is not None and now - found.fetched_at < self._ttl
            if not (only_old and fresh) and await self._fetch(link, kind):
                changed.add(kind)
        return changed

    async def _fetch(self, link: Link, kind: Kind) -> bool:
        """Fetch a list. Returns whether clients see a difference."""
        started = asyncio.get_running_loop().time()
        pages = await pages_of(self._asker, link, kind)
        self._patience.came(kind, asyncio.get_running_loop().time() - started)
        if pages is None:
            return self._put(kind, None)
        found = shown(kind, self._names, pages, self._selections[kind])
        self.on_pages(kind, pages)
        return self._put(kind, found)

    def _put(self, kind: Kind, found: Listing | None) -> bool:
        self._settled.add(kind)
        return self._catalog.put(self._name, kind, found)

    def withdraw(self) -> set[Kind]:
        """Show nothing of the backend any more; the kinds whose lists changed."""
        self._settled.clear()
        return {kind for kind in KINDS if self._catalog.put(self._name, kind, None)}

    def stop(self) -> None:
        """The link is gone: so is what was fetched over it."""
        self.link = None
        for flights in self._flights.values():
            flights.cancel()
