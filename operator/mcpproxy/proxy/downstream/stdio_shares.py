"""Workload of a client on standard streams: the messages in process and their limits."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from mcpproxy.limits import clients as limits


class StdioWorkload:
    """Tasks that process messages, limited in the number of messages and in bytes."""

    def __init__(self) -> None:
        self.tasks: set[asyncio.Task[None]] = set()
        self._messages = 0
        self._bytes = 0
        self._completed = asyncio.Event()

    def fits(self, size: int) -> bool:
        """Return True if a message of this size fits the limits, or is the only one."""
        if not self.tasks:
            return True
        room = limits.STDIO_MESSAGE_BYTES.value - self._bytes
        return self._messages < limits.STDIO_MESSAGES.value and size <= room

    def spawn(self, work: Coroutine[Any, Any, None], size: int, messages: int = 1) -> None:
        """Process messages with this total size in a new task."""
        task = asyncio.create_task(work)
        self.tasks.add(task)
        self._messages += messages
        self._bytes += size

        def over(task: "asyncio.Task[None]") -> None:
            self.tasks.discard(task)
            self._messages -= messages
            self._bytes -= size
            self._completed.set()

        task.add_done_callback(over)

    async def wait_for_completion(self, seconds: float) -> bool:
        """Wait until a task has ended, for at most `seconds`; return True if one has."""
        self._completed.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._completed.wait()
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """Cancel all tasks."""
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
