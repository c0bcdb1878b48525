"""Open streams of the admin port, with a fair share for each address.

Whoever opens many streams loses its oldest ones; the operator keeps its own.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Final

from mcpproxy.limits.audit import STATUS_WATCHERS
from mcpproxy.proxy.fair_shares import FairShares

KEEP_ALIVE: Final = 10.0
"""Seconds of silence after which a watcher gets a blank line as a sign of life."""


class _Watcher:
    """One open stream."""

    def __init__(self) -> None:
        self.news = asyncio.Event()
        self.is_over = False

    def end(self) -> None:
        self.is_over = True
        self.news.set()


class StatusWatchers:
    """Watchers of the report of one process."""

    def __init__(self, watch: Callable[[Callable[[], None]], Callable[[], None]]) -> None:
        """`watch` registers a function that is called after changes, and returns the canceller."""
        self._watch = watch
        self._shares: FairShares[_Watcher] = FairShares(STATUS_WATCHERS.value)
        self._is_closing = False

    def __len__(self) -> int:
        return len(self._shares)

    def close(self) -> None:
        """End all streams, and each later one after its first line.

        Otherwise the process would wait for its watchers when it stops.
        """
        self._is_closing = True
        for watcher in self._shares:
            watcher.end()

    async def changes(self, address: str, line: Callable[[], bytes]) -> AsyncIterator[bytes]:
        """Yield `line()` at first and after each change of it, and blank lines during silence.

        `address` is the watcher's; the stream ends if others need its share.
        """
        watcher = self._admit(address)
        end = self._watch(watcher.news.set)
        try:
            last = line()
            yield last
            while not (watcher.is_over or self._is_closing):
                try:
                    async with asyncio.timeout(KEEP_ALIVE):
                        await watcher.news.wait()
                except TimeoutError:
                    yield b"\n"
                    continue
                watcher.news.clear()
                current = line()
                if current != last:
                    last = current
                    yield current
        finally:
            end()
            self._shares.discard(watcher)

    def _admit(self, address: str) -> _Watcher:
        if self._shares.is_full:
            STATUS_WATCHERS.record()
            oldest = self._shares.choose()
            if oldest is not None:
                self._shares.discard(oldest)
                oldest.end()
        watcher = _Watcher()
        self._shares.add(watcher, (address,))
        return watcher
