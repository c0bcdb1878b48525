"""Programs that are started before anybody needs them.

To start a program takes most of the time to open a session with it, and any client can have one
that was only started. So where each request gets a fresh program, one waits for it.
"""

import asyncio
import collections
from collections.abc import Awaitable, Callable
from typing import Final

from mcpproxy.api.defaults import BackendSettings
from mcpproxy.limits.backends import SPARE_PROGRAMS
from mcpproxy.proxy.core.errors import BackendError
from mcpproxy.proxy.upstream.connect.negotiation import StdioConnector
from mcpproxy.proxy.upstream.transports.session import TaskSet
from mcpproxy.proxy.upstream.transports.stdio import StdioChannel

BUSY: Final = 10.0
"""Seconds in which programs were taken that as many should wait for."""

Spawn = Callable[[], Awaitable[StdioChannel]]


class SpareProcesses:
    """Programs of one backend that nobody has used."""

    def __init__(self, spawn: Spawn, background: TaskSet) -> None:
        self._spawn = spawn
        self._background = background
        self._waiting: collections.deque[StdioChannel] = collections.deque()
        self._taken_at: collections.deque[float] = collections.deque(maxlen=SPARE_PROGRAMS.value)
        self._starting = 0
        self._generation = 0
        """Another one when programs that were started before are of no use."""

    async def take(self) -> StdioChannel:
        """A program that nobody has used, and see to the next ones. Raises BackendError."""
        found, ended = self._first()
        self._taken_at.append(asyncio.get_running_loop().time())
        channel = found or await self._spawn()
        if not ended:
            # One that ends by itself would be started twice as often, and for nothing.
            self._fill()
        return channel

    def _first(self) -> tuple[StdioChannel | None, bool]:
        """The one that has waited longest, and whether one has ended meanwhile."""
        ended = False
        while self._waiting:
            channel = self._waiting.popleft()
            if not channel.ended:
                return channel, ended
            ended = True
            self._background.spawn(channel.close())
        return None, ended

    @property
    def _wanted(self) -> int:
        since = asyncio.get_running_loop().time() - BUSY
        return max(1, sum(at > since for at in self._taken_at))

    def _fill(self) -> None:
        if self._wanted == SPARE_PROGRAMS.value:
            SPARE_PROGRAMS.record()
        for _ in range(self._wanted - len(self._waiting) - self._starting):
            self._starting += 1
            self._background.spawn(self._start(self._generation))

    async def _start(self, generation: int) -> None:
        try:
            channel = await self._spawn()
        except BackendError:
            return
        finally:
            self._starting -= 1
        if generation == self._generation:
            self._waiting.append(channel)
        else:
            await channel.close()

    def reap(self) -> None:
        """End those that are more than one once they are not needed any more."""
        while len(self._waiting) > self._wanted:
            self._background.spawn(self._waiting.popleft().close())

    def renew(self) -> None:
        """End all: programs get other values from now on."""
        self._generation += 1
        while self._waiting:
            self._background.spawn(self._waiting.popleft().close())

    async def close(self) -> None:
        """End all for good."""
        self._generation += 1
        waiting, self._waiting = self._waiting, collections.deque()
        await asyncio.gather(*(channel.close() for channel in waiting))


class SpareConnector(StdioConnector):
    """Opens each session with a program that was started before."""

    def __init__(
        self,
        spawn: Spawn,
        settings: BackendSettings,
        background: TaskSet,
        env_changed: Callable[[], bool],
    ) -> None:
        self._spares = SpareProcesses(spawn, background)
        super().__init__(self._spares.take, settings, background, env_changed)

    def changed(self) -> bool:
        """This is asked all the time."""
        changed = super().changed()
        if changed:
            self._spares.renew()
        else:
            self._spares.reap()
        return changed

    async def close(self) -> None:
        await super().close()
        await self._spares.close()
