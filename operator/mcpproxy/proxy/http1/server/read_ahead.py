"""Received bytes that are not parsed yet, and the steps in which they are parsed.

A client may send many requests, or many chunks, in one packet. The connection parses a few at a
time, so that other connections get their turn in between.
"""

from typing import Final

_END_OF_HEAD: Final = b"\r\n\r\n"
_CHUNKS: Final = 1024
"""Bytes of chunks that are parsed in one step."""
REQUESTS_A_TURN: Final = 16
BYTES_A_TURN: Final = 16 * 1024
"""Bytes of heads and chunks."""


class ReadAhead:
    """Buffer of received bytes that are not parsed yet."""

    __slots__ = ("_at", "data", "steps")

    def __init__(self) -> None:
        self.data = b""
        self._at = 0
        self.steps = 0
        """Steps since the turn began."""

    def begin_turn(self) -> None:
        """Count the steps of another turn."""
        self.steps = 0

    def __bool__(self) -> bool:
        return bool(self.data)

    def add(self, data: bytes) -> None:
        """Append received bytes."""
        self.data = self.data[self._at :] + data
        self._at = 0

    def clear(self) -> None:
        """Drop all bytes."""
        self.data, self._at = b"", 0

    @property
    def turn_is_over(self) -> bool:
        """True if other connections get their turn before the next step."""
        return self.steps >= REQUESTS_A_TURN

    def step(self, left: int, *, in_body: bool) -> bytes:
        """Return the next bytes, in which at most one request ends and which parse quickly.

        `left` is the number of missing bytes of a body with a known length, otherwise 0. `in_body`
        is True if the parser is in a body.
        """
        if left:
            end = self._at + left
        elif in_body:
            # Nothing announces the end of the chunks, so a few short requests may end in a step.
            end = self._at + _CHUNKS
        else:
            head = self.data.find(_END_OF_HEAD, self._at)
            end = len(self.data) if head < 0 else head + len(_END_OF_HEAD)
        part = self.data[self._at : end]
        self._at = end
        if end >= len(self.data):
            self.clear()
        self.steps += 1 if left else 1 + len(part) * REQUESTS_A_TURN // BYTES_A_TURN
        return part


def has_many_requests(data: bytes, room: int) -> bool:
    """True if `data` may contain `room` requests or more, or more than one turn parses."""
    return len(data) > BYTES_A_TURN or data.count(_END_OF_HEAD) >= room
