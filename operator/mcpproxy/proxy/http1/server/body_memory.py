"""Memory for the bodies of requests, shared between all connections.

A client that holds back the end of large bodies must not prevent small requests of others, nor
large ones from other addresses.
"""

from collections import Counter
from typing import Final

from mcpproxy.limits.http import LARGE_BODIES, LARGE_BODIES_SHARE, SMALL_BODIES, SMALL_BODY

SMALL: Final = SMALL_BODY.value
"""Bytes of the largest small body."""
SMALL_TOTAL: Final = SMALL_BODIES.value
"""Bytes of all small bodies."""


class BodyMemory:
    """Bytes that the bodies of all connections hold."""

    def __init__(self) -> None:
        self.small = 0
        """Bytes of small bodies, which connections count themselves while there is room."""
        self.large = 0
        self._by_address: Counter[str] = Counter()
        """Bytes of large bodies."""

    @property
    def held(self) -> int:
        """Bytes of all bodies."""
        return self.small + self.large

    def grow(self, address: str, before: int, after: int) -> bool:
        """Let a body grow from `before` to `after` bytes; return False if there is no room."""
        if after <= SMALL:
            small = self.small + after - before
            if small > SMALL_TOTAL:
                SMALL_BODIES.record()
                return False
            self.small = small
            return True
        was_small = before <= SMALL
        more = after if was_small else after - before
        if self.large + more > LARGE_BODIES.value:
            LARGE_BODIES.record()
            return False
        if self._by_address[address] + more > LARGE_BODIES_SHARE.value:
            LARGE_BODIES_SHARE.record()
            return False
        if was_small:
            self.small -= before
        self.large += more
        self._by_address[address] += more
        return True

    def release(self, address: str, size: int) -> None:
        """Release a body of `size` bytes."""
        if size <= SMALL:
            self.small -= size
            return
        self.large -= size
        self._by_address[address] -= size
        if not self._by_address[address]:
            del self._by_address[address]
