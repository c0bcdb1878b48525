"""Success and failure of the writes of statuses, for probes and metrics."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any, Final, TypeVar

from mcpproxy.cluster.errors import ClusterError, Invalid
from mcpproxy.cluster.resources import ProxyKey
from mcpproxy.status import reasons
from mcpproxy.status.inputs import ConditionReason

PATIENCE: Final = 30.0
"""Seconds without a written status after which the operator is not ready."""
SLOW: Final = 3.0
"""Seconds after which a write without an answer counts as failing."""


class StatusWriteHealth:
    """MCPProxies whose newest status could not be written, with the time of the first failure."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._failing: dict[ProxyKey, tuple[datetime, str, bool]] = {}
        """The first failure, the last error, and whether it may concern this MCPProxy only."""
        self._begun: dict[ProxyKey, datetime] = {}
        self._written_at: datetime | None = None

    def __len__(self) -> int:
        """Return the number of MCPProxies with an outdated status."""
        slow = {key for key, began in self._begun.items() if self._seconds_since(began) >= SLOW}
        return len(self._failing.keys() | slow)

    @contextmanager
    def writing(self, key: ProxyKey) -> Iterator[None]:
        """Note that a status is being written, until the block ends."""
        self._begun[key] = self._now()
        try:
            yield
        finally:
            del self._begun[key]

    def written(self, key: ProxyKey) -> None:
        """Note that a status was written."""
        self._failing.pop(key, None)
        self._written_at = self._now()

    def failed(self, key: ProxyKey, error: Exception) -> None:
        """Note that a status could not be written."""
        since, *_ = self._failing.get(key, (self._now(),))
        self._failing[key] = since, str(error), isinstance(error, Invalid)

    def unchanged(self, key: ProxyKey) -> None:
        """Note that the stored status is right: the MCPProxy no longer exists or needs no write."""
        self._failing.pop(key, None)

    def problem(self) -> str | None:
        """Return the error for which no status is written; None if some are, or nothing fails.

        An MCPProxy whose status is refused, such as a large one, is not a problem of the operator
        unless others are refused in other namespaces.
        """
        failing = self._failing.items()
        refused = {key.namespace for key, (*_, is_own) in failing if is_own}
        relevant = [state for _, state in failing if not state[2] or len(refused) > 1]
        if not relevant:
            return None
        since, error, _ = min(relevant)
        if self._written_at is not None and self._written_at >= since:
            return None
        if self._seconds_since(since) < PATIENCE:
            return None
        return f"cannot write the status of {len(self._failing)} MCPProxies: {error}"

    def _seconds_since(self, moment: datetime) -> float:
        return (self._now() - moment).total_seconds()


T = TypeVar("T")

SLOW_WRITES: Final = 3.0
"""Seconds without a response to a write after which the status reports it."""
SLOW_WRITE: Final = ConditionReason(
    reasons.API_SERVER_UNAVAILABLE, "the API server has not yet responded to the write of a child"
)


async def await_writes(
    writes: Coroutine[Any, Any, T],
    progress: Callable[[], object],
    report_slow: Callable[[], Awaitable[object]],
) -> tuple[T, bool]:
    """Return the result of the writes, and True if `report_slow` was called before they ended.

    `progress` returns a value that changes while the server responds to writes, if only of other
    MCPProxies. A busy server delays each write a little, which is not worth another write.
    """
    task = asyncio.ensure_future(writes)
    try:
        before: object = None
        while before != progress():
            before = progress()
            done, _ = await asyncio.wait({task}, timeout=SLOW_WRITES)
            if done:
                return task.result(), False
        with suppress(ClusterError):
            await report_slow()
        return await task, True
    finally:
        task.cancel()
