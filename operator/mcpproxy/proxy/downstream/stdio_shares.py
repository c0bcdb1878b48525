"""Messages of a client on standard streams that are being processed, and their share."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from mcpproxy.limits import clients as limits


class StdioWorkload:
    """Tasks that process messages, within limits of the number of messages and of bytes."""

    def __init__(self) -> None:
        self.tasks: set[asyncio.Task[None]] = set()
        self._messages = 0
        self._bytes = 0
        self._moved = asyncio.Event()

    def fits(self, size: int) -> bool:
        """True if a message of this size can be processed now; always if no other is."""
        if not self.tasks:
            return True
        room = limits.STDIO_MESSAGE_BYTES.value - self._bytes
        return self._messages < limits.STDIO_MESSAGES.value and size <= room

    def spawn(self, work: Coroutine[Any, Any, None], size: int, messages: int = 1) -> None:
        """Process messages of this size together in a task of their own."""
        task = asyncio.create_task(work)
        self.tasks.add(task)
        self._messages += messages
        self._bytes += size

        def over(task: "asyncio.Task[None]") -> None:
            self.tasks.discard(task)
            self._messages -= messages
            self._bytes -= size
            self._moved.set()

        task.add_done_callback(over)

    async def moved(self, seconds: float) -> bool:
        """Wait until a task has ended, but only so long; True if one has."""
        self._moved.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._moved.wait()
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """Cancel all tasks."""
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
