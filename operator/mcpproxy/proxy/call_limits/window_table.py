"""Windows of all subjects that one process counts, for itself and for other instances."""

from collections.abc import Callable
from typing import Any, Final

from mcpproxy.limits.clients import COUNTED_SUBJECTS
from mcpproxy.limits.instances import KNOWN
from mcpproxy.proxy.call_limits.store import (
    CountedCalls,
    CountSnapshot,
    HoldRequest,
    Lease,
    LeaseRequest,
    StoreUnavailable,
    SubjectKey,
)
from mcpproxy.proxy.call_limits.window import GRAINS, CallWindow, Rate, lease_size
from mcpproxy.proxy.fair_shares import FairShares

LATE: Final = 1.0
"""Seconds after its time for which the turn of an instance is kept."""
MAX_COUNTERS: Final = 8
"""Processes whose calls of one subject are known; more have counted it only after many ends."""


class _Subject:
    """Calls of one subject, and the instances that wait for more."""

    __slots__ = ("_askers", "_own", "_sequence", "others", "turns", "window")

    def __init__(self, rate: Rate) -> None:
        self.window = CallWindow(rate)
        """All calls that are known."""
        self._own = CallWindow(rate)
        """Calls that this process has counted."""
        self._sequence = 0
        self.others: dict[str, CountedCalls] = {}
        """Calls that other processes have counted."""
        self.turns: dict[str, tuple[float, int]] = {}
        """Time at which it is each instance's turn, and the number of calls that it wants."""
        self._askers: dict[str, float] = {}
        """Instances that use the subject, and when each asked last; the latest is at the end."""

    def ask(self, asker: str, now: float) -> int:
        """Record that an instance wants calls; return the most that it may have in advance."""
        askers, rate = self._askers, self.window.rate
        askers.pop(asker, None)
        while askers and (
            len(askers) >= KNOWN.value or next(iter(askers.values())) <= now - rate.period
        ):
            del askers[next(iter(askers))]
        askers[asker] = now
        return lease_size(rate, len(askers))

    def book(self, count: int, now: float, until: float = 0.0) -> None:
        """Count calls that are admitted now, or until a time."""
        self.window.book(count, now, until)
        self._own.available(0, now)
        self._own.book(count, now, until)
        self._sequence += 1

    def give_back(self, count: int, at: float) -> None:
        """Withdraw calls that this process has counted."""
        count = self._own.give_back(count, at)
        self.window.give_back(count, at)
        self._sequence += 1

    def adopt(self, counted: CountedCalls, now: float) -> None:
        """Count the calls of another process, instead of an earlier version of them."""
        known = self.others.get(counted.counter)
        if known is not None and known.sequence >= counted.sequence:
            return
        if known is None and len(self.others) >= MAX_COUNTERS:
            del self.others[next(iter(self.others))]
        self.others[counted.counter] = counted
        everything = [*self._own.history(now)]
        for other in self.others.values():
            everything += other.history
        self.window = CallWindow(self.window.rate)
        self.window.adopt(everything, now)

    def snapshot(self, counter: str, now: float) -> CountSnapshot:
        """Return all calls within the period, by the process that counted them."""
        oldest = now - self.window.rate.period
        parts = [CountedCalls(counter, self._sequence, self._own.history(now))]
        for other in self.others.values():
            recent = tuple(call for call in other.history if call[0] > oldest)
            parts.append(other._replace(history=recent))
        return tuple(part for part in parts if part.history)


