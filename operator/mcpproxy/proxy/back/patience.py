"""Waiting for the lists of a backend: together, and as long as that usually helps."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

from mcpproxy.limits.backends import LIST_WAIT
from mcpproxy.proxy.core.kinds import Kind

PATIENCE: Final = 0.3
"""Seconds that a list waits at least; what comes later is announced."""
USUAL: Final = 3.0
"""A list waits this many times as long as the last one took."""


class Patience:
    """The times that the lists of one backend may take."""

    def __init__(self, ttl: float) -> None:
        """Without a `ttl` nothing else may be shown than the newest: lists wait their full time."""
        self._cached = ttl > 0
        self._took: dict[Kind, float] = {}
        self._late: set[Kind] = set()
        """Kinds that a list has waited for in vain since the last one came."""

    def seconds(self, kind: Kind) -> float:
        """The time that a list waits now, before what is known is shown."""
        if not self._cached:
            return LIST_WAIT.value
        if kind in self._late:
            # One client has waited for what does not come: others need not.
            return PATIENCE
        return min(max(PATIENCE, USUAL * self._took.get(kind, 0.0)), LIST_WAIT.value)

    def came(self, kind: Kind, took: float) -> None:
        """Note that a list has come."""
        self._took[kind] = took
        self._late.discard(kind)

    def missed(self, kind: Kind) -> None:
        """Note that a list has not come in time."""
        if self.seconds(kind) >= LIST_WAIT.value:
            LIST_WAIT.record()
        self._late.add(kind)


class Flights:
    """Tasks that fetch one list: all who ask for it at the same time share one."""

    def __init__(self, cached: bool) -> None:
        """Without a cache nobody gets what was fetched in part before the list was asked for."""
        self._cached = cached
        self._tasks: list[asyncio.Task[None]] = []
        """The one that fetches, and the one that will after it."""

    @property
    def pending(self) -> bool:
        """True while a list is being fetched."""
        return any(not task.done() for task in self._tasks)

    def join(self, fetch: Callable[[], Coroutine[Any, Any, None]]) -> asyncio.Task[None]:
        """The task that brings what may be shown to someone who asks now."""
        self._tasks = [task for task in self._tasks if not task.done()]
        if not self._tasks:
            self._tasks.append(asyncio.create_task(fetch()))
        elif not self._cached and len(self._tasks) == 1:
            self._tasks.append(asyncio.create_task(_after(self._tasks[0], fetch)))
        return self._tasks[-1]

    def restart(self, fetch: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Give up what may be outdated already, and fetch again."""
        self.cancel()
        self._tasks = [asyncio.create_task(fetch())]

    def cancel(self) -> None:
        """Give up what is being fetched."""
        for task in self._tasks:
            task.cancel()
        self._tasks = []


async def _after(task: asyncio.Task[None], fetch: Callable[[], Coroutine[Any, Any, None]]) -> None:
    await asyncio.wait([task])
    await fetch()
