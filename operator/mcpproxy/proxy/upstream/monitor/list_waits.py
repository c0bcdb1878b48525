"""Shared refreshes of a backend's lists, and how long requests wait for them."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

from mcpproxy.limits.backends import LIST_WAIT
from mcpproxy.proxy.protocol.kinds import ComponentKind
from mcpproxy.proxy.upstream.monitor.request_pace import RequestRate

REFRESH_WAIT: Final = 2.0
"""Minimum seconds that a list request waits; later changes are announced."""
MIN_WAIT_UNCACHED: Final = 5.0
"""Minimum seconds without a cache, because only the newest list may be returned."""
WAIT_FACTOR: Final = 2.0
"""A list request waits this many times the duration of the last fetch."""
APART: Final = 1.0
"""Minimum seconds between the starts of two fetches of one list that no client requested."""

Fetch = Callable[[], Coroutine[Any, Any, int]]
"""Fetches a list and returns the number of requests."""


class ListWait:
    """Wait times for the lists of one backend."""

    def __init__(self, ttl: float) -> None:
        """`ttl` is in seconds; without one, only the newest list may be returned."""
        self._cached = ttl > 0
        self._took: dict[ComponentKind, float] = {}
        self._late: set[ComponentKind] = set()
        """Kinds that a list request has waited for in vain since the last fetch."""

    def seconds(self, kind: ComponentKind) -> float:
        """Return the seconds to wait before the cached list is returned."""
        if kind in self._late:
            # One client has waited in vain, so others need not wait.
            return 0.0
        least = REFRESH_WAIT if self._cached else MIN_WAIT_UNCACHED
        return min(max(least, WAIT_FACTOR * self._took.get(kind, 0.0)), LIST_WAIT.value)

    def came(self, kind: ComponentKind, took: float) -> None:
        """Record a complete fetch that took `took` seconds."""
        self._took[kind] = took
        self._late.discard(kind)

    def failed(self, kind: ComponentKind) -> None:
        """Record an error response: the backend does not hang."""
        self._late.discard(kind)

    def missed(self, kind: ComponentKind) -> None:
        """Record that a list request has timed out."""
        if self.seconds(kind) >= LIST_WAIT.value:
            LIST_WAIT.record()
        self._late.add(kind)


class RefreshTasks:
    """Tasks that fetch one list: one at a time, and one more for later changes."""

    def __init__(self, cached: bool, pace: RequestRate) -> None:
        """Without a cache, a fetch that started before the request is not sufficient.

        `pace` limits the fetches that no client requested.
        """
        self._cached = cached
        self._pace = pace
        self._tasks: list[asyncio.Task[None]] = []
        """The running fetch, and the one that follows it."""
        self._began = float("-inf")
        self._timer: asyncio.TimerHandle | None = None
        self.changed = False
        """True if a change was announced since the last fetch started."""

    @property
    def pending(self) -> bool:
        """True while a list is being fetched."""
        return any(not task.done() for task in self._tasks)

    def join(self, fetch: Fetch) -> asyncio.Task[None]:
        """Return the task whose result is new enough for a request that arrives now."""
        self._tasks = [task for task in self._tasks if not task.done()]
        if not self._tasks:
            self._tasks.append(asyncio.create_task(self._run(fetch)))
        elif (self.changed or not self._cached) and len(self._tasks) == 1:
            self._tasks.append(asyncio.create_task(self._run_after(self._tasks[0], fetch)))
        return self._tasks[-1]

    def announced(self, fetch: Fetch) -> None:
        """Record that the list has changed, and fetch it as soon as the pace allows."""
        self.changed = True
        if self._timer is None and not self.pending:
            self._schedule(fetch)

    def _schedule(self, fetch: Fetch) -> None:
        """Fetch an announced change, unless a client's request has done so."""
        self._timer = None
        current = asyncio.current_task()
        unfinished = [task for task in self._tasks if not task.done()]
        if not self.changed or any(task is not current for task in unfinished):
            return
        loop = asyncio.get_running_loop()
        pause = max(self._began + APART - loop.time(), self._pace.pause(loop.time()))
        if pause > 0 or unfinished:
            self._timer = loop.call_later(max(pause, 0.0), self._schedule, fetch)
        else:
            self._pace.spend(1, loop.time())
            self._tasks = [asyncio.create_task(self._run(fetch, unrequested=True))]

    def cancel(self) -> None:
        """Cancel all fetches."""
        self.changed = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for task in self._tasks:
            task.cancel()
        self._tasks = []

    async def _run(self, fetch: Fetch, *, unrequested: bool = False) -> None:
        """Run one fetch; `unrequested` means that no client requested it."""
        self.changed = False
        loop = asyncio.get_running_loop()
        self._began = loop.time()
        requests = await fetch()
        if unrequested:
            self._pace.spend(requests - 1, loop.time())
        if self._timer is None:
            self._schedule(fetch)

    async def _run_after(self, task: asyncio.Task[None], fetch: Fetch) -> None:
        await asyncio.wait([task])
        await self._run(fetch)
