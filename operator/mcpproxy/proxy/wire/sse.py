"""Server-sent events (WHATWG HTML, section 9.2), as MCP has them: one JSON-RPC message each."""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from mcpproxy.proxy.wire.headers import EVENT_STREAM

HEADERS: Final = (
    (b"content-type", EVENT_STREAM),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
)
PING: Final = b": ping\r\n\r\n"

MAX_RETRY_DIGITS: Final = 10
_PIECE: Final = 1024
"""Lines of data that are kept each for itself; a small object is larger than its bytes."""
_BOM: Final = b"\xef\xbb\xbf"
_MORE: Final = (b"\r\ndata: ", b"\ndata: ", b"\rdata: ")
"""What is between two lines of data."""
_NEXT_LINE: Final = re.compile(rb"(?:\r\n|\n|\r)data: ?")
_LINE_END: Final = re.compile(rb"[\r\n]")
_ALONE: Final = re.compile(rb"(?:event: ?message(?:\r\n|\n))?data: ?([^\r\n]*)(?:\r\n\r\n|\n\n)")


class TooLarge(ValueError):
    """An event is larger than the limit."""


class Event(NamedTuple):
    """One event. `data` is None where it had no data; `retry` is in milliseconds."""

    data: bytes | None
    event: bytes = b"message"
    id: bytes | None = None
    retry: int | None = None


def encode(data: bytes, event_id: bytes | None = None, event: bytes = b"message") -> bytes:
    """One event; line ends inside `data`, which JSON has only between tokens, are kept."""
    head = b"" if event_id is None else b"id: %b\r\n" % event_id
    if b"\n" in data or b"\r" in data:
        data = b"\r\ndata: ".join(re.split(rb"\r\n|\n|\r", data))
    return b"%bevent: %b\r\ndata: %b\r\n\r\n" % (head, event, data)


DATA: Final = b"event: message\r\ndata: "
END: Final = b"\r\n\r\n"
"""What is around the data of an event that is sent in parts."""


def prime(event_id: bytes, retry: int | None) -> bytes:
    """An event without data that only tells its id, and how long to wait before coming back."""
    pause = b"" if retry is None else b"retry: %d\r\n" % retry
    return b"id: %b\r\n%bdata: \r\n\r\n" % (event_id, pause)


class Data:
    """The data of one event, in parts: what belongs to it, up to where it ends."""

    def __init__(self) -> None:
        self.ended = False
        self._at_end: bytes | None = None
        """The end of a line, and what follows, until it is clear what that is."""

    def feed(self, chunk: bytes) -> bytes:
        """What belongs to it."""
        found: list[bytes] = []
        while chunk:
            if self._at_end is not None:
                chunk, self._at_end = self._at_end + chunk, None
                if any(more.startswith(chunk) for more in _MORE):
                    self._at_end = chunk
                    break
                follows = _NEXT_LINE.match(chunk)
                if follows is None:
                    self.ended = True
                    break
                found.append(b"\n")
                chunk = chunk[follows.end() :]
            end = _LINE_END.search(chunk)
            if end is None:
                found.append(chunk)
                break
            found.append(chunk[: end.start()])
            self._at_end, chunk = b"", chunk[end.start() :]
        return b"".join(found)


def alone(stream: bytes) -> bytes | None:
    """The data of the one event that `stream` is, where that has one line of data and no more;
    None for whatever takes a parser."""
    found = _ALONE.fullmatch(stream)
    return None if found is None else found[1]


class Parser:
    """Turns chunks of a stream into events; keeps what is incomplete, up to `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rest: list[bytes] = []
        """What came behind the last line end, in parts."""
        self._kept = 0
        self._size = 0
        self._data: list[bytes] = []
        self._earlier: list[bytes] = []
        """Data of an event of many lines: as many of them at a time in one piece."""
        self._event = b"message"
        self._id: bytes | None = None
        self._retry: int | None = None
        self._begun = False

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """The events that `chunk` completes. Raises TooLarge."""
        data = b"".join((*self._rest, chunk)) if self._ends_line(chunk) else None
        if data is None:
            self._keep(chunk)
            return
        # A carriage return at the very end may be the first half of a line's end.
        end = max(data.rfind(b"\n"), data.rfind(b"\r", 0, len(data) - 1)) + 1
        self._rest, self._kept = [], 0
        for line in data[:end].splitlines():
            if not self._begun:
                self._begun, line = True, line.removeprefix(_BOM)
            if line:
                self._field(line)
                # Lines without content cost as much as others: what is counted is what came.
                self._size += len(line) + 1
                if self._size > self._limit:
                    raise TooLarge(f"an event is larger than {self._limit} bytes")
            elif (event := self._complete()) is not None:
                yield event
        self._keep(data[end:])

    def open_data(self, size: int) -> bytes | None:
        """The data, as far as it is there, of an event that is larger than `size` and has nothing
        else; it is kept no longer. `put_back` undoes that."""
        if self._kept + self._size <= size or self._id is not None or self._retry is not None:
            return None
        if self._earlier:
            return None
        line = b"".join(self._rest)
        if not line.startswith(b"data:") or line.endswith(b"\r"):
            return None
        begun = [*self._data, line.removeprefix(b"data:").removeprefix(b" ")]
        self._rest, self._kept, self._data, self._size = [], 0, [], 0
        return b"\n".join(begun)

    def put_back(self, data: bytes) -> None:
        """The data of an event that has begun."""
        *self._data, line = data.split(b"\n")
        self._size = sum(map(len, self._data))
        self._keep(b"data: " + line)

    def _ends_line(self, chunk: bytes) -> bool:
        """Whether a line is complete with this chunk."""
        begun = self._rest and self._rest[-1].endswith(b"\r")
        return bool(begun) or b"\n" in chunk or b"\r" in chunk

    def _keep(self, part: bytes) -> None:
        """Keep what no line end was found in."""
        if part:
            self._rest.append(part)
            self._kept += len(part)
        if self._kept + self._size > self._limit:
            raise TooLarge(f"an event is larger than {self._limit} bytes")

    def _field(self, line: bytes) -> None:
        name, _, content = line.partition(b":")
        content = content.removeprefix(b" ")
        if name == b"data":
            self._data.append(content)
            if len(self._data) >= _PIECE:
                self._earlier.append(b"\n".join(self._data))
                self._data = []
        elif name == b"event":
            self._event = content
        elif name == b"id" and b"\0" not in content:
            self._id = content
        elif name == b"retry" and content.isdigit() and len(content) <= MAX_RETRY_DIGITS:
            self._retry = int(content)

    def _complete(self) -> Event | None:
        if self._earlier:
            self._data, self._earlier = [*self._earlier, *self._data], []
        if not self._data and self._id is None and self._retry is None:
            self._event, self._size = b"message", 0
            return None
        data = b"\n".join(self._data) if self._data else None
        event = Event(data, self._event, self._id, self._retry)
        self._data, self._event, self._id, self._retry, self._size = [], b"message", None, None, 0
        return event
