"""Messages that wait for a stream which belongs to no request."""

import asyncio
from collections import deque
from typing import Final

MAX_WAITING: Final = 1000
"""Messages that may wait for a client to read its stream; beyond it the stream is ended."""
MAX_BYTES: Final = 4 * 1024 * 1024
"""Their size in all; one message may be larger where no other waits."""


class Outbox:
    """Messages that wait for a stream to take them."""

    def __init__(self) -> None:
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
        if len(self._waiting) >= MAX_WAITING or (
            self._waiting and self._size + len(message) > MAX_BYTES
        ):
            # The client does not read: it has to come back and look at everything anew.
            self.end()
            return
        self._waiting.append(message)
        self._size += len(message)
        self._arrived.set()

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
        self._size -= len(message)
        return message
