"""Server-sent events (WHATWG HTML, section 9.2) with one JSON-RPC message each."""

import re
from typing import Final, NamedTuple

MESSAGE: Final = b"message"
"""Type of an event without an `event` field."""
MAX_RETRY_DIGITS: Final = 10
_PIECE: Final = 1024
"""Number of data lines to keep as separate objects; a small object is larger than its bytes."""
_BOM: Final = b"\xef\xbb\xbf"
_MORE: Final = (b"\r\ndata: ", b"\ndata: ", b"\rdata: ")
"""Separators between two lines of data."""
_NEXT_LINE: Final = re.compile(rb"(?:\r\n|\n|\r)data: ?")
_LF: Final = ord("\n")
_CR: Final = ord("\r")
_LINE_END: Final = re.compile(rb"[\r\n]")
_EVENT_BEGIN: Final = re.compile(rb"(?:event: ?message(?:\r\n|\n))?data: ?")


class EventTooLarge(ValueError):
    """An event is larger than the limit."""


class ServerSentEvent(NamedTuple):
    """Data and type of one event; the data may be empty."""

    data: bytes
    event: bytes = MESSAGE


class EventDataStream:
    """Parser that returns the data of one event in parts."""

    def __init__(self) -> None:
        self.ended = False
        self._at_end: bytes | None = None
        """End of a line and the bytes after it, until the next line is recognizable."""

    def feed(self, chunk: bytes) -> bytes:
        """Return the data in this chunk, up to the end of the event."""
        parts: list[bytes] = []
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
                parts.append(b"\n")
                chunk = chunk[follows.end() :]
            end = _LINE_END.search(chunk)
            if end is None:
                parts.append(chunk)
                break
            parts.append(chunk[: end.start()])
            self._at_end, chunk = b"", chunk[end.start() :]
        return b"".join(parts)


def single_event_data(stream: bytes) -> bytes | None:
    """Return the data of a stream that is exactly one event with one line of data, or None."""
    match = _EVENT_BEGIN.match(stream)
    if match is None:
        return None
    start = match.end()
    if stream.endswith(b"\n\n", start):
        data = stream[start:-2]
    elif stream.endswith(b"\r\n\r\n", start):
        data = stream[start:-4]
    else:
        return None
    # A search for one byte is many times faster than a match of the bytes before it.
    return None if _LF in data or _CR in data else data


class EventStreamParser:
    """Incremental parser of an event stream; an incomplete event may have up to `limit` bytes.

    Attributes:
        last_id: The id of the last event that had one (`Last-Event-ID`), possibly empty; None at
            the beginning.
        retry: The reconnection time in milliseconds; None if unknown.
        lines: The number of lines so far.
    """

    def __init__(self, limit: int) -> None:
        self.last_id: bytes | None = None
        self.retry: int | None = None
        self.lines = 0
        self._limit = limit
        self._rest: list[bytes] = []
        """Bytes after the last line end, in parts."""
        self._kept = 0
        self._size = 0
        self._data: list[bytes] = []
        self._earlier: list[bytes] = []
        """Data of the current event, many lines joined to a piece."""
        self._event = MESSAGE
        self._id: bytes | None = None
        self._started = False
        self._after_return = False
        """True if the last line ended with a carriage return, to which a line feed may belong."""

    def feed(self, chunk: bytes) -> list[ServerSentEvent]:
        """Return the events that `chunk` completes. Raise EventTooLarge."""
        if self._after_return and chunk:
            self._after_return = False
            chunk = chunk.removeprefix(b"\n")
        end = max(chunk.rfind(b"\n"), chunk.rfind(b"\r")) + 1
        if not end:
            self._keep(chunk)
            return []
        whole = b"".join((*self._rest, chunk[:end])) if self._rest else chunk[:end]
        self._rest, self._kept = [], 0
        self._after_return = chunk.endswith(b"\r")
        lines = whole.splitlines()
        if not self._started:
            self._started, lines[0] = True, lines[0].removeprefix(_BOM)
        self.lines += len(lines)
        events = self._read(lines, exact=self._size + len(whole) > self._limit)
        if end < len(chunk):
            self._keep(chunk[end:])
        return events

    def _read(self, lines: list[bytes], *, exact: bool) -> list[ServerSentEvent]:
        """Return the events that these lines complete. If `exact` is set, one may be too large."""
        events: list[ServerSentEvent] = []
        start = 0
        for number, line in enumerate(lines):
            if line.startswith(b"data:"):
                self._data.append(line[6:] if line.startswith(b"data: ") else line[5:])
            elif line:
                self._field(line)
            else:
                if exact:
                    self._grow(lines[start:number])
                start, self._size = number + 1, 0
                if self._data or self._earlier:
                    events.append(self._complete())
                if self._id is not None:
                    self.last_id, self._id = self._id, None
                self._event = MESSAGE
        self._grow(lines[start:])
        if len(self._data) >= _PIECE:
            self._earlier.append(b"\n".join(self._data))
            self._data = []
        return events

    def _grow(self, lines: list[bytes]) -> None:
        """Count the size of lines of an event; an empty line counts as one byte."""
        self._size += sum(map(len, lines)) + len(lines)
        if self._size > self._limit:
            raise EventTooLarge(f"an event has more than {self._limit} bytes")

    def open_data(self, size: int) -> bytes | None:
        """Take the data received so far of an event, if that is more than `size` bytes, and if the
        event has neither an id nor another type than `message`.

        Return None for other events. `put_back` reverts this.
        """
        if self._kept + self._size <= size or self._id is not None or self._earlier:
            return None
        line = b"".join(self._rest)
        if not line.startswith(b"data:") or self._event != MESSAGE:
            return None
        data = b"\n".join((*self._data, line.removeprefix(b"data:").removeprefix(b" ")))
        if len(data) <= size:
            # Comments, field names and line ends are not counted, because they are not returned.
            return None
        self._rest, self._kept, self._data, self._size = [], 0, [], 0
        return data

    def put_back(self, data: bytes) -> None:
        """Restore the data of an incomplete event."""
        *self._data, line = data.split(b"\n")
        self._size = sum(map(len, self._data))
        self._keep(b"data: " + line)

    def _keep(self, part: bytes) -> None:
        """Buffer bytes without a line end."""
        if part:
            self._rest.append(part)
            self._kept += len(part)
        if self._kept + self._size > self._limit:
            raise EventTooLarge(f"an event has more than {self._limit} bytes")

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
