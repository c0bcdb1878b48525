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


class Expiring(Protocol):
    """Object with a timer."""

    def expire(self) -> None:
        """Do what is due when the time is over."""


class Timer:
    """One timer; `missed` is true once it has expired."""

    __slots__ = ("_ended", "_owner", "missed")

    def __init__(self, owner: "TimerQueue", ended: Callable[[], object]) -> None:
        self._owner = owner
        self._ended = ended
        self.missed = False

    def restart(self) -> None:
        """Restart the timer with its full duration, unless it has expired."""
        if not self.missed:
            self._owner.restart(self)

    def cancel(self) -> None:
        """Stop the timer; `restart` starts it again."""
        self._owner.running.pop(self, None)

    def expire(self) -> None:
        """Mark the timer as expired and call its callback."""
        self.missed = True
        self._ended()


class TimerQueue:
    """Timers of one duration, in seconds."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self.running: dict[Expiring, float] = {}
        """Running timers in the order of their expiry, with its time.

        Code that runs for each request adds its entry without a call, and then calls `tick_at`
        unless the queue is `ticking`.
        """
        self._clock = clock
        self.seconds = seconds
        self.ticking = False
        """True if the event loop will call the queue when the oldest timer expires."""

    def start(self, ended: Callable[[], object]) -> Timer:
        """Start a timer that calls `ended` unless it is cancelled in time."""
        timer = Timer(self, ended)
        self.restart(timer)
        return timer

    def restart(self, timer: Timer) -> None:
        """Restart a timer with its full duration."""
        self.running.pop(timer, None)
        self.running[timer] = ends_at = self._clock.time() + self.seconds
        if not self.ticking:
            self.tick_at(ends_at)

    def tick_at(self, when: float) -> None:
        """Let timers expire from the time `when` on, at which the oldest one expires."""
        self.ticking = True
        self._clock.call_at(when, self._tick)

    def _tick(self) -> None:
        now = self._clock.time()
        try:
            while self.running:
                oldest, ends_at = next(iter(self.running.items()))
                if ends_at > now:
                    return
                del self.running[oldest]
                oldest.expire()
        finally:
            # Also if a callback raised: the other timers must still expire.
            self.ticking = bool(self.running)
            if self.ticking:
                self._clock.call_at(next(iter(self.running.values())), self._tick)
