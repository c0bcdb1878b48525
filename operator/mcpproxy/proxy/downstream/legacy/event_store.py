"""Event streams that a legacy client can resume (2025-11-25, transports: resumability).

The proxy keeps the events of a stream under its own ids; `Last-Event-ID` names the last one that
the client received.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Final

from mcpproxy.limits.clients import ALL_EVENTS, EVENT_STREAMS, EVENTS_KEPT_FOR, STREAM_EVENTS
from mcpproxy.proxy.fair_shares import FairShares, Holder

MAX_DIGITS: Final = 18
EVENT_OVERHEAD: Final = 64
"""Bytes of memory that an event takes besides its message."""


class EventsEvicted(Exception):
    """Events were dropped before the client received them."""


class StreamLog:
    """The events of one stream."""

    def __init__(self, name: str, session: str, holder: Holder, logs: "EventStore") -> None:
        self.session = session
        self.name = name
        self.holder = holder
        self._logs = logs
        self._events: deque[bytes] = deque()
        self._next = 0
        self._news = asyncio.Event()
        self.size = 0
        self.ended_at: float | None = None

    def append(self, message: bytes) -> bytes:
        """Keep an event and return its id."""
        number = self._next
        self._next += 1
        self._events.append(message)
        self._grow(len(message) + EVENT_OVERHEAD)
        while self.size > STREAM_EVENTS.value and len(self._events) > 1:
            STREAM_EVENTS.record()
            self._grow(-len(self._events.popleft()) - EVENT_OVERHEAD)
        self._news.set()
        self._logs.limit(self)
        return self._id(number)

    def empty(self) -> None:
        """Drop all events."""
        self._grow(-self.size)
        self._events = deque()
        self._news.set()

    def _grow(self, by: int) -> None:
        self.size += by
        self._logs.grow(self, by)

    def end(self, now: float) -> None:
        """Mark the stream as complete at the time `now`."""
        if self.ended_at is None:
            self.ended_at = now
            self._logs.has_ended(self)
        self._news.set()

    def _id(self, number: int) -> bytes:
        return f"{self.name}-{number}".encode()

    def has(self, number: int) -> bool:
        """True if no event after event `number` was dropped."""
        return self._next - len(self._events) <= number + 1 <= self._next

    async def after(self, number: int) -> AsyncIterator[tuple[bytes, bytes]]:
        """Yield the events after event `number` with their ids, until the stream ends.

        Raises EventsEvicted if events were dropped before they were read.
        """
        while True:
            while number + 1 < self._next:
                if not self.has(number):
                    raise EventsEvicted
                number += 1
                yield self._id(number), self._events[number - self._next]
            if self.ended_at is not None:
                return
            self._news.clear()
            await self._news.wait()


class _StoredEvent:
    """The streams of one holder, the oldest first."""

    def __init__(self) -> None:
        self.logs: dict[str, StreamLog] = {}
        self.size = 0

    def grow(self, by: int) -> None:
        """Add to the size of the streams."""
        self.size += by


class EventStore:
    """All event logs of one process; clients share the memory fairly."""

    def __init__(self) -> None:
        self._logs: dict[str, StreamLog] = {}
        self._holders: dict[Holder, _StoredEvent] = {}
        self._ended: FairShares[str] = FairShares(EVENT_STREAMS.value)
        """Holders of the streams that have ended."""
        self.size = 0
        """Bytes of all events."""

    def open(self, name: str, session: str, holder: Holder = ("", "")) -> StreamLog:
        """Create the log of a stream."""
        log = self._logs[name] = StreamLog(name, session, holder, self)
        self._holders.setdefault(holder, _StoredEvent()).logs[name] = log
        return log

    def find(self, name: str, session: str) -> StreamLog | None:
        """Return the log of a stream of this session, or None."""
        log = self._logs.get(name)
        return log if log is not None and log.session == session else None

    def grow(self, log: StreamLog, by: int) -> None:
        """Add a number of bytes, which may be negative, to the size of a stream."""
        self.size += by
        if log.name in self._logs:
            self._holders[log.holder].grow(by)

    def limit(self, growing: StreamLog) -> None:
        """Empty the oldest streams of the largest holder while the total size exceeds the limit."""
        while self.size > ALL_EVENTS.value:
            ALL_EVENTS.record()
            oldest = self._droppable(growing)
            if oldest is None:
                return
            self._drop(oldest)

    def _droppable(self, growing: StreamLog) -> StreamLog | None:
        """Return the oldest stream of the largest holder, except the growing one."""
        own = self._holders.get(growing.holder)

        def weight(kept: _StoredEvent) -> tuple[int, bool]:
            return kept.size - (growing.size if kept is own else 0), kept is own

        heaviest = max(self._holders.values(), key=weight)
        others = (log for log in heaviest.logs.values() if log.size and log is not growing)
        return next(others, None)

    def has_ended(self, log: StreamLog) -> None:
        """Note the end of a stream; beyond the limit, drop another one."""
        if log.name not in self._logs:
            return
        if self._ended.is_full:
            EVENT_STREAMS.record()
            oldest = self._ended.choose()
            if oldest is not None:
                self._drop(self._logs[oldest])
        self._ended.add(log.name, log.holder)

    def _drop(self, log: StreamLog) -> None:
        log.empty()
        if log.ended_at is not None and self._logs.pop(log.name, None) is not None:
            self._ended.discard(log.name)
            kept = self._holders[log.holder]
            del kept.logs[log.name]
            if not kept.logs:
                del self._holders[log.holder]

    def forget(self, now: float) -> None:
        """Drop the streams that ended more than EVENTS_KEPT_FOR seconds before `now`."""
        for name in list(self._ended):
            log = self._logs[name]
            if log.ended_at is not None and now - log.ended_at > EVENTS_KEPT_FOR.value:
                self._drop(log)

    def drop(self, session: str) -> None:
        """Drop the streams of a session."""
        for log in list(self._logs.values()):
            if log.session == session:
                self._drop(log)


def parse_event_id(event_id: bytes) -> tuple[str, int] | None:
    """Return the stream and the number in an event id; None if it is not from this proxy."""
    name, dash, number = event_id.decode("latin-1").rpartition("-")
    # int() refuses long numbers, and some Latin-1 characters that count as digits in Python.
    is_number = number.isascii() and number.isdecimal() and len(number) <= MAX_DIGITS
    return (name, int(number)) if name and dash and is_number else None
