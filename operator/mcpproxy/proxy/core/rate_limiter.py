"""Rate limit that several senders share."""

from collections.abc import Callable


class SharedRate:
    """Limit of units per second, with a burst after a pause."""

    def __init__(self, rate: int, ahead: int, clock: Callable[[], float]) -> None:
        """Create a limit of `rate` units per second, with bursts of `ahead` units.

        `clock` returns seconds.
        """
        self._rate = rate
        self._ahead = ahead / rate
        self._clock = clock
        self._taken_until = float("-inf")
        """Time at which the units taken so far would be complete at the limited rate."""

    def take(self, units: int) -> float:
        """Take units, and return the number of seconds to wait before using them."""
        now = self._clock()
        taken = max(self._taken_until, now - self._ahead) + units / self._rate
        self._taken_until = taken
        return max(taken - now, 0.0)
