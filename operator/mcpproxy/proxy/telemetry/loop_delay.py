"""Delay of the event loop: the time for which requests and responses wait in a busy process.

A timer measures it once a second, so that calls cost nothing. While the process runs other
callbacks, the timer is as late as anything else that arrives.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

EVERY: Final = 1.0
"""Seconds between two measurements."""


class Cancellable(Protocol):
    """Timer of an event loop."""

    def cancel(self) -> None:
        """Do not call the callback."""


class TimerLoop(Protocol):
    """Clock and timers of an event loop."""

    def time(self) -> float:
        """Return the monotonic time in seconds."""

    def call_at(self, when: float, callback: Callable[[], object], /) -> Cancellable:
        """Call `callback` at the time `when`."""


class LoopDelay:
    """Sum of the measured delays of one event loop."""

    def __init__(self) -> None:
        self.measurements = 0
        """Number of measurements so far."""
        self.seconds = 0.0
        """Sum of the measured delays."""
        self._timer: Cancellable | None = None

    def start(self, loop: TimerLoop | None = None) -> None:
        """Measure from now on, by default the running event loop."""
        self.stop()
        self._schedule(loop or asyncio.get_running_loop())

    def _schedule(self, loop: TimerLoop) -> None:
        due = loop.time() + EVERY

        def measure() -> None:
            self.measurements += 1
            self.seconds += max(loop.time() - due, 0.0)
            self._schedule(loop)

        self._timer = loop.call_at(due, measure)

    def stop(self) -> None:
        """Stop measuring."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
