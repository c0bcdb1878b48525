"""Heads of HTTP/1.1 messages that were read before: the same bytes need no second reading.

A peer that keeps a connection sends much the same head again and again, and a parser that stands
between two messages makes the same of the same bytes.
"""

from collections.abc import Mapping
from typing import Final, Generic, TypeVar

MAX_HEADS: Final = 512
MAX_SIZE: Final = 4096
"""Bytes of a head that is kept."""
_END: Final = b"\r\n\r\n"

Found = TypeVar("Found")


class HeadCache(Generic[Found]):
    """What was read from heads, each with the length of the body that follows."""

    def __init__(self) -> None:
        self._found: dict[bytes, tuple[Found, int, int]] = {}

    def look_up(self, data: bytes) -> tuple[Found, int, int] | None:
        """What was read from the head of a message, its length, and where its body begins.

        None unless `data` is one message as a whole whose head is known.
        """
        end = data.find(_END, 0, MAX_SIZE) + 4
        found = self._found.get(data[:end])
        return None if found is None or len(data) != found[1] else found

    def keep(self, data: bytes, headers: Mapping[bytes, bytes], found: Found) -> None:
        """Remember what was read from `data`, if that is one message as a whole.

        The last message that ended there is meant; the first byte was read between two messages.
        """
        length = headers.get(b"content-length", b"")
        end = data.find(_END, 0, MAX_SIZE) + 4
        # With another message before it, or where the head ends elsewhere, this can't be equal.
        whole = length.isdigit() and len(data) - end == int(length)
        if end < len(_END) or not whole:
            return
        if len(self._found) >= MAX_HEADS:
            self._found.clear()
        self._found[data[:end]] = found, len(data), end
