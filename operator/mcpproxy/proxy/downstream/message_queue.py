"""Messages that wait for a stream which belongs to no request."""

import asyncio
from collections import deque
from collections.abc import Callable

from mcpproxy.limits.clients import OUTBOX_BYTES, OUTBOX_MESSAGES
from mcpproxy.limits.limit import Limit


class MessageQueue:
    """Messages that wait for a stream to take them."""

    def __init__(self, grown: Callable[[int], None] = lambda by: None) -> None:
        """`grown` is called with the bytes that wait more, or less."""
        self._grown = grown
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._arrived = asyncio.Event()
        self.ended = False

    def announce(self, message: bytes) -> None:
        """Add what says that something changed; once is enough where it waits already."""
        if message not in self._waiting:
            self.put(message)

    def put(self, message: bytes) -> None:
        """Add a message."""
        if self.ended:
            return
        if len(self._waiting) >= OUTBOX_MESSAGES.value:
            self._give_up(OUTBOX_MESSAGES)
            return
        if self._waiting and self._size + len(message) > OUTBOX_BYTES.value:
            self._give_up(OUTBOX_BYTES)
            return
        self._waiting.append(message)
        self._count(len(message))
        self._arrived.set()

    def _give_up(self, limit: Limit) -> None:
        """End the stream of a client that does not read: it has to come back and list again."""
        limit.record()
        self.end()

    def end(self) -> None:
        """No more messages come; what waits is still given out."""
        self.ended = True
        self._arrived.set()

    async def get(self, patience: float) -> bytes | None:
        """The next message; None at the end. Raises TimeoutError after `patience` seconds."""
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
        """Bytes that wait."""
        return self._size

    def _count(self, by: int) -> None:
        self._size += by
        self._grown(by)

    def drop(self) -> None:
        """End the stream without what waits."""
        self._waiting.clear()
        self._count(-self._size)
        self.end()
