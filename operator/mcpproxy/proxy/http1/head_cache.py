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
ONE_CHUNK: Final = -1
"""In place of the length of a message whose body is one chunk (RFC 9112, section 7.1)."""
_LINE_END: Final = b"\r\n"
_LAST_CHUNK: Final = b"\r\n0\r\n\r\n"

H = TypeVar("H")


class HeadCache(Generic[H]):
    """Parsed heads by their bytes, each with the length of its whole message.

    Connections look heads up in `known` themselves, because they do so for each message.
    """

    def __init__(self) -> None:
        self.known: dict[bytes, tuple[H, int]] = {}
        """Bytes of a head, up to the end of HEAD_END within MAX_SIZE → the parsed head, and the
        length of the message or ONE_CHUNK."""

    def keep(
        self, data: bytes, headers: Mapping[bytes, bytes], head: H, *, chunked: bool = False
    ) -> None:
        """Cache the parsed head of `data` if that is one whole message; if `chunked`, also of a
        message whose body is one chunk.

        `headers` and `head` are those of the last message that ended in `data`. The parser was
        between two messages when it read the first byte.
        """
        end = data.find(HEAD_END, 0, MAX_SIZE) + 4
        # If another message precedes it, or if the head ends elsewhere, the lengths differ.
        if headers.get(b"content-length") == b"%d" % (len(data) - end):
            size = len(data)
        else:
            size = ONE_CHUNK
            is_chunked = chunked and headers.get(b"transfer-encoding") == b"chunked"
            if not is_chunked or body_in_chunk(data, end, size) is None:
                return
        if end < len(HEAD_END):
            return
        if len(self.known) >= MAX_HEADS:
            self.known.clear()
        self.known[data[:end]] = head, size


def body_in_chunk(data: bytes, begin: int, size: int) -> bytes | None:
    """Return the body of a message of size ONE_CHUNK if `data` is the whole message.

    `begin` is the end of its head. None for any other message or data, and for chunk extensions
    and trailers, which a parser has to read.
    """
    if size != ONE_CHUNK:
        return None
    end = data.find(_LINE_END, begin, begin + 16)
    length = len(data) - end - len(_LINE_END) - len(_LAST_CHUNK)
    is_whole = length > 0 and data[begin:end] == b"%x" % length and data.endswith(_LAST_CHUNK)
    return data[end + len(_LINE_END) : -len(_LAST_CHUNK)] if is_whole else None
