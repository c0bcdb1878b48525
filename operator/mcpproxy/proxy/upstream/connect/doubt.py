"""Backoff between probes for an era of a backend."""

import asyncio
from typing import Final

DOUBTED_FOR: Final = 60.0
"""Seconds until a backend is probed again after a probe that proved nothing about its era."""
DOUBTED_AT_MOST: Final = 3600.0


class Doubt:
    """Time without probes, which doubles with each inconclusive probe, up to an hour.

    A probe may cost a client the entire time that it waits for a response.
    """

    def __init__(self) -> None:
        self._until = float("-inf")
        self._next = DOUBTED_FOR
        self._exits = 0

    @property
    def is_active(self) -> bool:
        """True if it is too early for another probe."""
        return asyncio.get_running_loop().time() < self._until

    def again(self) -> None:
        """Record another inconclusive probe."""
        self._until = asyncio.get_running_loop().time() + self._next
        self._next = min(2 * self._next, DOUBTED_AT_MOST)

    def is_confirmed_by_exit(self) -> bool:
        """Record that the probe ended a process; return True if it has ended one before.

        A single exit may have had another cause.
        """
        self.again()
        self._exits += 1
        return self._exits > 1
