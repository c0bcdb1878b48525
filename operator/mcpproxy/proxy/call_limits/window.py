"""Count of the calls of one rule and subject within a sliding period. Pure: times are arguments.

Without a burst, at most `calls` are admitted within any period. With a burst, calls are admitted
evenly, one per `period / calls`, and up to `burst` of them later and at once.
"""

from collections import deque
from collections.abc import Iterable
from typing import Final, NamedTuple

GRAINS: Final = 128
"""Entries per period; calls of one grain are counted until the last of them leaves the period."""
MAX_HISTORY: Final = 32
"""Entries of a history, which instances send to each other."""

History = tuple[tuple[float, int], ...]
"""Admitted calls as times, in ascending order, and numbers."""


class Rate(NamedTuple):
    """Number of calls that are admitted within a period."""

    calls: int
    period: float
    """Seconds."""
    burst: int
    """Number of calls that are admitted at once, if others are admitted evenly over the period; 0
    if any number may come at once, and no period has more than `calls`."""


LEASES: Final = 15
"""Leases into which the calls of a period are divided, at least."""
OUTSTANDING: Final = 0.4
"""Part of the calls of a period that all instances together may have in advance."""


def lease_size(rate: Rate, instances: int = 1) -> int:
    """Return the largest number of calls that each of these instances may have in advance."""
    share = int(rate.calls * OUTSTANDING) // instances
    return max(min(rate.calls // LEASES, share, rate.burst or rate.calls), 1)


class _Entry:
    """Calls that were admitted within one grain."""

    __slots__ = ("count", "first", "last")

    def __init__(self, at: float, count: int) -> None:
        self.first = self.last = at
        self.count = count


class CallWindow:
    """Admitted calls of the last period."""

    __slots__ = ("_entries", "_interval", "_paced", "grain", "rate", "total")

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        self._interval = rate.period / rate.calls
        self.grain = rate.period / GRAINS
        """Seconds within which calls are counted together."""
        self._entries: deque[_Entry] = deque()
        self._paced = float("-inf")
        """Time at which the admitted calls would be complete if they came one by one."""
        self.total = 0
        """Number of calls in the entries."""

    def wait(self, count: int, now: float) -> float:
        """Return the seconds after which `count` more calls have been admitted, if they come as
        early as possible; 0 if all of them are admitted now."""
        self._forget(now)
        rate = self.rate
        if rate.burst:
            return max(self._paced - now - (rate.burst - count) * self._interval, 0.0)
        excess = self.total + count - rate.calls
        if excess <= 0:
            return 0.0
        for entry in self._entries:
            excess -= entry.count
            if excess <= 0:
                return entry.last + rate.period - now
        # More than the calls of a whole period.
        return rate.period * (1 + excess / rate.calls)

    def available(self, count: int, now: float) -> int:
        """Return how many of `count` calls are admitted now."""
        self._forget(now)
        rate = self.rate
        if not rate.burst:
            return max(min(count, rate.calls - self.total), 0)
        # The tolerance is for rounding: a wait that has passed must suffice.
        full = rate.burst - max(self._paced - now, 0.0) / self._interval + 1e-6
        return max(min(count, int(full)), 0)

    def book(self, count: int, now: float, until: float = 0.0) -> None:
        """Count calls that were admitted now, or will be until a time, as if all came then."""
        self._paced = max(self._paced, now) + count * self._interval
        self.total += count
        newest = self._entries[-1] if self._entries else None
        if newest is not None and now - newest.first < self.grain:
            newest.count += count
        else:
            newest = _Entry(now, count)
            self._entries.append(newest)
        newest.last = max(now, until, newest.last)

    def give_back(self, count: int, at: float) -> int:
        """Withdraw calls that were counted at a time and did not take place; return how many."""
        for entry in reversed(self._entries):
            if entry.first <= at <= entry.last:
                count = min(count, entry.count)
                entry.count -= count
                self.total -= count
                self._paced -= count * self._interval
                return count
        return 0

    def history(self, now: float) -> History:
        """Return the calls of the period, with adjacent entries joined as necessary."""
        self._forget(now)
        joined: list[tuple[float, int]] = []
        each = -(-len(self._entries) // MAX_HISTORY)
        for number, entry in enumerate(self._entries):
            if number % max(each, 1):
                count = joined[-1][1] + entry.count
                joined[-1] = entry.last, count
            else:
                joined.append((entry.last, entry.count))
        return tuple((at, count) for at, count in joined if count)

    def adopt(self, history: Iterable[tuple[float, int]], now: float) -> None:
        """Count calls that another instance has admitted."""
        own = [(entry.first, entry.last, entry.count) for entry in self._entries]
        own += [(at, at, count) for at, count in history if now - at < self.rate.period]
        self._entries.clear()
        self._paced, self.total = float("-inf"), 0
        for first, last, count in sorted(own):
            self.book(count, first)
            self._entries[-1].last = max(self._entries[-1].last, last)
        self._forget(now)

    def _forget(self, now: float) -> None:
        entries, oldest = self._entries, now - self.rate.period
        while entries and entries[0].last <= oldest:
            self.total -= entries.popleft().count
