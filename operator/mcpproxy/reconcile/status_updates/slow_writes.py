"""A status while the API server delays the writes of children, as slow webhooks make it do."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, TypeVar

from mcpproxy.cluster.errors import ClusterError
from mcpproxy.status import reasons
from mcpproxy.status.inputs import ConditionReason

T = TypeVar("T")

SLOW: Final = 3.0
"""Seconds that the writes of a pass may take before the status reports them."""
SLOW_WRITE: Final = ConditionReason(
    reasons.API_SERVER_UNAVAILABLE, "the API server has not yet responded to the write of a child"
)


async def await_writes(
    writes: Coroutine[Any, Any, T], report_slow: Callable[[], Awaitable[object]]
) -> tuple[T, bool]:
    """Return the result of the writes, and True if `report_slow` was called before they ended."""
    task = asyncio.ensure_future(writes)
    try:
        done, _ = await asyncio.wait({task}, timeout=SLOW)
        if done:
            return task.result(), False
        with suppress(ClusterError):
            await report_slow()
        return await task, True
    finally:
        task.cancel()
