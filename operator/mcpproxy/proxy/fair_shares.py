"""Fair shares of a bounded collection: which entry makes room when the collection is full.

Every entry has a holder, a path such as (network, principal). The entry that makes room belongs
to the holder with the most entries at each step of the path, and is the least recently used entry
there that may go. A holder with few entries therefore loses none to a holder with many.
"""

import heapq
from collections.abc import Callable, Hashable, Iterator
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
Holder = tuple[str, ...]

RESERVED: Final = 8
"""The last 1/RESERVED of a collection is reserved for holders with few entries."""
FEW: Final = 16
"""A holder has few entries if it has less than 1/FEW of the whole collection."""


class _Node(Generic[K]):
    """Entries below one step of a path: in child nodes or, in a leaf, in the order of use."""

    __slots__ = ("changed", "children", "entries", "heaviest", "weight")

    def __init__(self) -> None:
        self.weight = 0
        self.children: dict[str, _Node[K]] = {}
        self.entries: dict[K, None] = {}
        # Pairs of (-weight, name), with outdated weights among them.
        self.heaviest: list[tuple[int, str]] = []
        # Names of children that gained weight since the last choice.
        self.changed: set[str] = set()

    def insert(self, key: K, holder: Holder) -> None:
        """Add an entry below this node as the most recently used of its holder."""
        node = self
        node.weight += 1
        for name in holder:
            child = node.children.get(name)
            if child is None:
                child = node.children[name] = _Node()
            child.weight += 1
            node.changed.add(name)
            node = child
        node.entries[key] = None

    def remove(self, key: K, holder: Holder) -> None:
        """Remove an entry below this node."""
        node = self
        node.weight -= 1
        for name in holder:
            child = node.children[name]
            child.weight -= 1
            if not child.weight:
                del node.children[name]
                node.changed.discard(name)
                return
            node = child
        del node.entries[key]

    def leaf(self, holder: Holder) -> "_Node[K]":
        """Return the node with the entries of a holder."""
        node = self
        for name in holder:
            node = node.children[name]
        return node

    def _rank(self) -> None:
        for name in self.changed:
            heapq.heappush(self.heaviest, (-self.children[name].weight, name))
        self.changed.clear()
        if len(self.heaviest) > 2 * len(self.children) + FEW:
            self.heaviest = [(-child.weight, key) for key, child in self.children.items()]
            heapq.heapify(self.heaviest)

    def by_weight(self) -> Iterator["_Node[K]"]:
        """Yield the children in descending order of weight."""
        # Ranked only now, because entries change more often than one is evicted.
        self._rank()
        seen: dict[str, int] = {}
        try:
            while self.heaviest:
                negative, name = heapq.heappop(self.heaviest)
                child = self.children.get(name)
                if child is None or name in seen:
                    continue
                if child.weight != -negative:
                    heapq.heappush(self.heaviest, (-child.weight, name))
                    continue
                seen[name] = negative
                yield child
        finally:
            for name, negative in seen.items():
                heapq.heappush(self.heaviest, (negative, name))


class FairShares(Generic[K]):
    """Holders of the entries of one collection with at most `limit` entries."""

    def __init__(self, limit: int) -> None:
        """Create an empty collection. The paths of all holders must have the same length."""
        self.limit = limit
        self._root: _Node[K] | None = None
        """Entries by holder; None until the collection is large enough for shares to matter."""
        self._holders: dict[K, Holder] = {}
        """Holder of each entry, in the order of the last use."""

    def __len__(self) -> int:
        return len(self._holders)

    def __contains__(self, key: K) -> bool:
        return key in self._holders

    def __iter__(self) -> Iterator[K]:
        return iter(self._holders)

    @property
    def is_full(self) -> bool:
        """True if adding an entry requires the removal of another."""
        return len(self._holders) >= self.limit

    def add(self, key: K, holder: Holder) -> None:
        """Add or replace an entry, as the most recently used of its holder."""
        if key in self._holders:
            self.discard(key)
        self._holders[key] = holder
        if self._root is not None:
            self._root.insert(key, holder)

    def touch(self, key: K) -> None:
        """Mark an entry as the most recently used."""
        holder = self._holders[key] = self._holders.pop(key)
        if self._root is not None:
            entries = self._root.leaf(holder).entries
            del entries[key]
            entries[key] = None

    def discard(self, key: K) -> None:
        """Remove an entry, if present."""
        holder = self._holders.pop(key, None)
        if holder is None or self._root is None:
            return
        if len(self._holders) < self.limit // FEW // 2:
            self._root = None
        else:
            self._root.remove(key, holder)

    def _tree(self) -> _Node[K]:
        if self._root is None:
            self._root = _Node()
            for key, holder in self._holders.items():
                self._root.insert(key, holder)
        return self._root

    def holder(self, key: K) -> Holder:
        """Return the holder of an entry."""
        return self._holders[key]

    def held(self, holder: Holder) -> int:
        """Return the number of entries of a holder."""
        node = self._tree()
        for name in holder:
            child = node.children.get(name)
            if child is None:
                return 0
            node = child
        return node.weight

    def admits(self, holder: Holder) -> bool:
        """Return True if a holder may add an entry without removing another.

        The last part of the room is reserved for holders with few entries. Otherwise entries that
        cannot be removed, such as sessions in use, could shut other holders out.
        """
        whole, limit = len(self._holders), self.limit
        few = max(limit // FEW, 1)
        if whole < few or whole >= limit:
            return whole < limit
        return whole < limit - limit // RESERVED or self.held(holder) < few

    def choose(self, may_go: Callable[[K], bool] = lambda key: True) -> K | None:
        """Return the entry to remove for a new one, or None if none may go."""
        return _choose(self._tree(), may_go)


def _choose(node: _Node[K], may_go: Callable[[K], bool]) -> K | None:
    if node.entries:
        return next((key for key in node.entries if may_go(key)), None)
    children = node.by_weight()
    try:
        for child in children:
            key = _choose(child, may_go)
            if key is not None:
                return key
    finally:
        children.close()  # type: ignore[attr-defined]
    return None
