"""Merged lists of clients with restricted access, kept within a limit of bytes.

They have no holder: clients choose neither the rules nor the catalog, and a list that was dropped
is built from the catalog at the next request.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final

from mcpproxy.limits.access import CLASS_LISTS

OVERHEAD: Final = 512
"""Assumed size of an entry without its list."""
Version = tuple[int, ...]


class ClassLists:
    """Recently used lists by key, each with the version of the catalog that it was built from."""

    def __init__(self) -> None:
        self._lists: OrderedDict[Hashable, tuple[Version, bytes]] = OrderedDict()
        self._size = 0

    def get(self, key: Hashable, version: Version, build: Callable[[], bytes]) -> bytes:
        """Return a list of this version; build it if necessary."""
        known = self._lists.get(key)
        if known is not None and known[0] == version:
            self._lists.move_to_end(key)
            return known[1]
        body = build()
        self._drop(key)
        self._lists[key] = version, body
        self._size += len(body) + OVERHEAD
        while self._size > CLASS_LISTS.value and len(self._lists) > 1:
            CLASS_LISTS.record()
            self._drop(next(iter(self._lists)))
        return body

    def _drop(self, key: Hashable) -> None:
        known = self._lists.pop(key, None)
        if known is not None:
            self._size -= len(known[1]) + OVERHEAD

    @property
    def size(self) -> int:
        """Approximate size of all lists in bytes."""
        return self._size
