"""Schedule of a backend's checks: periodic, after failures, and on demand of clients."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from mcpproxy.api.defaults import HealthPolicy
from mcpproxy.proxy.upstream.monitor.list_waits import REFRESH_WAIT

APART: Final = 1.0
"""Minimum seconds between the starts of checks that no client waits for."""


class CheckSchedule:
    """Schedule of one backend's checks, which run one at a time."""

    def __init__(
        self,
        policy: HealthPolicy,
        delay_factor: float = 1.0,
        on_result: Callable[[bool], None] = lambda good: None,
    ) -> None:
        """`delay_factor` is the multiple of the interval to wait for another process's check.

        `on_result` is called with the result of each check that sent a request.
        """
        self._on_result = on_result
        self._delay_factor = delay_factor
        self.began_at = float("-inf")
        """Start of the last check, in monotonic seconds."""
        self.ended_at: float | None = None
        """End of the last check, in monotonic seconds; None before it."""
        self._requested_at = float("-inf")
        """Start of the last check that sent a request, in monotonic seconds."""
        self._interval = policy.interval
        self._wake = asyncio.Event()
        self._only_listens = False
        """True if the next wake-up is only for the change stream."""
        self._wanted = asyncio.Event()
        """Set while a client waits for a backend that is down."""
        self._completed = asyncio.Event()
        """Set when the running check, or the next one, is complete."""
        self._hangs = False
        """True if a client has waited for a check in vain since the last check with a response."""

    @property
    def wanted(self) -> bool:
        """True if a client waits for the check."""
        return self._wanted.is_set()

    def begin(self, *, asking: bool) -> None:
        """Record the start of a check; `asking` if it sends requests."""
        self.began_at = asyncio.get_running_loop().time()
        if asking:
            self._requested_at = self.began_at

    def end(self, *, good: bool) -> None:
        """Record the end of a check."""
        self._wanted.clear()
        self.ended_at = asyncio.get_running_loop().time()
        took = self.ended_at - self.began_at
        self._hangs = not good and took >= REFRESH_WAIT
        completed, self._completed = self._completed, asyncio.Event()
        completed.set()
        if self._requested_at == self.began_at:
            self._on_result(good)

    def hang(self) -> None:
        """Record that the backend hangs: no client waits for it until a check is complete."""
        self._hangs = True

    def wake(self) -> None:
        """Request a check soon."""
        self._only_listens = False
        self._wake.set()

    def wake_to_listen(self) -> None:
        """Request that the change stream is reopened, without a check."""
        self._only_listens = not self._wake.is_set()
        self._wake.set()

    async def pause(self, suspected: bool) -> bool:
        """Wait until a check is due. Return False if only the change stream is due."""
        # A suspected failure is checked sooner.
        pause = self._interval / (4 if suspected else 1)
        try:
            ended_at = asyncio.get_running_loop().time()
            # Reopening the change stream does not delay the next check.
            last = ended_at if self._requested_at == self.began_at else self._requested_at
            async with asyncio.timeout_at(last + pause * self._delay_factor):
                await self._wake.wait()
        except TimeoutError:
            return True
        finally:
            self._wake.clear()
        asking, self._only_listens = not self._only_listens, False
        # Limits the rate of checks, whatever fails.
        minimum = min(APART, self._interval)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(self.began_at + minimum):
                await self._wanted.wait()
        return asking

    async def recover(self) -> None:
        """Check a backend that is down because a client requests its lists; wait briefly for the
        result."""
        completed = self._completed
        self._wanted.set()
        self.wake()
        try:
            async with asyncio.timeout(0 if self._hangs else REFRESH_WAIT):
                await completed.wait()
        except TimeoutError:
            self._hangs = True
