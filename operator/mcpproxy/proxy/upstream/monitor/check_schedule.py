"""When a backend is checked: at intervals, after something went wrong, and for clients."""

import asyncio
import contextlib
from typing import Final

from mcpproxy.api.defaults import HealthPolicy
from mcpproxy.proxy.upstream.monitor.list_waits import PATIENCE

APART: Final = 1.0
"""Seconds between the beginnings of checks that nobody waits for."""


class CheckSchedule:
    """The checks of one backend, one after the other."""

    def __init__(self, policy: HealthPolicy) -> None:
        self.patience = 1.0
        """How much longer than the interval it waits for the check of another process."""
        self.began_at = float("-inf")
        """When the last check began, in monotonic seconds."""
        self._asked_at = float("-inf")
        """When the last check began that asked something."""
        self._interval = policy.interval
        self._wake = asyncio.Event()
        self._only_listens = False
        """Whether it wakes only to open the stream of changes again."""
        self._wanted = asyncio.Event()
        """Set while a client waits for a backend that is down."""
        self._over = asyncio.Event()
        """Set when the check that runs, or the next one, has ended."""
        self._hangs = False
        """Whether a client has waited for a check in vain since the last one that had an answer."""

    @property
    def wanted(self) -> bool:
        """Whether a client waits for the check."""
        return self._wanted.is_set()

    def begin(self, *, asking: bool) -> None:
        """A check begins; `asking` for more than the stream of changes."""
        self.began_at = asyncio.get_running_loop().time()
        if asking:
            self._asked_at = self.began_at

    def end(self, *, good: bool) -> None:
        """A check has ended, well or not."""
        self._wanted.clear()
        took = asyncio.get_running_loop().time() - self.began_at
        self._hangs = not good and took >= PATIENCE
        over, self._over = self._over, asyncio.Event()
        over.set()

    def hang(self) -> None:
        """The backend is known to hang: no client waits for it until a check has ended."""
        self._hangs = True

    def wake(self) -> None:
        """Something happened: check soon."""
        self._only_listens = False
        self._wake.set()

    def wake_to_listen(self) -> None:
        """Have the stream of changes opened again; that asks for nothing else."""
        self._only_listens = not self._wake.is_set()
        self._wake.set()

    async def pause(self, suspected: bool) -> bool:
        """Wait until a check is due; whether it is to ask, or only to listen again."""
        # A doubt is settled sooner than the next round.
        pause = self._interval / (4 if suspected else 1)
        try:
            ended_at = asyncio.get_running_loop().time()
            # One that only listens again puts off no other check.
            last = ended_at if self._asked_at == self.began_at else self._asked_at
            async with asyncio.timeout_at(last + pause * self.patience):
                await self._wake.wait()
        except TimeoutError:
            return True
        finally:
            self._wake.clear()
        asking, self._only_listens = not self._only_listens, False
        # Whatever goes wrong, it asks no more often than that.
        apart = min(APART, self._interval)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(self.began_at + apart):
                await self._wanted.wait()
        return asking

    async def recover(self) -> None:
        """Check a backend that is down, since a client wants its lists; wait a little for that."""
        over = self._over
        self._wanted.set()
        self.wake()
        try:
            async with asyncio.timeout(0 if self._hangs else PATIENCE):
                await over.wait()
        except TimeoutError:
            self._hangs = True
