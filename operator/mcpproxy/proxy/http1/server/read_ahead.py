"""Bytes of a connection that wait to be parsed, and in what steps that is done.

A client may send many requests, or chunks, in one packet. They are parsed a few at a time, so that
other clients have their turn between them.
"""

from typing import Final

_END_OF_HEAD: Final = b"\r\n\r\n"
_CHUNKS: Final = 1024
"""Bytes of chunks that are parsed in one step."""
REQUESTS_A_TURN: Final = 16
BYTES_A_TURN: Final = 16 * 1024
"""Bytes of heads and chunks."""


class ReadAhead:
    """Bytes that came and are not parsed yet."""

    __slots__ = ("_at", "data", "steps")

    def __init__(self) -> None:
        self.data = b""
        self._at = 0
        self.steps = 0
        """Steps since the turn began."""

    def __bool__(self) -> bool:
        return bool(self.data)

    def add(self, data: bytes) -> None:
        """Put bytes behind those that wait."""
        self.data = self.data[self._at :] + data
        self._at = 0

    def clear(self) -> None:
        """Drop what waits."""
        self.data, self._at = b"", 0

    @property
    def turn_is_over(self) -> bool:
        """Whether others are to have their turn before the next step."""
        return self.steps >= REQUESTS_A_TURN

    def step(self, left: int, *, in_body: bool) -> bytes:
        """The next bytes, in which no second request ends, and which take little time.

        `left` is the number of bytes that are missing of a body of known length.
        """
        if left:
            end = self._at + left
        elif in_body:
            # Of chunks nothing tells the end: a few short requests may end in such a part.
            end = self._at + _CHUNKS
        else:
            head = self.data.find(_END_OF_HEAD, self._at)
            end = len(self.data) if head < 0 else head + len(_END_OF_HEAD)
        found = self.data[self._at : end]
        self._at = end
        if end >= len(self.data):
            self.clear()
        self.steps += 1 if left else 1 + len(found) * REQUESTS_A_TURN // BYTES_A_TURN
        return found


def has_many_requests(data: bytes, room: int) -> bool:
    """Whether there may be more requests in it than have room, or more than one turn takes."""
    return len(data) > BYTES_A_TURN or data.count(_END_OF_HEAD) >= room
