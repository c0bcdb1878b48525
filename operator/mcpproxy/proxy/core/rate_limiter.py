"""A rate that several senders share, each of which waits for its turn."""

from collections.abc import Callable


class SharedRate:
    """So many units a second, and a number of them ahead after a pause."""

    def __init__(self, rate: int, ahead: int, clock: Callable[[], float]) -> None:
        """`clock` gives seconds."""
        self._rate = rate
        self._ahead = ahead / rate
        self._clock = clock
        self._taken_until = float("-inf")
        """When what was taken would have come at the rate."""

    def take(self, units: int) -> float:
        """Take units; how many seconds to wait behind them."""
        now = self._clock()
        taken = max(self._taken_until, now - self._ahead) + units / self._rate
        self._taken_until = taken
        return max(taken - now, 0.0)
