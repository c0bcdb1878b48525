"""Objects that the watches delivered, and the lag of the watches behind lists."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from mcpproxy.api.kubernetes.objects import Object
from mcpproxy.cluster.cached_reads import Name, ObjectCache, name_of
from mcpproxy.cluster.resources import ProxyKey, ResourceKind

Url = tuple[str, str]
"""Host and path of requests that a route forwards."""

LAG: Final = 60.0
"""Seconds for which a watch may lag behind the list."""


@dataclass(frozen=True, slots=True)
class ObjectVersion:
    """Version and owner of one object, as a watch or a list delivered it."""

    version: int
    """The resourceVersion. Versions of one kind can be compared (KEP-5504)."""
    owner: ProxyKey | None
    """The MCPProxy to which the object belongs."""
    urls: frozenset[Url] = frozenset()
    """Hosts and paths of a route."""
    generation: int = 0
    """Number of the version of its spec."""


class WatchCache:
    """Objects of one kind that the watch delivered, compared with periodic lists."""

    def __init__(self, clock: Callable[[], float], lag: float = LAG) -> None:
        """`lag` is the number of seconds for which the watch may lag behind."""
        self._clock = clock
        self._allowed = lag
        self._known: dict[Name, ObjectVersion] = {}
        self._owned: Counter[ProxyKey] = Counter()
        """Numbers of known objects by owner."""
        self._behind: dict[Name, tuple[ObjectVersion | None, float]] = {}
        self._listed: dict[Name, int] = {}
        """Versions of the newest list."""
        self._gone: set[Name] = set()
        """Names in `_behind` that the newest list lacks."""
        self._last_event_at = clock()
        self._newest = 0
        """The newest version that an event had."""
        self.store = ObjectCache()
        """The objects themselves."""

    def record_event(
        self,
        live: Object,
        owner: ProxyKey | None,
        *,
        deleted: bool,
        urls: frozenset[Url] = frozenset(),
    ) -> bool:
        """Record an event of the watch, and return True if it may tell something new.

        The result of a write is stored before its event arrives: the pass that wrote knows it.
        """
        self._last_event_at = self._clock()
        name, version = name_of(live), version_of(live)
        self._newest = max(self._newest, version)
        is_new = deleted or not self.store.has(name, version)
        known = self._known.get(name)
        if known is not None and version < known.version:
            return is_new
        if version > self._listed.get(name, 0):
            self._forget_deleted()
        # The next comparison decides if this version is new enough.
        self._behind.pop(name, None)
        self._gone.discard(name)
        self._forget(name)
        if deleted:
            self.store.delete(name, version)
        else:
            self.store.put(live, owner)
            self._known[name] = ObjectVersion(version, owner, urls, generation_of(live))
            if owner is not None:
                self._owned[owner] += 1
        return is_new

    def _forget_deleted(self) -> None:
        """Forget objects that the newest list lacks, because the watch has delivered a later event.

        Kopf reports no deletion that happened before it listed the objects again.
        """
        for name in self._gone:
            del self._behind[name]
            self._forget(name)
        self._gone.clear()

    def _forget(self, name: Name) -> None:
        before = self._known.pop(name, None)
        if before is not None and before.owner is not None:
            self._owned[before.owner] -= 1
            if not self._owned[before.owner]:
                del self._owned[before.owner]

    def owner_of(self, name: Name) -> ProxyKey | None:
        """Return the MCPProxy to which the latest version of an object belongs."""
        known = self._known.get(name)
        return None if known is None else known.owner

    def sharing(self, live: Object, urls: frozenset[Url]) -> set[ProxyKey]:
        """Return the MCPProxies with routes for the same URLs as a route whose spec an event
        changes or deletes; of several such routes, the oldest gets the requests.

        Call it before the event is recorded. `urls` are those of the route after the event.
        """
        known = self._known.get(name_of(live))
        if known is not None and urls and known.generation == generation_of(live):
            return set()
        affected = urls if known is None else urls | known.urls
        return {
            other.owner
            for other in (self._known.values() if affected else ())
            if other.owner is not None
            and other.owner.namespace == live["metadata"]["namespace"]
            and not affected.isdisjoint(other.urls)
        }

    def knows(self, owner: ProxyKey) -> bool:
        """Return True if an object of this MCPProxy is known from the watch, a list or a write."""
        return owner in self._owned or self.store.may_have(owner)

    def has_none(self, owner: ProxyKey) -> bool:
        """Return True if the watch keeps up, and no object of this MCPProxy is known."""
        return self.store.is_fresh and not self.knows(owner)

    def lacks(self, listed: Mapping[Name, ObjectVersion]) -> bool:
        """Return True if the watch has never delivered one of the listed objects."""
        return not listed.keys() <= self._known.keys()

    @property
    def newest(self) -> int:
        """The newest version that an event or a write had."""
        return max(self._newest, self.store.newest)

    def compare(self, listed: Mapping[Name, ObjectVersion], since: int) -> set[ProxyKey]:
        """Note the objects that the watch has missed, and return their owners.

        `since` is the `newest` when the list was requested. Its pages take a while: objects that
        are newer and not listed may have been created after it, and listed ones deleted.
        """
        now = self._clock()
        self._listed = {name: there.version for name, there in listed.items()}
        self.store.drop_older(self._listed, since)
        behind: dict[Name, tuple[ObjectVersion | None, float]] = {}
        concerned = set()
        for name in listed.keys() | self._known.keys():
            known, there = self._known.get(name), listed.get(name)
            if there is not None and self.store.was_deleted(name, there.version):
                continue
            if known is not None and known.version >= (there.version if there else since + 1):
                continue
            earlier = self._behind.get(name)
            behind[name] = earlier if earlier and earlier[0] == known else (known, now)
            concerned |= {seen.owner for seen in (known, there) if seen and seen.owner}
        self._behind = behind
        self._gone = behind.keys() - listed.keys()
        self.store.incomplete = frozenset(concerned)
        return concerned

    def behind(self) -> float:
        """Return the seconds since which the watch has missed something; 0 if it has not."""
        now = self._clock()
        return max((now - since for _, since in self._behind.values()), default=0.0)

    @property
    def lagging(self) -> bool:
        """True if the watch has missed something for too long."""
        return self.behind() >= self._allowed

    def age(self) -> float:
        """Return the seconds since the last event."""
        return self._clock() - self._last_event_at

    def owners(self) -> set[ProxyKey]:
        """Return the owners of all known objects."""
        return set(self._owned)


Watches = dict[ResourceKind, WatchCache]


def version_of(live: Object) -> int:
    """Return the resourceVersion as a number."""
    return int(live["metadata"]["resourceVersion"])


def generation_of(live: Object) -> int:
    """Return the number of the version of the spec; 0 for a kind without one."""
    return int(live["metadata"].get("generation", 0))
