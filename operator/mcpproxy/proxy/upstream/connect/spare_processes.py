"""stdio processes that are started before a request needs them.

Starting a program takes most of the time to open a session, and an unused process suits any client.
If each request gets its own process, a spare one is kept. If each client does, one is started
together with the monitor's process, for the first client.
"""

import asyncio
import collections
from collections.abc import Awaitable, Callable
from pathlib import PurePath
from typing import Final

from mcpproxy.limits.sessions import SPARE_PROGRAMS
from mcpproxy.proxy.core.errors import BackendError
from mcpproxy.proxy.core.exchange import ClientIdentity
from mcpproxy.proxy.upstream.transports.session import TaskSet
from mcpproxy.proxy.upstream.transports.stdio import StdioChannel

BUSY: Final = 10.0
"""Window in seconds: as many spare processes are kept as were taken in it."""
PACKAGE_RUNNERS: Final = frozenset({"npx", "bunx", "pnpx", "npm", "pnpm", "yarn", "bun"})
"""Commands that may install the program first, into a directory that all their processes share.
Two at once can destroy the installation."""
SECOND: Final = 2
"""Number of users of processes once the first client has one; the monitor is the other."""

Spawn = Callable[[], Awaitable[StdioChannel]]


class SpareProcesses:
    """The unused processes of one backend."""

    def __init__(
        self,
        spawn: Spawn,
        background: TaskSet,
        command: str = "",
        *,
        for_each_request: bool = True,
        spawn_spare: Spawn | None = None,
    ) -> None:
        """`command` is the name or path of the program that `spawn` starts. A process serves one
        request, or if not `for_each_request`, one client. `spawn_spare` starts a process that is
        not needed yet."""
        self.for_each_request = for_each_request
        self._spawn, self._spawn_spare = spawn, spawn_spare or spawn
        self._users: set[object] = set()
        """The first users of processes: the monitor, then clients."""
        self._is_installed = PurePath(command).name not in PACKAGE_RUNNERS
        self._background = background
        self._waiting: collections.deque[StdioChannel] = collections.deque()
        self._taken_at: collections.deque[float] = collections.deque(maxlen=SPARE_PROGRAMS.value)
        self._starting = 0
        self._generation = 0
        """Incremented when processes that were started earlier must not be used."""

    def begin_opening(self, client: ClientIdentity) -> None:
        """Record that a session is about to be opened for this client, or for the monitor."""
        if len(self._users) <= SECOND:
            self._users.add(client.session or client.kind)

    def end_opening(self) -> None:
        """Record that a session was opened, so that the program is installed."""
        if not self._is_installed:
            self._is_installed = True
            self.fill()

    @property
    def _is_useful(self) -> bool:
        """True if a spare process is needed at all."""
        # A client keeps its process. If it is the only one, as that of a pipe, no other follows.
        has_one_client = not self.for_each_request and len(self._users) == SECOND
        return self._is_installed and not has_one_client

    async def take(self) -> StdioChannel:
        """Return an unused process, and start the next ones. Raises BackendError."""
        spare, has_exited = self._first()
        self._taken_at.append(asyncio.get_running_loop().time())
        channel = spare or await self._spawn()
        if not has_exited:
            # A program that exits by itself would be started twice as often, in vain.
            self.fill()
        return channel

    def _first(self) -> tuple[StdioChannel | None, bool]:
        """Return the oldest spare process, and whether any has exited."""
        has_exited = False
        while self._waiting:
            channel = self._waiting.popleft()
            if not channel.ended:
                return channel, has_exited
            has_exited = True
            self._background.spawn(channel.close())
        return None, has_exited

    @property
    def _wanted(self) -> int:
        since = asyncio.get_running_loop().time() - BUSY
        return max(1, sum(at > since for at in self._taken_at))

    def fill(self) -> None:
        """Start the spare processes that are missing."""
        if not self._is_useful:
            return
        if self._wanted == SPARE_PROGRAMS.value:
            SPARE_PROGRAMS.record()
        for _ in range(self._wanted - len(self._waiting) - self._starting):
            self._starting += 1
            self._background.spawn(self._start(self._generation))

    async def _start(self, generation: int) -> None:
        try:
            channel = await self._spawn_spare()
        except BackendError:
            return
        finally:
            self._starting -= 1
        if generation == self._generation:
            self._waiting.append(channel)
        else:
            await channel.close()

    def reap(self) -> None:
        """Close spare processes that are no longer needed, all but one."""
        while len(self._waiting) > self._wanted:
            self._background.spawn(self._waiting.popleft().close())

    def renew(self) -> None:
        """Close all spare processes, because new ones get other values."""
        self._generation += 1
        while self._waiting:
            self._background.spawn(self._waiting.popleft().close())

    async def close(self) -> None:
        """Close all spare processes permanently."""
        self._generation += 1
        waiting, self._waiting = self._waiting, collections.deque()
        await asyncio.gather(*(channel.close() for channel in waiting))
