"""Waiting for the lists of a backend: together, and as long as that usually helps."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

from mcpproxy.limits.backends import LIST_WAIT
from mcpproxy.proxy.protocol.kinds import ComponentKind
from mcpproxy.proxy.upstream.request_pace import RequestRate

PATIENCE: Final = 2.0
"""Seconds that a list waits at least; what comes later is announced."""
UNCACHED: Final = 5.0
"""The same where nothing else may be shown than the newest."""
USUAL: Final = 2.0
"""A list waits this many times as long as the last one took."""
APART: Final = 1.0
"""Seconds between the beginnings of two fetches of one list that no client asked for."""

Fetch = Callable[[], Coroutine[Any, Any, int]]
"""Fetches a list; returns how many requests that took."""


class ListWait:
    """The times that the lists of one backend may take."""

    def __init__(self, ttl: float) -> None:
        """Without a `ttl` nothing else may be shown than the newest."""
        self._cached = ttl > 0
        self._took: dict[ComponentKind, float] = {}
        self._late: set[ComponentKind] = set()
        """Kinds that a list has waited for in vain since the last one came."""

    def seconds(self, kind: ComponentKind) -> float:
        """The time that a list waits now, before what is known is shown."""
        if kind in self._late:
            # One client has waited for what does not come: others need not.
            return 0.0
        least = PATIENCE if self._cached else UNCACHED
        return min(max(least, USUAL * self._took.get(kind, 0.0)), LIST_WAIT.value)

    def came(self, kind: ComponentKind, took: float) -> None:
        """Note that a list has come."""
        self._took[kind] = took
        self._late.discard(kind)

    def failed(self, kind: ComponentKind) -> None:
        """Note that there was an answer, though no list: the backend does not hang."""
        self._late.discard(kind)

    def missed(self, kind: ComponentKind) -> None:
        """Note that a list has not come in time."""
        if self.seconds(kind) >= LIST_WAIT.value:
            LIST_WAIT.record()
        self._late.add(kind)


class RefreshTasks:
    """Tasks that fetch one list: one at a time, and one more for what changes meanwhile."""

    def __init__(self, cached: bool, pace: RequestRate) -> None:
        """Without a cache nobody gets what was fetched in part before the list was asked for.

        `pace` is that of fetches which no client asks for.
        """
        self._cached = cached
        self._pace = pace
        self._tasks: list[asyncio.Task[None]] = []
        """The one that fetches, and the one that will after it."""
        self._began = float("-inf")
        self._timer: asyncio.TimerHandle | None = None
        self.changed = False
        """Whether a change was announced since the last fetch began."""

    @property
    def pending(self) -> bool:
        """True while a list is being fetched."""
        return any(not task.done() for task in self._tasks)

    def join(self, fetch: Fetch) -> asyncio.Task[None]:
        """The task that brings what may be shown to someone who asks now."""
        self._tasks = [task for task in self._tasks if not task.done()]
        if not self._tasks:
            self._tasks.append(asyncio.create_task(self._fly(fetch)))
        elif (self.changed or not self._cached) and len(self._tasks) == 1:
            self._tasks.append(asyncio.create_task(self._after(self._tasks[0], fetch)))
        return self._tasks[-1]

    def announced(self, fetch: Fetch) -> None:
        """The list has changed: fetch it once more, now or as soon as the pace allows."""
        self.changed = True
        if self._timer is None and not self.pending:
            self._follow(fetch)

    def _follow(self, fetch: Fetch) -> None:
        """Fetch what was announced, unless a client has that done before."""
        self._timer = None
        current = asyncio.current_task()
        unfinished = [task for task in self._tasks if not task.done()]
        if not self.changed or any(task is not current for task in unfinished):
            return
        loop = asyncio.get_running_loop()
        pause = max(self._began + APART - loop.time(), self._pace.pause(loop.time()))
        if pause > 0 or unfinished:
            self._timer = loop.call_later(max(pause, 0.0), self._follow, fetch)
        else:
            self._pace.spend(1, loop.time())
            self._tasks = [asyncio.create_task(self._fly(fetch, own=True))]

    def cancel(self) -> None:
        """Give up what is being fetched."""
        self.changed = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for task in self._tasks:
            task.cancel()
        self._tasks = []

    async def _fly(self, fetch: Fetch, *, own: bool = False) -> None:
        """Fetch; `own` says that no client asks for it."""
        self.changed = False
        loop = asyncio.get_running_loop()
        self._began = loop.time()
        requests = await fetch()
        if own:
            self._pace.spend(requests - 1, loop.time())
        if self._timer is None:
            self._follow(fetch)

    async def _after(self, task: asyncio.Task[None], fetch: Fetch) -> None:
        await asyncio.wait([task])
        await self._fly(fetch)
