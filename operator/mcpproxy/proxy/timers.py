"""Many timers of one duration on one timer of the event loop.

Timers expire in the order in which they were started, so one timer for the oldest is enough.
Starting, restarting and cancelling a timer costs one dictionary entry.
"""

from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    """Clock of an event loop."""

    def time(self) -> float:
        """Return the monotonic time in seconds."""

    def call_at(self, when: float, callback: Callable[[], object], /) -> object:
        """Call `callback` at the time `when`."""

    def call_soon(self, callback: Callable[[], object], /) -> object:
        """Call `callback` in the next iteration of the loop."""


class Timer:
    """One timer; `missed` is true once it has expired."""

    __slots__ = ("_ended", "_owner", "ends_at", "missed")

    def __init__(self, owner: "TimerQueue", ended: Callable[[], object], ends_at: float) -> None:
        self._owner = owner
        self._ended = ended
        self.ends_at = ends_at
        self.missed = False

    def postpone(self, ends_at: float) -> None:
        """Change the time at which the timer expires; called by its queue."""
        self.ends_at = ends_at

    def restart(self) -> None:
        """Restart the timer with its full duration, unless it has expired."""
        if not self.missed:
            self._owner.restart(self)

    def cancel(self) -> None:
        """Stop the timer; `restart` starts it again."""
        self._owner.running.pop(self, None)

    def hand_to(self, ended: Callable[[], object]) -> None:
        """Replace the callback.

        If the timer has expired, the new one is called in the next iteration of the loop.
        """
        self._ended = ended
        if self.missed:
            self._owner.soon(ended)

    def end(self) -> None:
        """Mark the timer as expired and call its callback."""
        self.missed = True
        self._ended()


class TimerQueue:
    """Timers of one duration, in seconds."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self.running: dict[Timer, None] = {}
        """Running timers in the order of their expiry."""
        self._clock = clock
        self.soon = clock.call_soon
        self._seconds = seconds
        self._ticking = False

    def start(self, ended: Callable[[], object]) -> Timer:
        """Start a timer that calls `ended` unless it is cancelled in time."""
        timer = Timer(self, ended, self._clock.time() + self._seconds)
        self.running[timer] = None
        if not self._ticking:
            self._tick_at(timer.ends_at)
        return timer

    def restart(self, timer: Timer) -> None:
        """Restart a timer with its full duration."""
        self.running.pop(timer, None)
        self.running[timer] = None
        timer.postpone(self._clock.time() + self._seconds)
        if not self._ticking:
            self._tick_at(timer.ends_at)

    def _tick_at(self, when: float) -> None:
        self._ticking = True
        self._clock.call_at(when, self._tick)

    def _tick(self) -> None:
        now = self._clock.time()
        try:
            while self.running:
                oldest = next(iter(self.running))
                if oldest.ends_at > now:
                    return
                del self.running[oldest]
                oldest.end()
        finally:
            # Also if a callback raised: the other timers must still expire.
            self._ticking = bool(self.running)
            if self._ticking:
                self._clock.call_at(next(iter(self.running)).ends_at, self._tick)
