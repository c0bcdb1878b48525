"""Watch of a backend for changes of its lists, which one instance may keep for all others.

The watching instance keeps the change stream open and refreshes outdated lists. The others check
the health of the backend themselves. They never take over the contents of a list: they request a
list from the backend when the watcher's digest of it differs from their own.
"""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Annotated, Final, Protocol

import msgspec
from msgspec import Meta

from mcpproxy.proxy.core.catalog.catalog import Catalog
from mcpproxy.proxy.core.catalog.component_list import ComponentList
from mcpproxy.proxy.protocol.kinds import KINDS, ComponentKind

SLACK: Final = 15.0
"""Seconds that the watcher has to refresh an outdated list after its check, before others do so."""
LONGEST_AGE: Final = 1_000_000.0
"""Seconds; the maximum age of a list in messages."""
NEWER: Final = 1.0
"""Seconds by which a list must be newer than recorded before its age is recorded again."""


class ListState(msgspec.Struct, frozen=True, array_like=True):
    """One list of a backend as an instance knows it."""

    digest: Annotated[str, Meta(max_length=32)]
    """Digest of the components; empty without a list."""
    age: Annotated[float, Meta(ge=0.0, le=LONGEST_AGE)]
    """Seconds since the list was requested."""
    announcements: Annotated[int, Meta(ge=0, le=2**53)]
    """Number of changes that the backend has announced to the instance."""


class AnnouncedLists(Protocol):
    """Lists that are requested again when the backend announces a change."""

    def announced(self, kind: ComponentKind) -> None:
        """Fetch what an announcement concerns."""


class SharedStream(Protocol):
    """Stream of announcements, which is closed while another instance watches."""

    @property
    def watches(self) -> bool:
        """True unless another instance watches the backend."""

    @property
    def works(self) -> bool:
        """True if announcements arrive."""

    def assign(self, *, watches: bool) -> None:
        """Keep the stream open, or leave it to another instance."""


class WatchShare:
    """One backend's watch in this instance."""

    def __init__(
        self,
        name: str,
        catalog: Catalog,
        lists: AnnouncedLists,
        tailored: AnnouncedLists,
        stream: SharedStream,
        is_current: Callable[[], bool],
        interval: float,
    ) -> None:
        """`lists` are those for all clients, `tailored` those for some.

        `is_current` returns True if the backend responds and all of its lists are known.
        `interval` is that of checks, in seconds.
        """
        self._name, self._catalog = name, catalog
        self._interval = interval
        self._lists, self._tailored, self._stream = lists, tailored, stream
        self._is_current = is_current
        self._announcements = dict.fromkeys(KINDS, 0)
        self._requested: dict[ComponentKind, str] = {}
        """Digests for which the list has been requested again."""
        self._marks: dict[ComponentKind, tuple[str, int]] = {}
        """The sender of the latest state of each list, and its number of announcements."""
        self._digests: dict[ComponentKind, tuple[ComponentList, str]] = {}

    @property
    def watches(self) -> bool:
        """True unless another instance watches the backend."""
        return self._stream.watches

    @property
    def can_be_relied_on(self) -> bool:
        """True if this instance watches, and misses no change."""
        return self._stream.watches and self._stream.works and self._is_current()

    @property
    def slack(self) -> float:
        """Seconds after cache.ttl for which a list needs no refresh."""
        return 0.0 if self._stream.watches else 2 * self._interval + SLACK

    def assign(self, *, watches: bool) -> None:
        """Watch from now on, or leave it to another instance."""
        self._stream.assign(watches=watches)

    def count_announcement(self, kind: ComponentKind) -> None:
        """Record that the backend has announced a change."""
        self._announcements[kind] += 1

    def catch_up(self) -> None:
        """Fetch all lists once, because no instance may have watched for a moment."""
        for kind in KINDS:
            self._tailored.announced(kind)
            self._lists.announced(kind)

    def states(self, now: float) -> list[ListState]:
        """Return the state of each list, in the order of KINDS."""
        return [self._state(kind, now) for kind in KINDS]

    def _state(self, kind: ComponentKind, now: float) -> ListState:
        components = self._catalog.unfiltered.get(self._name, kind)
        age = 0.0 if components is None else max(now - components.fetched_at, 0.0)
        return ListState(
            self._digest(kind, components),
            round(min(age, LONGEST_AGE), 2),
            self._announcements[kind],
        )

    def _digest(self, kind: ComponentKind, components: ComponentList | None) -> str:
        if components is None:
            return ""
        known = self._digests.get(kind)
        if known is None or known[0].items is not components.items:
            sizes = b",".join(b"%d" % len(item) for item in components.items)
            text = b"".join((sizes, b":", *components.items))
            digest = hashlib.blake2b(text, digest_size=12).hexdigest()
            known = self._digests[kind] = components, digest
        return known[1]

    def compare(self, sender: str, states: Sequence[ListState]) -> None:
        """Fetch the lists that differ from those of the watching process `sender`.

        `states` are in the order of KINDS.
        """
        if not self._is_current():
            # The lists are requested anyway; watchers repeat what they know.
            return
        for kind, state in zip(KINDS, states, strict=False):
            mark = sender, state.announcements
            is_news = self._marks.get(kind, mark) != mark
            self._marks[kind] = mark
            components = self._catalog.unfiltered.get(self._name, kind)
            if state.digest == self._digest(kind, components):
                self._requested.pop(kind, None)
                if components is not None:
                    self._confirm(kind, components, state.age)
            elif state.digest != self._requested.get(kind):
                # Once for each digest: two replicas of a backend may have different lists.
                self._requested[kind] = state.digest
                self._lists.announced(kind)
                is_news = True
            if is_news:
                self._tailored.announced(kind)

    def _confirm(self, kind: ComponentKind, components: ComponentList, age: float) -> None:
        """Record that the backend has returned the same list to the watcher later."""
        fetched_at = asyncio.get_running_loop().time() - age
        if fetched_at - components.fetched_at >= NEWER:
            self._catalog.put(self._name, kind, replace(components, fetched_at=fetched_at))
