"""Comparison of the watches with lists, which finds missed events and silent watches."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final

from mcpproxy.cluster.cached_reads import Name, name_of
from mcpproxy.cluster.client import Cluster
from mcpproxy.cluster.errors import ClusterError, NotFound
from mcpproxy.cluster.resources import MCP_PROXY, NOT_BUILT_IN, ProxyKey, ResourceKind, owner_key
from mcpproxy.controller.watch_cache import ObjectVersion, Watches, version_of

log = logging.getLogger(__name__)

LOOK: Final = 60.0
"""Seconds between two lists, on average."""
EVERYTHING: Final = 10
"""Number of lists after which every MCPProxy is reconciled."""
FIRST_LOOK: Final = 0.5
"""Seconds between two comparisons until the watches have caught up for the first time."""
RELIST: Final = 10
"""Number of these comparisons with one list: some of its objects may have been deleted since."""


class Resync:
    """Periodic lists of all watched kinds, which enqueue the keys that a watch has missed."""

    def __init__(
        self,
        cluster: Cluster,
        namespaces: Sequence[str],
        selectors: Mapping[ResourceKind, str],
        watches: Watches,
        enqueue: Callable[[ProxyKey], None],
        look: float = LOOK,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        jitter: Callable[[], float] = lambda: 1.0,
        kinds_changed: Callable[[], object] = lambda: None,
    ) -> None:
        """`namespaces` is empty for all of them. `jitter` returns the factor of one pause.

        `kinds_changed` is called when a kind was installed or removed since the previous list.
        """
        self._cluster = cluster
        self._namespaces = namespaces
        self._selectors = selectors
        self._watches = watches
        self._enqueue = enqueue
        self._look = look
        self._sleep = sleep
        self._jitter = jitter
        self._logged: dict[ResourceKind, str] = {}
        self._kinds_changed = kinds_changed
        self._installed: dict[ResourceKind, bool] = {}
        self._awaited: dict[ResourceKind, Mapping[Name, ObjectVersion]] = {}
        """Lists that the watches must deliver before they have caught up."""
        self._looks = 0
        self.caught_up = False
        """True once every watch has delivered the objects that existed when it began."""
        self.settled = asyncio.Event()
        """Set once this is so for all kinds that the API server lists."""

    async def run(self) -> None:
        """Run until cancelled."""
        await self._catch_up()
        count = 0
        while True:
            await self._pause()
            count += 1
            for kind, watched in self._watches.items():
                since = watched.newest
                listed = await self._list(kind)
                watched.store.is_fresh = listed is not None
                if listed is None:
                    continue
                missed = watched.compare(listed, since)
                if missed:
                    log.debug("the watch of %s missed %d MCPProxies", kind.plural, len(missed))
                everything = kind == MCP_PROXY and count % EVERYTHING == 0
                owners = {seen.owner for seen in listed.values() if seen.owner}
                for key in missed | (owners if everything else set()):
                    self._enqueue(key)

    async def note_kinds(self) -> None:
        """Note which kinds are installed, before Kopf decides which ones it watches."""
        for kind in NOT_BUILT_IN:
            await self._list(kind)

    async def wait_until_settled(self, silence: float, longest: float) -> None:
        """Wait until the watches have delivered what exists, as long as they deliver anything.

        Give up after `silence` seconds without an event, and after `longest` seconds in total.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(longest):
                while not self.settled.is_set():
                    age = min(watched.age() for watched in self._watches.values())
                    if age >= silence:
                        return
                    with suppress(TimeoutError):
                        async with asyncio.timeout(silence - age):
                            await self.settled.wait()

    def _note_installed(self, kind: ResourceKind, installed: bool) -> None:
        if self._installed.setdefault(kind, installed) != installed:
            self._installed[kind] = installed
            log.warning("the kind %s was %s", kind.name, "installed" if installed else "removed")
            self._kinds_changed()

    async def _catch_up(self) -> None:
        """Wait until the watches of all kinds that the API server lists have caught up."""
        while not self.settled.is_set():
            await self._sleep(FIRST_LOOK)
            self.caught_up = await self._has_caught_up()

    async def _pause(self) -> None:
        """Wait until the next comparison. Until then, ask again for kinds that were refused."""
        seconds = self._look * self._jitter()
        while seconds > 0 and not self.caught_up:
            await self._sleep(FIRST_LOOK)
            seconds -= FIRST_LOOK
            self.caught_up = await self._has_caught_up()
        if seconds > 0:
            await self._sleep(seconds)

    async def _has_caught_up(self) -> bool:
        refused = False
        if self._looks % RELIST == 0:
            # Objects may have been deleted since they were listed.
            self._awaited = {kind: there for kind, there in self._awaited.items() if not there}
        self._looks += 1
        for kind, watched in self._watches.items():
            listed = self._awaited.get(kind)
            if listed is None:
                listed = await self._list(kind)
            if listed is None:
                refused = True
            elif watched.lacks(listed):
                self._awaited[kind] = listed
                return False
            else:
                self._awaited[kind] = {}
                watched.store.is_fresh = True
        self.settled.set()
        return not refused

    async def _list(self, kind: ResourceKind) -> dict[Name, ObjectVersion] | None:
        """Return the objects of one kind; None if the API server does not list them."""
        versions: dict[Name, ObjectVersion] = {}
        try:
            for namespace in self._namespaces or (None,):
                for head in await self._cluster.heads(kind, namespace, self._selectors[kind]):
                    versions[name_of(head)] = ObjectVersion(version_of(head), owner_key(head))
        except NotFound:
            # A kind that is not installed has no objects.
            self._note_installed(kind, False)
            return {}
        except ClusterError as error:
            if self._logged.get(kind) != str(error):
                log.warning("listing %s failed: %s", kind.plural, error)
            self._logged[kind] = str(error)
            return None
        if self._logged.pop(kind, None) is not None:
            log.info("listing %s succeeds again", kind.plural)
        self._note_installed(kind, True)
        return versions
