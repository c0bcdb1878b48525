"""Queue of messages for a stream that belongs to no request."""

import asyncio
from collections import deque
from collections.abc import Callable

from mcpproxy.limits.clients import OUTBOX_BYTES, OUTBOX_MESSAGES
from mcpproxy.limits.limit import Limit


class MessageQueue:
    """Queue of messages for a stream."""

    def __init__(self, grown: Callable[[int], None] = lambda by: None) -> None:
        """Create an empty queue. `grown` is called with each change of the queued bytes."""
        self._grown = grown
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._arrived = asyncio.Event()
        self.ended = False

    def announce(self, message: bytes) -> None:
        """Add a change notification, unless an equal one is queued."""
        if message not in self._waiting:
            self.put(message)

    def put(self, message: bytes) -> None:
        """Add a message."""
        if self.ended:
            return
        if len(self._waiting) >= OUTBOX_MESSAGES.value:
            self._overflow(OUTBOX_MESSAGES)
            return
        if self._waiting and self._size + len(message) > OUTBOX_BYTES.value:
            self._overflow(OUTBOX_BYTES)
            return
        self._waiting.append(message)
        self._count(len(message))
        self._arrived.set()

    def _overflow(self, limit: Limit) -> None:
        """End the stream of a slow client, which must reconnect and list again."""
        limit.record()
        self.end()

    def end(self) -> None:
        """Accept no more messages; those in the queue are still delivered."""
        self.ended = True
        self._arrived.set()

    async def get(self, patience: float) -> bytes | None:
        """Return the next message, or None at the end.

        Raise TimeoutError after `patience` seconds.
        """
        while not self._waiting:
            if self.ended:
                return None
            self._arrived.clear()
            async with asyncio.timeout(patience):
                await self._arrived.wait()
        message = self._waiting.popleft()
        self._count(-len(message))
        return message

    @property
    def size(self) -> int:
        """Number of queued bytes."""
        return self._size

    def _count(self, by: int) -> None:
        self._size += by
        self._grown(by)

    def drop(self) -> None:
        """End the stream and drop the queued messages."""
        self._waiting.clear()
        self._count(-self._size)
        self.end()
