"""Turns for writes that the API server does one after the other."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

AT_ONCE: Final = 2
"""Writes in progress: more of them only repeat each other's work."""
PATIENCE: Final = 2.0
"""Seconds for which a write waits for its turn at most."""


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
