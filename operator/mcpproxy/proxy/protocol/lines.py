"""Splitting a byte stream into lines of limited length."""

from dataclasses import dataclass
from typing import Final

EDGE: Final = 1024
"""Number of bytes to keep of each end of a line that is too long."""


@dataclass(frozen=True, slots=True)
class LineTooLong:
    """Both ends of a line that exceeds the limit."""

    head: bytes
    tail: bytes


class LineSplitter:
    """Split chunks into lines, and discard the middle of lines that are too long."""

    def __init__(self, limit: int) -> None:
        """Create a splitter. `limit` is the maximum length of a line in bytes, without its end."""
        self._limit = limit
        self._buffer = bytearray()
        self._scanned = 0
        self._head: bytes | None = None
        """First bytes of the line that is being discarded."""
        self._tail = b""

    def feed(self, chunk: bytes) -> None:
        """Add bytes of the stream. Call `next` until it returns None before the next chunk."""
        self._buffer += chunk

    def next(self) -> bytes | LineTooLong | None:
        """Return the next line without its end, or None if it is incomplete."""
        end = self._buffer.find(b"\n", self._scanned)
        if end < 0:
            self._scanned = len(self._buffer)
            if self._head is not None or self._scanned > self._limit:
                self._discard(self._scanned)
            return None
        line = self._line(end)
        del self._buffer[: 1 if isinstance(line, LineTooLong) else end + 1]
        self._scanned = 0
        return line

    def rest(self) -> bytes | LineTooLong:
        """Return the rest of a stream after its last line end; it may be empty."""
        line = self._line(len(self._buffer))
        self._buffer.clear()
        self._scanned = 0
        return line

    def _line(self, end: int) -> bytes | LineTooLong:
        if self._head is None and end <= self._limit:
            with memoryview(self._buffer) as view:
                return bytes(view[:end])
        self._discard(end)
        assert self._head is not None
        line = LineTooLong(self._head, self._tail)
        self._head, self._tail = None, b""
        return line

    def _discard(self, end: int) -> None:
        """Keep only the ends of the current line, which is the first `end` bytes of the buffer."""
        if self._head is None:
            self._head = bytes(self._buffer[: min(end, EDGE)])
        self._tail = (self._tail + bytes(self._buffer[max(0, end - EDGE) : end]))[-EDGE:]
        del self._buffer[:end]
        self._scanned = 0
