"""Retry schedule of streams that ended."""

from typing import Final

from mcpproxy.backoff import Backoff
from mcpproxy.cluster.pods.rate_limits import Clock

FIRST: Final = 0.25
LAST: Final = 5.0
"""Seconds between attempts for an unreachable pod; they double from the first on."""
FRESH: Final = 30.0
"""Seconds in which a pod with a report gets the first pause again only once."""
FIRST_AFTER_EXCESS: Final = 1.0
LAST_AFTER_EXCESS: Final = 300.0
"""Seconds between attempts for a pod that exceeded a limit."""
FORGIVEN: Final = 600.0
"""Seconds without excess after which the first pause applies again."""


class RetrySchedule:
    """Pauses between the attempts for one pod."""

    __slots__ = ("_clock", "_ends", "_excess_at", "_excesses", "_fresh_at")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ends = Backoff(FIRST, LAST)
        self._fresh_at = float("-inf")
        self._excesses = Backoff(FIRST_AFTER_EXCESS, LAST_AFTER_EXCESS)
        self._excess_at = float("-inf")

    def after_end(self, *, has_reported: bool) -> float:
        """Return the pause in seconds after a stream ended, was rejected or fell silent."""
        now = self._clock()
        if has_reported and now - self._fresh_at >= FRESH:
            self._fresh_at = now
            self._ends.reset()
        return self._ends.record_failure()

    def after_excess(self) -> float:
        """Return the pause in seconds after a stream exceeded a limit."""
        now = self._clock()
        if now - self._excess_at >= FORGIVEN + self._excesses.next_delay:
            self._excesses.reset()
        self._excess_at = now
        return self._excesses.record_failure()
