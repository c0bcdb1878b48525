"""The answer to one request over HTTP/1.1, of which the body is read as it comes."""

import asyncio
import collections
import functools
from typing import TYPE_CHECKING, Final

from mcpproxy.proxy.core.errors import ProtocolError, Unreachable

if TYPE_CHECKING:
    from mcpproxy.proxy.http1.client.connection import ClientConnection

HIGH_WATER: Final = 256 * 1024
"""Bytes of a body that may wait for their reader before the peer is held back."""
DRAIN: Final = 1.0
"""Seconds in which the rest of an answer may come that is of no interest."""


class ClientResponse:
    """The answer to one request; its body is read with `read` or `chunks`."""

    # Every call makes one of these: what is as it begins stands in the class.
    headers: dict[bytes, bytes]
    """Their names are in lower case. Several answers may share them."""
    status = 0
    complete = False
    _size = 0
    _waiter: "asyncio.Future[None] | None" = None
    _leaving: asyncio.TimerHandle | None = None
    """Runs while the rest may still come, which is dropped."""

    def __init__(self, connection: "ClientConnection") -> None:
        self._connection = connection
        self._chunks: collections.deque[bytes] = collections.deque()
        self.headers = {}

    async def head(self) -> "ClientResponse":
        """Itself, once its head is there. Raises Unreachable, ProtocolError."""
        await self._connection.headed(self)
        return self

    def rest(self) -> "ClientResponse | None":
        """Itself, where it is no error and more is to come."""
        return None if self.complete or self.status != 200 else self

    @property
    def waiting(self) -> bool:
        """Whether a part of the body waits for its reader."""
        return bool(self._chunks)

    @property
    def whole(self) -> bytes | None:
        """The body if all of it is there; it can still be read. None otherwise."""
        return self.begun if self.complete else None

    @property
    def begun(self) -> bytes:
        """What is there of the body; it can still be read."""
        return self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)

    @property
    def media_type(self) -> bytes:
        """Content-Type without its parameters, in lower case."""
        return _media_type(self.headers.get(b"content-type", b""))

    async def next_chunk(self) -> bytes:
        """The next part of the body; empty at its end. Raises Unreachable when it breaks off."""
        while not self._chunks:
            if self.complete:
                return b""
            if self._connection.lost:
                raise Unreachable("the connection broke off in the middle of an answer")
            self._waiter = self._connection.loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        chunk = self._chunks.popleft()
        self._size -= len(chunk)
        if self._size < HIGH_WATER:
            self._connection.hold_back(False)
        return chunk

    async def read(self, limit: int) -> bytes:
        """The whole body. Raises ProtocolError when it is larger than `limit` bytes."""
        if self.complete and len(self._chunks) == 1 and self._size <= limit:
            return self._chunks.pop()
        parts: list[bytes] = []
        size = 0
        while chunk := await self.next_chunk():
            parts.append(chunk)
            size += len(chunk)
            if size > limit:
                self.close()
                raise ProtocolError(f"the answer is larger than {limit} bytes")
        return b"".join(parts)

    def unread(self, parts: list[bytes]) -> None:
        """Put back what was read."""
        self._chunks.extendleft(reversed(parts))
        self._size += sum(map(len, parts))

    def close(self) -> None:
        """Give up the rest of the body; the connection is closed unless it was complete."""
        if not self.complete:
            self._connection.abort()

    def leave(self) -> None:
        """The rest is of no interest; if it comes in time the connection is kept."""
        self._chunks.clear()
        self._size = 0
        if not self.complete:
            self._leaving = self._connection.loop.call_later(DRAIN, self.close)
            self._connection.hold_back(False)

    def end(self) -> None:
        """Called by the connection: no more comes."""
        self.complete = True
        if self._leaving is not None:
            self._leaving.cancel()
        self.wake()

    def feed(self, chunk: bytes) -> None:
        """Called by the connection: a part of the body came."""
        if self._leaving is not None:
            return
        self._chunks.append(chunk)
        self._size += len(chunk)
        if self._size > HIGH_WATER:
            self._connection.hold_back(True)
            self._connection.hand_on()
        self.wake()

    def wake(self) -> None:
        """Called by the connection: look again."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


@functools.lru_cache(maxsize=64)
def _media_type(content_type: bytes) -> bytes:
    return content_type.split(b";")[0].strip().lower()