class WindowTable:
    """Windows by subject."""

    def __init__(self, counter: str) -> None:
        """`counter` identifies this process."""
        self.counter = counter
        self._subjects: dict[SubjectKey, _Subject] = {}
        self._shares: FairShares[SubjectKey] = FairShares(COUNTED_SUBJECTS.value)

    def lease(
        self,
        request: LeaseRequest,
        wanted: int,
        asker: str,
        now: float,
        lasts: float | None = None,
    ) -> Lease:
        """Count calls for an instance and return them as a lease, which lasts for these seconds.

        If fewer calls are available than it wants, or others wait for calls, the lease says when it
        is its turn again.
        """
        subject = self._subject(request.key, request.rate)
        if request.snapshot:
            self._adopt(subject, request.snapshot, now)
        subject.turns.pop(asker, None)
        wanted = min(wanted, subject.ask(asker, now))
        count = subject.window.available(wanted, now)
        if count:
            subject.book(count, now)
        wait = 0.0
        if count < wanted or subject.turns:
            wait = _next_turn(subject, wanted, asker, now)
        return Lease(count, wait, now, lasts=lasts)

    def lease_alone(self, request: LeaseRequest, now: float) -> Lease:
        """Count calls for the only instance and return them as a lease.

        While more than half of the calls are left, it is granted those that it uses within one
        grain. They are counted until the end of the grain, so that no period has too many.
        """
        rate = request.rate
        if request.wanted > 1 and not rate.burst:
            subject = self._subject(request.key, rate)
            window = subject.window
            if window.available(rate.calls, now) - request.wanted >= rate.calls // 2:
                if request.snapshot:
                    self._adopt(subject, request.snapshot, now)
                subject.ask("", now)
                subject.book(request.wanted, now, now + window.grain)
                return Lease(request.wanted, 0.0, now, lasts=window.grain)
        return self.lease(request, 1, "", now, None if rate.burst else rate.period / GRAINS)

    def rate(self, key: SubjectKey) -> Rate | None:
        """Return the rate of a subject; None for an unknown one."""
        subject = self._subjects.get(key)
        return None if subject is None else subject.window.rate

    def snapshot(self, key: SubjectKey, now: float) -> CountSnapshot:
        """Return the calls of a subject within its period."""
        subject = self._subjects.get(key)
        return () if subject is None else subject.snapshot(self.counter, now)

    def adopt(self, key: SubjectKey, rate: Rate, snapshot: CountSnapshot, now: float) -> None:
        """Count calls that other processes have counted."""
        self._adopt(self._subject(key, rate), snapshot, now)

    def counted(self, now: float) -> list[tuple[SubjectKey, Rate]]:
        """Return the subjects with calls within their period."""
        return [
            (key, subject.window.rate)
            for key, subject in self._subjects.items()
            if subject.window.history(now)
        ]

    def give_back(self, key: SubjectKey, count: int, at: float) -> None:
        """Withdraw calls that were counted at a time and did not take place."""
        subject = self._subjects.get(key)
        if subject is not None:
            subject.give_back(count, at)

    def _adopt(self, subject: _Subject, snapshot: CountSnapshot, now: float) -> None:
        for counted in snapshot:
            if counted.counter != self.counter:
                subject.adopt(counted, now)

    def _subject(self, key: SubjectKey, rate: Rate) -> _Subject:
        subject = self._subjects.get(key)
        if subject is not None:
            self._shares.touch(key)
            return subject
        make_room(self._subjects, self._shares)
        self._shares.add(key, (key.rule,))
        subject = self._subjects[key] = _Subject(rate)
        return subject


def make_room(subjects: dict[SubjectKey, Any], shares: FairShares[SubjectKey]) -> None:
    """Remove a subject that was not used for long if there is no room for another one."""
    if shares.is_full:
        COUNTED_SUBJECTS.record()
        oldest = shares.choose()
        if oldest is not None:
            shares.discard(oldest)
            del subjects[oldest]


class LocalStore:
    """Store of one instance, which grants each call by itself."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.sent = 0
        self._table = WindowTable("")

    def lease_at_once(self, request: LeaseRequest, now: float) -> Lease:
        return self._table.lease_alone(request, now)

    async def lease(self, request: LeaseRequest) -> Lease:
        raise StoreUnavailable("every lease is granted at once")

    def give_back(self, key: SubjectKey, rate: Rate, lease: Lease, count: int) -> None:
        self._table.give_back(key, count, lease.booked)

    def hold_at_once(self, request: HoldRequest, now: float) -> int:
        return min(request.wanted, request.limit)

    async def hold(self, request: HoldRequest) -> int:
        raise StoreUnavailable("every slot is granted at once")

    def failure(self) -> str | None:
        return None

    async def close(self) -> None:
        pass


def _next_turn(subject: _Subject, wanted: int, asker: str, now: float) -> float:
    """Return the seconds until as many calls are available as all waiting instances want."""
    turns = subject.turns
    for late in [name for name, (due, _) in turns.items() if due < now - LATE]:
        del turns[late]
    wait = subject.window.wait(wanted + sum(count for _, count in turns.values()), now)
    if len(turns) < KNOWN.value:
        turns[asker] = now + wait, wanted
    return wait
