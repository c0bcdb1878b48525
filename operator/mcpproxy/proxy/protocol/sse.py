"""Server-sent events (WHATWG HTML, section 9.2), as MCP has them: one JSON-RPC message each."""

import re
from typing import Final, NamedTuple

MESSAGE: Final = b"message"
"""The type of an event that names none."""
MAX_RETRY_DIGITS: Final = 10
_PIECE: Final = 1024
"""Lines of data that are kept each for itself; a small object is larger than its bytes."""
_BOM: Final = b"\xef\xbb\xbf"
_MORE: Final = (b"\r\ndata: ", b"\ndata: ", b"\rdata: ")
"""What is between two lines of data."""
_NEXT_LINE: Final = re.compile(rb"(?:\r\n|\n|\r)data: ?")
_LINE_END: Final = re.compile(rb"[\r\n]")
_ALONE: Final = re.compile(rb"(?:event: ?message(?:\r\n|\n))?data: ?([^\r\n]*)(?:\r\n\r\n|\n\n)")


class EventTooLarge(ValueError):
    """An event is larger than the limit."""


class ServerSentEvent(NamedTuple):
    """One event: its data, which may be empty, and its type."""

    data: bytes
    event: bytes = MESSAGE


class EventDataStream:
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


def single_event_data(stream: bytes) -> bytes | None:
    """The data of the one event that `stream` is, where that has one line of data and no more;
    None for whatever takes a parser."""
    found = _ALONE.fullmatch(stream)
    return None if found is None else found[1]


class EventStreamParser:
    """The events of a stream that comes in chunks; keeps up to `limit` bytes of an incomplete one.

    Attributes:
        last_id: The id of the last event that had one (`Last-Event-ID`), empty or not; None at
            the beginning.
        retry: How long to wait before connecting again, in milliseconds; None if not known.
        lines: The number of lines so far.
    """

    def __init__(self, limit: int) -> None:
        self.last_id: bytes | None = None
        self.retry: int | None = None
        self.lines = 0
        self._limit = limit
        self._rest: list[bytes] = []
        """What came behind the last line end, in parts."""
        self._kept = 0
        self._size = 0
        self._data: list[bytes] = []
        self._earlier: list[bytes] = []
        """Data of an event of many lines: as many of them at a time in one piece."""
        self._event = MESSAGE
        self._id: bytes | None = None
        self._begun = False
        self._after_return = False
        """Whether the last line ended with a carriage return: a line feed belongs to it."""

    def feed(self, chunk: bytes) -> list[ServerSentEvent]:
        """The events that `chunk` completes. Raises TooLarge."""
        if self._after_return and chunk:
            self._after_return = False
            chunk = chunk.removeprefix(b"\n")
        end = max(chunk.rfind(b"\n"), chunk.rfind(b"\r")) + 1
        if not end:
            self._keep(chunk)
            return []
        whole = b"".join((*self._rest, chunk[:end])) if self._rest else chunk[:end]
        self._rest, self._kept = [], 0
        self._after_return = whole.endswith(b"\r")
        lines = whole.splitlines()
        if not self._begun:
            self._begun, lines[0] = True, lines[0].removeprefix(_BOM)
        self.lines += len(lines)
        events = self._read(lines, exact=self._size + len(whole) > self._limit)
        if end < len(chunk):
            self._keep(chunk[end:])
        return events

    def _read(self, lines: list[bytes], *, exact: bool) -> list[ServerSentEvent]:
        """The events that these lines complete; `exact`: one of them may be too large."""
        events: list[ServerSentEvent] = []
        begins = 0
        for number, line in enumerate(lines):
            if line.startswith(b"data:"):
                self._data.append(line[6:] if line.startswith(b"data: ") else line[5:])
            elif line:
                self._field(line)
            else:
                if exact:
                    self._grow(lines[begins:number])
                begins, self._size = number + 1, 0
                if self._data or self._earlier:
                    events.append(self._complete())
                if self._id is not None:
                    self.last_id, self._id = self._id, None
                self._event = MESSAGE
        self._grow(lines[begins:])
        if len(self._data) >= _PIECE:
            self._earlier.append(b"\n".join(self._data))
            self._data = []
        return events

    def _grow(self, lines: list[bytes]) -> None:
        """Count lines of an event; those without content cost as much as others."""
        self._size += sum(map(len, lines)) + len(lines)
        if self._size > self._limit:
            raise EventTooLarge(f"an event is larger than {self._limit} bytes")

    def open_data(self, size: int) -> bytes | None:
        """The data, as far as it is there, of an event that is larger than `size` and has nothing
        else; it is kept no longer. `put_back` undoes that."""
        if self._kept + self._size <= size or self._id is not None or self._earlier:
            return None
        line = b"".join(self._rest)
        if not line.startswith(b"data:") or self._event != MESSAGE:
            return None
        begun = [*self._data, line.removeprefix(b"data:").removeprefix(b" ")]
        self._rest, self._kept, self._data, self._size = [], 0, [], 0
        return b"\n".join(begun)

    def put_back(self, data: bytes) -> None:
        """The data of an event that has begun."""
        *self._data, line = data.split(b"\n")
        self._size = sum(map(len, self._data))
        self._keep(b"data: " + line)

    def _keep(self, part: bytes) -> None:
        """Keep what no line end was found in."""
        if part:
            self._rest.append(part)
            self._kept += len(part)
        if self._kept + self._size > self._limit:
            raise EventTooLarge(f"an event is larger than {self._limit} bytes")

    def _field(self, line: bytes) -> None:
        name, _, content = line.partition(b":")
        content = content.removeprefix(b" ")
        if name == b"data":
            self._data.append(content)
        elif name == b"event":
            self._event = content or MESSAGE
        elif name == b"id" and b"\0" not in content:
            self._id = content
        elif name == b"retry" and content.isdigit() and len(content) <= MAX_RETRY_DIGITS:
            self.retry = int(content)

    def _complete(self) -> ServerSentEvent:
        data = self._data
        if self._earlier:
            data = [*self._earlier, *data]
            self._earlier = []
        self._data = []
        return ServerSentEvent(data[0] if len(data) == 1 else b"\n".join(data), self._event)
