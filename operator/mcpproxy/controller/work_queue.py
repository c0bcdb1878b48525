"""Queue of keys with retries: a key waits once, and one worker at a time processes it."""

import asyncio
import itertools
from collections.abc import Callable, Hashable
from typing import Final, Generic, Protocol, TypeVar

from mcpproxy.backoff import Backoff, no_jitter
from mcpproxy.limits.pods import REPORT_PASSES

K = TypeVar("K", bound=Hashable)

FIRST_RETRY: Final = 0.5
"""Seconds until the first retry; each further failure doubles them."""
PATIENCE: Final = 30.0
"""Seconds for which a key without a hurry waits for others at most."""
LAST_RETRY: Final = 8.0
"""Longest delay of a retry in seconds: ten seconds after a cause ended, its effects have ended."""
LASTING_RETRY: Final = 60.0
"""Longest delay in seconds of a retry that can only succeed after an unlikely change, such as an
update of the API server: a change of the object itself does not wait for it."""


class Handle(Protocol):
    """Scheduled call."""

    def cancel(self) -> None:
        """Cancel the call."""


class Timers(Protocol):
    """Timers of an asyncio loop, as far as the queue uses them."""

    def time(self) -> float:
        """Return the seconds of a monotonic clock."""

    def call_later(self, delay: float, callback: Callable[[], None], /) -> Handle:
        """Call back after `delay` seconds."""


class QueueRecorder(Protocol):
    """Recorder of the events of a queue."""

    def added(self) -> None:
        """Record a key that was added."""

    def waited(self, seconds: float) -> None:
        """Record the seconds that a key waited for a worker."""

    def retried(self) -> None:
        """Record a retry after a failure."""


class WorkQueue(Generic[K]):
    """Queue of keys.

    A key that is added while it waits is dropped; one that is added while a worker processes it
    waits until the worker is done. Keys that were added without delay come first, but not before
    one that has waited for `PATIENCE`.
    """

    def __init__(
        self,
        timers: Timers,
        jitter: Callable[[], float] = no_jitter,
        recorder: QueueRecorder | None = None,
    ) -> None:
        """`jitter` returns the factor of one retry's delay."""
        self._timers = timers
        self._jitter = jitter
        self._recorder = recorder
        self._ready: asyncio.PriorityQueue[tuple[float, int, K]] = asyncio.PriorityQueue()
        """Keys by the time at which they are due; a key that became due earlier is in it twice."""
        self._numbers = itertools.count()
        self._waiting: dict[K, tuple[float, float]] = {}
        """Keys with the times since which they wait, and at which they are due."""
        self._working: set[K] = set()
        self._delayed: dict[K, tuple[float, Handle]] = {}
        self._retries: dict[K, tuple[bool, Backoff]] = {}
        """Failures in sequence, and whether the last ones are likely to last."""

    def __len__(self) -> int:
        """Return the number of keys that wait for a worker."""
        return len(self._waiting)

    def add(self, key: K) -> None:
        """Add the key without delay."""
        self._add(key, 0.0)

    def _add(self, key: K, patience: float) -> None:
        now = self._timers.time()
        waiting = self._waiting.get(key)
        if waiting is not None and waiting[1] <= now + patience:
            return
        if waiting is None and self._recorder is not None:
            self._recorder.added()
        self._waiting[key] = waiting[0] if waiting else now, now + patience
        if key not in self._working:
            self._put(key)

    def _put(self, key: K) -> None:
        self._ready.put_nowait((self._waiting[key][1], next(self._numbers), key))

    def add_after(self, key: K, delay: float) -> None:
        """Add the key in `delay` seconds, unless it is due earlier."""
        due = self._timers.time() + delay
        earlier = self._delayed.get(key)
        if earlier is not None:
            if earlier[0] <= due:
                return
            earlier[1].cancel()
        self._delayed[key] = (due, self._timers.call_later(delay, lambda: self._due(key)))

    def retry(self, key: K, *, lasts: bool = False) -> float:
        """Add the key after a delay that grows with its failures; return the delay in seconds.

        `lasts` means that the failure lasts until the object changes.
        """
        before, backoff = self._retries.get(key, (None, None))
        if backoff is None or before is not lasts:
            longest = LASTING_RETRY if lasts else LAST_RETRY
            backoff = Backoff(FIRST_RETRY, longest, self._jitter)
            self._retries[key] = lasts, backoff
        if self._recorder is not None:
            self._recorder.retried()
        delay = backoff.record_failure()
        self.add_after(key, delay)
        return delay

    def forget(self, key: K) -> None:
        """Reset the failures of the key."""
        self._retries.pop(key, None)

    async def get(self) -> K:
        """Return the next key; the caller must call `done` with it."""
        while True:
            due, _, key = await self._ready.get()
            since, newest = self._waiting.get(key, (0.0, None))
            if newest == due and key not in self._working:
                break
        del self._waiting[key]
        if self._recorder is not None:
            self._recorder.waited(self._timers.time() - since)
        self._working.add(key)
        return key

    def done(self, key: K) -> None:
        """End the processing of the key."""
        self._working.discard(key)
        if key in self._waiting:
            self._put(key)

    def close(self) -> None:
        """Cancel all delayed keys."""
        for _, handle in self._delayed.values():
            handle.cancel()
        self._delayed.clear()

    def _due(self, key: K) -> None:
        del self._delayed[key]
        self._add(key, PATIENCE)


class PassSpacing(Generic[K]):
    """Limit on the passes that changes of reports cause for one key; the first is immediate."""

    def __init__(self, clock: Callable[[], float], add_after: Callable[[K, float], None]) -> None:
        """`add_after` enqueues a key after a delay in seconds."""
        self._clock = clock
        self._add_after = add_after
        self._due: dict[K, float] = {}

    def changed(self, key: K) -> None:
        """Enqueue the key, whose report has changed."""
        now = self._clock()
        due = self._due.get(key)
        if due is not None and due > now:
            REPORT_PASSES.record()
            # The pass that was due may have come earlier, because of another event.
            self._add_after(key, due - now)
            return
        spacing = 1 / REPORT_PASSES.value
        # Forget keys without recent changes.
        self._due = {busy: at for busy, at in self._due.items() if at + spacing > now}
        due = self._due.get(key)
        self._due[key] = now if due is None else due + spacing
        self._add_after(key, self._due[key] - now)
