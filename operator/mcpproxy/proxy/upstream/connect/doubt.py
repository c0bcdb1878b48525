"""Doubt about the era of a backend: when it is probed again."""

import asyncio
from typing import Final

DOUBTED_FOR: Final = 60.0
"""Seconds until a backend is probed again whose answer to the probe said nothing of its era."""
DOUBTED_AT_MOST: Final = 3600.0


class Doubt:
    """How long a backend is not probed again: twice as long each time, up to an hour.

    Each probe may take a client the whole time that one waits for an answer.
    """

    def __init__(self) -> None:
        self._until = float("-inf")
        self._next = DOUBTED_FOR

    @property
    def lasts(self) -> bool:
        """Whether it is too early for another probe."""
        return asyncio.get_running_loop().time() < self._until

    def again(self) -> None:
        """Another probe came to nothing."""
        self._until = asyncio.get_running_loop().time() + self._next
        self._next = min(2 * self._next, DOUBTED_AT_MOST)
