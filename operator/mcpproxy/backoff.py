"""Exponential backoff between attempts. Must not import anything of the project or read a clock."""

from collections.abc import Callable
from typing import Final

_MOST_DOUBLINGS: Final = 64
"""Keeps the power within the range of floats; every maximum is reached long before."""


def no_jitter() -> float:
    """Return 1: all delays are exact."""
    return 1.0


class Backoff:
    """Delays in seconds, which double with each consecutive failure up to a maximum.

    Times are those of any clock that the caller uses throughout.
    """

    __slots__ = ("_first", "_jitter", "_longest", "failures", "retry_at")

    def __init__(
        self, first: float, longest: float, jitter: Callable[[], float] = no_jitter
    ) -> None:
        """`first` and `longest` are delays; `jitter` returns the factor of one delay."""
        self.failures = 0
        """Consecutive failures."""
        self.retry_at = float("-inf")
        """Time at which the last delay ends."""
        self._first = first
        self._longest = longest
        self._jitter = jitter

    @property
    def delay(self) -> float:
        """Delay that the last failure caused, without jitter; 0 without failures."""
        return self._delay_after(self.failures) if self.failures else 0.0

    @property
    def next_delay(self) -> float:
        """Delay that the next failure will cause, without jitter."""
        return self._delay_after(self.failures + 1)

    def _delay_after(self, failures: int, least: float = 0.0) -> float:
        doubled = max(self._first, least) * 2.0 ** min(failures - 1, _MOST_DOUBLINGS)
        return min(doubled, self._longest)

    def record_failure(self, now: float = 0.0, *, least: float = 0.0) -> float:
        """Record a failure, and return the delay until the next attempt.

        `least` is the minimum for the first delay of the sequence.
        """
        self.failures += 1
        delay = self._delay_after(self.failures, least) * self._jitter()
        self.retry_at = now + delay
        return delay

    def is_waiting(self, now: float) -> bool:
        """Return True if it is too early for the next attempt."""
        return now < self.retry_at

    def reset(self) -> None:
        """Start again with the first delay, after a success."""
        self.failures = 0
        self.retry_at = float("-inf")
