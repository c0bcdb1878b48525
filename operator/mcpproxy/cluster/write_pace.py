"""Pace of writes at a busy API server, as distinguished from a single slow write."""

import asyncio
import statistics
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

NEWEST: Final = 16
"""Number of responses to writes of one kind from which the load is inferred."""
BUSY: Final = 0.5
"""Median of these response times, in seconds, from which on the server is busy."""
FRESH: Final = 10.0
"""Seconds for which response times say something about the load."""
AT_ONCE: Final = 2
"""Simultaneous writes that take turns: more of them only repeat each other's work."""
PATIENCE: Final = 2.0
"""Seconds for which a write waits for its turn at most."""


class ResponseTimes:
    """Times of the newest successful writes of each kind.

    The server may do one kind slowly and all others fast: it allocates the addresses of Services
    one after the other. Failures are not included, because a write that a webhook delays until it
    fails shows no load.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._newest: dict[str, deque[float]] = {}
        self._recorded_at: dict[str, float] = {}

    def record(self, kind: str, seconds: float) -> None:
        """Record the time of a successful write."""
        self._newest.setdefault(kind, deque(maxlen=NEWEST)).append(seconds)
        self._recorded_at[kind] = self._clock()

    def is_busy(self) -> bool:
        """Return True if writes of some kind take long, so that more at once would not help."""
        return any(
            len(newest) == NEWEST
            and self._clock() - self._recorded_at[kind] < FRESH
            and statistics.median(newest) >= BUSY
            for kind, newest in self._newest.items()
        )


class Turns:
    """Limit on simultaneous writes, which never stops one.

    The API server allocates the addresses of Services in a single object. Creations at the same
    time conflict there, and the server repeats them: 16 at once take half as long again as two.
    """

    def __init__(self, at_once: int = AT_ONCE, patience: float = PATIENCE) -> None:
        self._semaphore = asyncio.Semaphore(at_once)
        self._patience = patience

    @asynccontextmanager
    async def take(self) -> AsyncIterator[None]:
        """Wait for a turn, but not longer than writes that hang may take it."""
        try:
            async with asyncio.timeout(self._patience):
                await self._semaphore.acquire()
        except TimeoutError:
            yield
            return
        try:
            yield
        finally:
            self._semaphore.release()
