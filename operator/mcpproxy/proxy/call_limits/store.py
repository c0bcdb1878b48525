"""Interface of stores, which count calls for all instances and grant leases of calls to them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from mcpproxy.proxy.call_limits.window import History, Rate

FAILING_FOR: Final = 30.0
"""Seconds after the last failure for which a store counts as failing, unless it works again."""


class FailureRecord:
    """The last failure of a store."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._why: str | None = None
        self._until = float("-inf")

    def current(self) -> str | None:
        """Return the failure, or None if it is over."""
        return self._why if self._clock() < self._until else None

    def record(self, why: str) -> bool:
        """Record a failure; return True if the store answered before."""
        is_new = self.current() is None
        self._why, self._until = why, self._clock() + FAILING_FOR
        return is_new

    def clear(self) -> None:
        """Record that the store answers."""
        self._until = float("-inf")


class StoreUnavailable(Exception):
    """The store can't be reached, or did not answer in time."""


class SubjectKey(NamedTuple):
    """Key of calls that are counted together: those of one subject, by one rule."""

    rule: str
    """Name of the rule, with a digest of its content."""
    subject: str
    """A principal or a backend; empty for the whole proxy or for anonymous callers."""


class CountedCalls(NamedTuple):
    """Calls of one subject that one process has counted. Times are of the reader's clock."""

    counter: str
    """The process."""
    sequence: int
    """Number of changes so far; of two versions, the one with more changes is valid."""
    history: History


CountSnapshot = tuple[CountedCalls, ...]
"""Calls of one subject that several processes have counted; each process occurs once."""


@dataclass(frozen=True, slots=True)
class Lease:
    """Calls that an instance may admit without asking again, and when it may ask for more."""

    count: int
    """Number of calls; 0 if none is granted."""
    wait: float = 0.0
    """Seconds until more should be asked for."""
    booked: float = 0.0
    """Time of the store at which the calls were counted."""
    counter: str = ""
    """Process that counted them, if it is another one."""
    snapshot: CountSnapshot = ()
    """The calls of the subject, as far as the store reports them."""
    lasts: float | None = None
    """Seconds for which the calls may be admitted; None for the usual time of the rule."""


@dataclass(frozen=True, slots=True)
class LeaseRequest:
    """Request of an instance for calls of one subject."""

    key: SubjectKey
    rate: Rate
    wanted: int
    """Number of calls, at most those of a lease."""
    snapshot: CountSnapshot
    """The snapshot in the last lease, for a store that does not know it."""


class HoldRequest(NamedTuple):
    """Number of slots of one subject that an instance wants to hold from now on.

    A slot allows one call in flight.
    """

    key: SubjectKey
    limit: int
    """Slots of the subject for all instances together."""
    wanted: int
    running: int
    """Calls in flight, which keep their slots in any case."""


class Store(Protocol):
    """Counter of calls for all instances."""

    @property
    def sent(self) -> int:
        """Number of messages to others about calls so far."""

    def lease_at_once(self, request: LeaseRequest, now: float) -> Lease | None:
        """Return a lease, or None if only `lease` can."""

    async def lease(self, request: LeaseRequest) -> Lease:
        """Return a lease. Raise StoreUnavailable."""

    def give_back(self, key: SubjectKey, rate: Rate, lease: Lease, count: int) -> None:
        """Withdraw calls of a lease that did not take place, sooner or later."""

    def hold_at_once(self, request: HoldRequest, now: float) -> int | None:
        """Return the number of slots that this instance now holds; None if only `hold` can."""

    async def hold(self, request: HoldRequest) -> int:
        """Return the number of slots that this instance now holds. Raise StoreUnavailable."""

    def failure(self) -> str | None:
        """Return why calls can't be counted for all instances at present, or None."""

    async def close(self) -> None:
        """End what runs in the background."""
