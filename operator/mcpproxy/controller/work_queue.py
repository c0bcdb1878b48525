"""A queue of keys: each waits once, is worked on by one worker at a time, and backs off."""

import asyncio
from collections.abc import Callable, Hashable
from typing import Final, Generic, Protocol, TypeVar

from mcpproxy.limits.pods import REPORT_PASSES

K = TypeVar("K", bound=Hashable)

FIRST_RETRY: Final = 0.5
"""Seconds until the first retry; every further failure doubles them."""
LAST_RETRY: Final = 8.0
"""Longest pause between retries, in seconds: ten seconds after a cause is gone all is well."""


class Handle(Protocol):
    """A call that is still to come."""

    def cancel(self) -> None:
        """Let it not happen."""


class Timers(Protocol):
    """Time as the queue needs it; an asyncio loop is one."""

    def time(self) -> float:
        """Seconds on a clock that never goes back."""

    def call_later(self, delay: float, callback: Callable[[], None], /) -> Handle:
        """Call back after `delay` seconds."""


class QueueRecorder(Protocol):
    """Keeps count of what a queue does."""

    def added(self) -> None:
        """A key began to wait."""

    def waited(self, seconds: float) -> None:
        """A worker took a key that had waited for so long."""

    def retried(self) -> None:
        """A key will come again after a failure."""


class WorkQueue(Generic[K]):
    """A key added while it waits is dropped; one added while worked on comes again after."""

    def __init__(
        self,
        timers: Timers,
        jitter: Callable[[], float] = lambda: 1.0,
        recorder: QueueRecorder | None = None,
    ) -> None:
        """`jitter` gives the factor of one retry's delay."""
        self._timers = timers
        self._jitter = jitter
        self._recorder = recorder
        self._ready: asyncio.Queue[K] = asyncio.Queue()
        self._waiting: dict[K, float] = {}
        self._working: set[K] = set()
        self._delayed: dict[K, tuple[float, Handle]] = {}
        self._failures: dict[K, int] = {}

    def __len__(self) -> int:
        """Number of keys that wait for a worker."""
        return len(self._waiting)

    def add(self, key: K) -> None:
        """Let the key be worked on as soon as possible."""
        if key in self._waiting:
            return
        self._waiting[key] = self._timers.time()
        if self._recorder is not None:
            self._recorder.added()
        if key not in self._working:
            self._ready.put_nowait(key)

    def add_after(self, key: K, delay: float) -> None:
        """Add the key in `delay` seconds; of several delays the first to end counts."""
        due = self._timers.time() + delay
        earlier = self._delayed.get(key)
        if earlier is not None:
            if earlier[0] <= due:
                return
            earlier[1].cancel()
        self._delayed[key] = (due, self._timers.call_later(delay, lambda: self._due(key)))

    def retry(self, key: K) -> float:
        """Add the key after a delay that grows with its failures; seconds until then."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        if self._recorder is not None:
            self._recorder.retried()
        delay = min(FIRST_RETRY * 2.0 ** min(failures, 32), LAST_RETRY) * self._jitter()
        self.add_after(key, delay)
        return delay

    def forget(self, key: K) -> None:
        """The key's failures are over."""
        self._failures.pop(key, None)

    async def get(self) -> K:
        """The next key; `done` must follow."""
        key = await self._ready.get()
        since = self._waiting.pop(key)
        if self._recorder is not None:
            self._recorder.waited(self._timers.time() - since)
        self._working.add(key)
        return key

    def done(self, key: K) -> None:
        """The key may be worked on again."""
        self._working.discard(key)
        if key in self._waiting:
            self._ready.put_nowait(key)

    def close(self) -> None:
        """Let no delayed key come any more."""
        for _, handle in self._delayed.values():
            handle.cancel()
        self._delayed.clear()

    def _due(self, key: K) -> None:
        del self._delayed[key]
        self.add(key)


class PassSpacing(Generic[K]):
    """Delays changes so that one key causes few passes, the first of them at once."""

    def __init__(self, clock: Callable[[], float], add_after: Callable[[K, float], None]) -> None:
        """`add_after` lets a key be worked on after so many seconds."""
        self._clock = clock
        self._add_after = add_after
        self._due: dict[K, float] = {}

    def changed(self, key: K) -> None:
        """A report under the key has changed."""
        now = self._clock()
        due = self._due.get(key)
        if due is not None and due > now:
            REPORT_PASSES.record()
            return
        spacing = 1 / REPORT_PASSES.value
        # Keys that rest are forgotten, and the key's own place is kept while it is busy.
        self._due = {one: at for one, at in self._due.items() if at + spacing > now}
        due = self._due.get(key)
        self._due[key] = now if due is None else due + spacing
        self._add_after(key, self._due[key] - now)
