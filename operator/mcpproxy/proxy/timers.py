"""Many deadlines of one length on one timer of the loop.

They end in the order in which they begin, so one timer for the oldest is enough; beginning,
restarting and cancelling one costs an entry of a dictionary.
"""

from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    """What an event loop has."""

    def time(self) -> float:
        """Monotonic time in seconds."""

    def call_at(self, when: float, callback: Callable[[], object], /) -> object:
        """Call back at this time."""

    def call_soon(self, callback: Callable[[], object], /) -> object:
        """Call back as soon as what runs has ended."""


class Timer:
    """One deadline; `missed` once its time is over."""

    __slots__ = ("_ended", "_owner", "ends_at", "missed")

    def __init__(self, owner: "TimerQueue", ended: Callable[[], object]) -> None:
        self._owner = owner
        self._ended = ended
        self.ends_at = 0.0
        self.missed = False

    def restart(self) -> None:
        """The whole time from now on; also begins again after `cancel`."""
        if not self.missed:
            self._owner.restart(self)

    def cancel(self) -> None:
        """It is met, or not waited for at present."""
        self._owner.running.pop(self, None)

    def hand_to(self, ended: Callable[[], object]) -> None:
        """Somebody else is to be told; at once if the time is over."""
        self._ended = ended
        if self.missed:
            self._owner.soon(ended)

    def end(self) -> None:
        """Its time is over."""
        self.missed = True
        self._ended()


class TimerQueue:
    """Deadlines of one length, in seconds."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self.running: dict[Timer, None] = {}
        """In the order of their ends."""
        self._clock = clock
        self.soon = clock.call_soon
        self._seconds = seconds
        self._ticking = False

    def start(self, ended: Callable[[], object]) -> Timer:
        """A deadline that calls `ended` unless it is cancelled in time."""
        found = Timer(self, ended)
        self.running[found] = None
        found.ends_at = self._clock.time() + self._seconds
        if not self._ticking:
            self._tick_at(found.ends_at)
        return found

    def restart(self, deadline: Timer) -> None:
        """Let a deadline end after the whole time."""
        self.running.pop(deadline, None)
        self.running[deadline] = None
        deadline.ends_at = self._clock.time() + self._seconds
        if not self._ticking:
            self._tick_at(deadline.ends_at)

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
            # Also where one of them has raised: the others end all the same.
            self._ticking = bool(self.running)
            if self._ticking:
                self._clock.call_at(next(iter(self.running)).ends_at, self._tick)
