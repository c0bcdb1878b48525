"""Questions to all instances about subjects that a lost instance has counted."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from mcpproxy.proxy.call_limits.store import SubjectKey
from mcpproxy.proxy.instances.members import AT_ONCE, Members

KEPT: Final = 4096
"""Maximum number of subjects about which all instances were asked; the others are asked again."""


class Succession:
    """Subjects that this instance counts because another one was lost."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._asked: dict[SubjectKey, float] = {}
        """When all instances were asked about a subject."""
        self._asking: dict[SubjectKey, asyncio.Task[None]] = {}

    def is_pending(self, key: SubjectKey, members: Members) -> bool:
        """Return True if the others have to be asked before calls of a subject are counted."""
        lost_at = members.inherited_at(key)
        return lost_at > self._asked.get(key, float("-inf"))

    async def run(
        self, key: SubjectKey, members: Members, ask: Callable[[str], Awaitable[None]]
    ) -> None:
        """Ask all other instances about a subject if this is pending; all callers wait for it."""
        if not self.is_pending(key, members):
            return
        task = self._asking.get(key)
        if task is None:
            work = self._ask_all(key, members.others, ask)
            task = self._asking[key] = asyncio.get_running_loop().create_task(work)
            task.add_done_callback(lambda _: self._asking.pop(key, None))
        await asyncio.shield(task)

    async def _ask_all(
        self, key: SubjectKey, others: tuple[str, ...], ask: Callable[[str], Awaitable[None]]
    ) -> None:
        room, began = asyncio.Semaphore(AT_ONCE), self._clock()

        async def within(address: str) -> None:
            async with room:
                await ask(address)

        await asyncio.gather(*map(within, others))
        if len(self._asked) >= KEPT:
            self._asked.clear()
        self._asked[key] = began

    async def close(self) -> None:
        """End what runs in the background."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
