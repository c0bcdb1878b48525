"""Time limits for blocks of code that run many times a second."""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from mcpproxy.proxy.timers import Timer, TimerQueue


class TimeLimitedBlock:
    """Block with a time limit. Raises TimeoutError at the limit, as asyncio.timeout does."""

    __slots__ = ("_before", "_deadline", "_deadlines", "_task")

    def __init__(self, deadlines: TimerQueue) -> None:
        self._deadlines = deadlines

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None
        self._task: asyncio.Task[Any] = task
        self._before = task.cancelling()
        self._deadline = self._deadlines.start(task.cancel)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._deadline.cancel()
        if not self._deadline.missed or self._task.uncancel() > self._before:
            return
        if kind is not None and issubclass(kind, asyncio.CancelledError):
            raise TimeoutError from error


class TimeLimit:
    """Time limit of `seconds` for any number of blocks and timers of one event loop."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._deadlines: TimerQueue | None = None

    def __call__(self) -> TimeLimitedBlock:
        """Return a block to enter."""
        return TimeLimitedBlock(self._timers())

    def start(self, ended: Callable[[], object]) -> Timer:
        """Start a timer that calls `ended`, for work that does not run in a task."""
        return self._timers().start(ended)

    def _timers(self) -> TimerQueue:
        if self._deadlines is None:
            self._deadlines = TimerQueue(asyncio.get_running_loop(), self._seconds)
        return self._deadlines
