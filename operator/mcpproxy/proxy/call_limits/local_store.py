"""Counting by each instance for itself."""

import secrets
from collections.abc import Callable

from mcpproxy.proxy.call_limits.store import (
    Lease,
    LeaseRequest,
    StoreUnavailable,
    SubjectKey,
)
from mcpproxy.proxy.call_limits.window import Rate
from mcpproxy.proxy.call_limits.window_table import WindowTable


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
