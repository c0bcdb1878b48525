"""Limits on the rate of reports that are read from pods."""

from collections.abc import Callable
from typing import Final

from mcpproxy.cluster.errors import LimitExceeded
from mcpproxy.limits.limit import Limit
from mcpproxy.limits.pods import POD_LINES, PROXY_BYTES, PROXY_LINES

Clock = Callable[[], float]

WINDOW: Final = 10.0
"""Seconds over which the lines of one pod are counted."""
BURST: Final = 10.0
"""Burst of a proxy, in seconds of its rate."""


class LineCount:
    """Counter of the lines of one pod in the current window."""

    __slots__ = ("_began", "_clock", "_lines")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began = clock()
        self._lines = 0

    def add(self) -> None:
        """Count one line. Raise LimitExceeded if the window has too many."""
        now = self._clock()
        if now - self._began >= WINDOW:
            self._began, self._lines = now, 0
        self._lines += 1
        if self._lines > POD_LINES.value:
            POD_LINES.record()
            raise LimitExceeded(f"sends more than {POD_LINES.value} lines in {WINDOW:g} s")


class TokenBucket:
    """Token bucket that may be overdrawn by one amount at a time."""

    __slots__ = ("_clock", "_filled_at", "_free", "_limit")

    def __init__(self, limit: Limit, clock: Clock) -> None:
        """`limit` is an amount per second."""
        self._limit = limit
        self._clock = clock
        self._free = BURST * limit.value
        self._filled_at = clock()

    def take(self, amount: int) -> float:
        """Use an amount and return the seconds until the bucket is not overdrawn."""
        now, rate = self._clock(), self._limit.value
        self._free = min(self._free + (now - self._filled_at) * rate, BURST * rate) - amount
        self._filled_at = now
        if self._free >= 0:
            return 0.0
        self._limit.record()
        return -self._free / rate


class ReportRate:
    """Rate that all pods of one MCPProxy share."""

    __slots__ = ("_bytes", "_lines")

    def __init__(self, clock: Clock) -> None:
        self._lines = TokenBucket(PROXY_LINES, clock)
        self._bytes = TokenBucket(PROXY_BYTES, clock)

    def take(self, line: bytes) -> float:
        """Account for one line and return the seconds until the next one may be read."""
        return max(self._lines.take(1), self._bytes.take(len(line) + 1))
