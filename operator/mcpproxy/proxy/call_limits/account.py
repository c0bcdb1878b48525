"""Calls of one subject in this instance: from a lease of the store, or alone while it fails."""

import asyncio
import math
from collections.abc import Callable
from typing import Final

from mcpproxy.proxy.call_limits.rules import RETRY_SOON, CompiledRule
from mcpproxy.proxy.call_limits.store import (
    CountSnapshot,
    Lease,
    LeaseRequest,
    Store,
    StoreUnavailable,
    SubjectKey,
)
from mcpproxy.proxy.call_limits.window import CallWindow, Rate

TRIES: Final = 4
"""Leases for which one call waits, because other calls use them up."""
EARLY: Final = 4
"""The next lease is fetched when 1/EARLY of the current one is left."""
LASTS: Final = 0.75
"""Part of the time of a lease for which its calls should last."""
GROWTH: Final = 4
"""Factor by which the next lease may be larger than the last one."""
FAILED_FOR: Final = 1.0
"""Seconds after a failure of the store for which it is not asked again."""


class SubjectAccount:
    """Calls that one subject may make without asking the store."""

    __slots__ = (
        "_accepted_at",
        "_allows_on_failure",
        "_alone",
        "_ask_after",
        "_clock",
        "_failed_until",
        "_fetching",
        "_had",
        "_lasts",
        "_lease",
        "_rate",
        "_rule",
        "_size",
        "_snapshot",
        "_store",
        "_waiting",
        "ends",
        "key",
        "left",
        "mark",
        "used",
    )

    def __init__(
        self,
        rule: CompiledRule,
        rate: Rate,
        key: SubjectKey,
        store: Store,
        clock: Callable[[], float],
        *,
        allows_on_failure: bool,
    ) -> None:
        """`allows_on_failure` means that calls are counted alone while the store fails."""
        self.key = key
        self._rule, self._rate, self._store = rule, rate, store
        self._clock = clock
        self._allows_on_failure = allows_on_failure
        self._alone: CallWindow | None = None
        self.ends = float("-inf")
        """Time at which the lease ends."""
        self.used = False
        """True if the subject has called again since it was last considered for removal."""
        self._failed_until = self._ask_after = self._accepted_at = float("-inf")
        self._fetching: asyncio.Task[None] | None = None
        self._lease: Lease | None = None
        self.left = self._had = 0
        """Calls that may be made now, and that might be made when the lease was accepted."""
        self._lasts = rule.lease_time
        """Seconds for which the lease is used."""
        self.mark = -1
        """Calls left at which the next lease is fetched, if it may be asked for."""
        self._size = 1
        """Number of calls to ask for next."""
        self._snapshot: CountSnapshot = ()
        self._waiting = 0

    def take(self, now: float) -> float | None:
        """Admit a call and return 0, or return the seconds until one may be admitted.

        Return None if that is not known without waiting.
        """
        if self.left and now < self.ends:
            self.left -= 1
            if self.left == self.mark:
                self._reach_mark(now)
            return 0.0
        if now < self._failed_until:
            return self._take_alone(now)
        self.collect(now)
        if now < self._ask_after:
            return self._ask_after - now
        lease = self._store.lease_at_once(self._request(now), now)
        if lease is None:
            return None
        self._accept(lease, now)
        return self.take(now) if self.left else max(lease.wait, 0.001)

    async def acquire(self) -> float:
        """Admit a call as `take` does, but wait for the store."""
        self._waiting += 1
        try:
            for _ in range(TRIES):
                wait = self.take(self._clock())
                if wait is not None:
                    return wait
                await asyncio.shield(self._fetch())
        finally:
            self._waiting -= 1
        return RETRY_SOON

    def put_back(self) -> None:
        """Withdraw a call that was just admitted and does not take place."""
        self.left += 1

    def collect(self, now: float) -> bool:
        """Give back the calls of a lease that has ended; return True if none is in use."""
        if now >= self.ends and self._lease is not None:
            lease, left = self._lease, self.left
            if left:
                self._size = max(lease.count - left, 1)
                self._store.give_back(self.key, self._rate, lease, left)
            self._lease, self.left = None, 0
        return self._lease is None

    def _reach_mark(self, now: float) -> None:
        """Prepare for the end of the lease."""
        lease = self._lease
        if lease is not None and lease.wait:
            # Calls are refused from now on, so that the next request says nothing about the pace.
            self._learn(now)
        elif lease is not None and lease.counter:
            self._fetch()

    def _request(self, now: float) -> LeaseRequest:
        lease = self._lease
        if lease is not None and not lease.wait and self.left <= self.mark:
            self._learn(now)
        wanted = min(max(self._size, self._waiting), self._rule.lease)
        return LeaseRequest(self.key, self._rate, wanted, self._snapshot)

    def _learn(self, now: float) -> None:
        """Choose the size of the next lease by the pace at which this one was used."""
        pace = (self._had - self.left) / max(now - self._accepted_at, 1e-3)
        most = min(self._size * GROWTH, self._rule.lease)
        self._size = min(max(math.ceil(pace * self._lasts * LASTS), 1), most)

    def _accept(self, lease: Lease, now: float) -> None:
        if lease.count:
            self._lasts = self._rule.lease_time if lease.lasts is None else lease.lasts
            self._lease, self.ends = lease, now + self._lasts
            self._accepted_at, self._had = now, self.left + lease.count
            self.left += lease.count
            is_remote = lease.counter and not lease.wait
            self.mark = lease.count // EARLY if is_remote else 0
        if lease.wait:
            self._ask_after = now + lease.wait
        if lease.snapshot:
            self._snapshot = lease.snapshot
        if self._alone is not None and not self._alone.history(now):
            self._alone = None

    def _fetch(self) -> "asyncio.Task[None]":
        """Return the task that fetches a lease; all calls that wait share it."""
        if self._fetching is None:
            self._fetching = asyncio.get_running_loop().create_task(self._fetch_lease())
        return self._fetching

    async def _fetch_lease(self) -> None:
        try:
            lease = await self._store.lease(self._request(self._clock()))
        except StoreUnavailable:
            self._failed_until = self._clock() + FAILED_FOR
        else:
            self._accept(lease, self._clock())
        finally:
            self._fetching = None

    def _take_alone(self, now: float) -> float:
        if not self._allows_on_failure:
            return self._failed_until - now
        if self._alone is None:
            self._alone = CallWindow(self._rate)
            for counted in self._snapshot:
                self._alone.adopt(counted.history, now)
        if self._alone.available(1, now):
            self._alone.book(1, now)
            return 0.0
        return max(self._alone.wait(1, now), 0.001)
