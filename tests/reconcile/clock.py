"""Time that a test moves."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta


@dataclass(order=True)
class Call:
    """A call that is still to come."""

    due: float
    number: int
    callback: Callable[[], None] = field(compare=False)
    cancelled: bool = field(default=False, compare=False)

    def cancel(self) -> None:
        """Let it not happen."""
        self.cancelled = True


class FakeClock:
    """Timers of a queue, and a wall clock that starts in 2026."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self.correction = timedelta(0)
        """By how much the wall clock was set forward."""
        self._calls: list[Call] = []

    def time(self) -> float:
        """Seconds since the start."""
        return self._seconds

    def now(self) -> datetime:
        """The wall clock."""
        return self.steady() + self.correction

    def steady(self) -> datetime:
        """Time that no correction of the wall clock changes."""
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self._seconds)

    def call_later(self, delay: float, callback: Callable[[], None], /) -> Call:
        """Call back after `delay` seconds."""
        call = Call(self._seconds + delay, len(self._calls), callback)
        heapq.heappush(self._calls, call)
        return call

    def advance(self, seconds: float) -> None:
        """Let time pass, and everything happen that is due by then."""
        end = self._seconds + seconds
        while self._calls and self._calls[0].due <= end:
            call = heapq.heappop(self._calls)
            self._seconds = call.due
            if not call.cancelled:
                call.callback()
        self._seconds = end
