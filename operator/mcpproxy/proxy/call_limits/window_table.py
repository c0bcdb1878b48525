"""Windows of all subjects that one process counts, for itself and for other instances."""

import secrets
from collections.abc import Callable
from typing import Final

from mcpproxy.limits.clients import COUNTED_SUBJECTS
from mcpproxy.limits.instances import KNOWN
from mcpproxy.proxy.call_limits.store import (
    CountSnapshot,
    Lease,
    LeaseRequest,
    StoreUnavailable,
    SubjectKey,
)
from mcpproxy.proxy.call_limits.window import CallWindow, Rate
from mcpproxy.proxy.fair_shares import FairShares

LATE: Final = 1.0
"""Seconds after its time for which the turn of an instance is kept."""
SAME: Final = 0.05
"""Seconds by which the times of one call may differ between instances."""


class _Subject:
    """Window of one subject, and the instances that wait for more calls."""

    __slots__ = ("known_until", "turns", "window")

    def __init__(self, rate: Rate) -> None:
        self.window = CallWindow(rate)
        self.known_until = float("-inf")
        """Time until which all calls are known, of this process or of others."""
        self.turns: dict[str, tuple[float, int]] = {}
        """Time at which it is each instance's turn, and the number of calls that it wants."""


class WindowTable:
    """Windows by subject."""

    def __init__(self, counter: str) -> None:
        """`counter` identifies this process."""
        self.counter = counter
        self._subjects: dict[SubjectKey, _Subject] = {}
        self._shares: FairShares[SubjectKey] = FairShares(COUNTED_SUBJECTS.value)

    def lease(self, request: LeaseRequest, wanted: int, asker: str, now: float) -> Lease:
        """Count calls for an instance and return them as a lease.

        If fewer calls are available than it wants, or others wait for calls, the lease says when
        it is its turn again.
        """
        subject = self._subject(request.key, request.rate)
        self._adopt(subject, request.snapshot, now)
        window = subject.window
        subject.turns.pop(asker, None)
        count = window.available(wanted, now)
        if count:
            window.book(count, now)
            subject.known_until = now
        wait = 0.0
        if count < wanted or subject.turns:
            wait = _next_turn(subject, wanted, asker, now)
        return Lease(count, wait, now)

    def snapshot(self, key: SubjectKey, now: float) -> CountSnapshot:
        """Return the calls of a subject within its period."""
        subject = self._subjects.get(key)
        history = () if subject is None else subject.window.history(now)
        return CountSnapshot(self.counter, now, history)

    def adopt(self, key: SubjectKey, rate: Rate, snapshot: CountSnapshot, now: float) -> None:
        """Count calls that another instance has counted."""
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
            subject.window.give_back(count, at)

    def _adopt(self, subject: _Subject, snapshot: CountSnapshot, now: float) -> None:
        if snapshot.counter in ("", self.counter) or snapshot.taken_at <= subject.known_until:
            return
        # Earlier calls are known: this process has counted them, or a snapshot contained them.
        floor = subject.known_until + SAME
        subject.window.adopt((call for call in snapshot.history if call[0] > floor), now)
        subject.known_until = snapshot.taken_at

    def _subject(self, key: SubjectKey, rate: Rate) -> _Subject:
        subject = self._subjects.get(key)
        if subject is not None:
            self._shares.touch(key)
            return subject
        if self._shares.is_full:
            COUNTED_SUBJECTS.record()
            oldest = self._shares.choose()
            if oldest is not None:
                self._shares.discard(oldest)
                del self._subjects[oldest]
        self._shares.add(key, (key.rule,))
        subject = self._subjects[key] = _Subject(rate)
        return subject


class LocalStore:
    """Store of one instance, which grants each call by itself."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._table = WindowTable(secrets.token_urlsafe(9))

    def lease_at_once(self, request: LeaseRequest, now: float) -> Lease:
        return self._table.lease(request, 1, "", now)

    async def lease(self, request: LeaseRequest) -> Lease:
        raise StoreUnavailable("every lease is granted at once")

    def give_back(self, key: SubjectKey, rate: Rate, lease: Lease, count: int) -> None:
        self._table.give_back(key, count, lease.booked)

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
