"""Response to one HTTP/1.1 request, whose body is read while it arrives."""

import asyncio
import collections
import functools
from typing import TYPE_CHECKING, Final

from mcpproxy.proxy.http1.errors import ConnectionLost, InvalidResponse

if TYPE_CHECKING:
    from mcpproxy.proxy.http1.client.connection import ClientConnection

KnownHead = tuple[int, dict[bytes, bytes], bytes]
"""Status, headers and media type of a response; several responses share the headers."""
HIGH_WATER: Final = 256 * 1024
"""Bytes of a body that may wait for their reader before reading from the server pauses."""
DRAIN: Final = 1.0
"""Seconds in which the rest of a discarded body may arrive before the connection is closed."""


class ClientResponse:
    """Response to one request; `read` or `next_chunk` read its body."""

    # Each request creates a response, so initial values are class attributes.
    headers: dict[bytes, bytes]
    """Headers by their names in lower case; several responses may share them."""
    media_type = b""
    """Content-Type without its parameters, in lower case."""
    status = 0
    complete = False
    single: bytes | None = None
    """The whole body, if it arrived together with a known head; it can still be read."""
    _size = 0
    _waiter: "asyncio.Future[None] | None" = None
    _leaving: asyncio.TimerHandle | None = None
    """Timer that runs while the rest of a discarded body may arrive."""

    def __init__(
        self, connection: "ClientConnection", sent_fields: tuple[tuple[bytes, bytes], ...] = ()
    ) -> None:
        self._connection = connection
        self.sent_fields = sent_fields
        """Header fields of the request that its sender wants to know when the response arrives."""
        self._chunks: collections.deque[bytes] = collections.deque()
        self.headers = {}

    def begin(self, status: int, headers: dict[bytes, bytes]) -> None:
        """Set the head; called by the connection."""
        self.status, self.headers = status, headers
        self.media_type = _media_type(headers.get(b"content-type", b""))

    def complete_with(self, head: KnownHead, body: bytes) -> None:
        """Set the head and the whole body, for which nothing waits; called by the connection."""
        self.status, self.headers, self.media_type = head
        self.complete = True
        if body:
            self.single = body
            self._chunks.append(body)
            self._size = len(body)

    async def head(self) -> "ClientResponse":
        """Wait for the head and return the response. Raises ConnectionLost, InvalidResponse."""
        await self._connection.headed(self)
        return self

    def rest(self) -> "ClientResponse | None":
        """Return the response if its status is 200 and its body is incomplete; otherwise None."""
        return None if self.complete or self.status != 200 else self

    @property
    def waiting(self) -> bool:
        """True if a part of the body waits for its reader."""
        return bool(self._chunks)

    @property
    def whole(self) -> bytes | None:
        """The body if it is complete, otherwise None; it can still be read."""
        return self.begun if self.complete else None

    @property
    def begun(self) -> bytes:
        """The received part of the body; it can still be read."""
        return self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)

    async def next_chunk(self) -> bytes:
        """Return the next part of the body; empty at its end.

        Raises ConnectionLost if the body breaks off, and InvalidResponse if it can't be decoded.
        """
        while not self._chunks:
            if self.complete:
                return b""
            if self._connection.lost:
                raise ConnectionLost("the connection was closed during the response")
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
        """Return the whole body.

        Raises InvalidResponse if it is larger than `limit` bytes, and the errors of `next_chunk`.
        """
        if self.complete and len(self._chunks) == 1 and self._size <= limit:
            return self._chunks.pop()
        parts: list[bytes] = []
        size = 0
        while chunk := await self.next_chunk():
            parts.append(chunk)
            size += len(chunk)
            if size > limit:
                self.close()
                raise InvalidResponse(f"the response has more than {limit} bytes")
        return b"".join(parts)

    def unread(self, parts: list[bytes]) -> None:
        """Put back parts of the body that were read."""
        self._chunks.extendleft(reversed(parts))
        self._size += sum(map(len, parts))

    def close(self) -> None:
        """Give up the rest of the body; this closes the connection unless the body is complete."""
        if not self.complete:
            self._connection.abort()

    def leave(self) -> None:
        """Discard the rest of the body; if it arrives in time, the connection is kept."""
        self._chunks.clear()
        self._size = 0
        if not self.complete:
            self._leaving = self._connection.loop.call_later(DRAIN, self.close)
            self._connection.hold_back(False)

    def end(self) -> None:
        """Mark the body as complete; called by the connection."""
        self.complete = True
        if self._leaving is not None:
            self._leaving.cancel()
        self.wake()

    def feed(self, chunk: bytes) -> None:
        """Add a part of the body; called by the connection."""
        if self._leaving is not None:
            return
        self._chunks.append(chunk)
        self._size += len(chunk)
        if self._size > HIGH_WATER:
            self._connection.hold_back(True)
            self._connection.hand_on()
        self.wake()

    def wake(self) -> None:
        """Wake up the reader; called by the connection."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


@functools.lru_cache(maxsize=64)
def _media_type(content_type: bytes) -> bytes:
    return content_type.split(b";")[0].strip().lower()
