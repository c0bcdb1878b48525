"""Cache of parsed heads of HTTP/1.1 messages.

A peer that keeps a connection sends nearly the same head again and again. A parser between two
messages produces the same result for the same bytes, so a known head need not be parsed again.
"""

from collections.abc import Mapping
from typing import Final, Generic, TypeVar

MAX_HEADS: Final = 512
MAX_SIZE: Final = 4096
"""Bytes of the largest head that is cached."""
HEAD_END: Final = b"\r\n\r\n"
NO_HEAD: Final = (HEAD_END, None)
"""A head that no message has, and that is not known."""

H = TypeVar("H")


class HeadCache(Generic[H]):
    """Parsed heads by their bytes, each with the length of its whole message.

    Connections look heads up in `known` themselves, because they do so for each message.
    """

    def __init__(self) -> None:
        self.known: dict[bytes, tuple[H, int]] = {}
        """Bytes of a head, up to the end of HEAD_END within MAX_SIZE → the parsed head, and the
        length of the message."""

    def keep(self, data: bytes, headers: Mapping[bytes, bytes], head: H) -> None:
        """Cache the parsed head of `data` if that is one whole message.

        `headers` and `head` are those of the last message that ended in `data`. The parser was
        between two messages when it read the first byte.
        """
        length = headers.get(b"content-length", b"")
        end = data.find(HEAD_END, 0, MAX_SIZE) + 4
        # If another message precedes it, or if the head ends elsewhere, the lengths differ.
        is_whole = length.isdigit() and len(data) - end == int(length)
        if end < len(HEAD_END) or not is_whole:
            return
        if len(self.known) >= MAX_HEADS:
            self.known.clear()
        self.known[data[:end]] = head, len(data)
