"""Streams that a legacy client can go on with after a break (2025-11-25, transports: resumability).

A stream's events are kept under ids of our own; `Last-Event-ID` names where to go on.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Final

from mcpproxy.limits.clients import ALL_EVENTS, EVENT_STREAMS, EVENTS_KEPT_FOR, STREAM_EVENTS
from mcpproxy.proxy.fair_shares import FairShares, Holder

MAX_DIGITS: Final = 18
EVENT_OVERHEAD: Final = 64
"""Bytes that an event takes besides its message."""


class EventsEvicted(Exception):
    """Events that a client has not got are kept no longer."""


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
        """Keep an event; its id."""
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
        """Keep nothing of what was."""
        self._grow(-self.size)
        self._events = deque()
        self._news.set()

    def _grow(self, by: int) -> None:
        self.size += by
        self._logs.grow(self, by)

    def end(self, now: float) -> None:
        """The last event was appended."""
        if self.ended_at is None:
            self.ended_at = now
            self._logs.has_ended(self)
        self._news.set()

    def _id(self, number: int) -> bytes:
        return f"{self.name}-{number}".encode()

    def has(self, number: int) -> bool:
        """Whether everything after this event is still there, or still to come."""
        return self._next - len(self._events) <= number + 1 <= self._next

    async def after(self, number: int) -> AsyncIterator[tuple[bytes, bytes]]:
        """The events after this one, as they come, with their ids, until the stream's end.

        Raises Lost when the reader is so slow that some are kept no longer.
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


class EventStore:
    """The event logs of one process: each client has its share of the memory for them."""

    def __init__(self) -> None:
        self._logs: dict[str, StreamLog] = {}
        self._holders: dict[Holder, _StoredEvent] = {}
        self._ended: FairShares[str] = FairShares(EVENT_STREAMS.value)
        """Whose the streams are that have ended."""
        self.size = 0
        """Bytes that all keep."""

    def open(self, name: str, session: str, holder: Holder = ("", "")) -> StreamLog:
        """Keep the events of a stream from now on."""
        log = self._logs[name] = StreamLog(name, session, holder, self)
        self._holders.setdefault(holder, _StoredEvent()).logs[name] = log
        return log

    def find(self, name: str, session: str) -> StreamLog | None:
        """The events of a stream of this session."""
        log = self._logs.get(name)
        return log if log is not None and log.session == session else None

    def grow(self, log: StreamLog, by: int) -> None:
        """Count bytes that a stream keeps more, or less."""
        self.size += by
        if log.name in self._logs:
            self._holders[log.holder].size += by

    def limit(self, growing: StreamLog) -> None:
        """Empty the oldest streams of whoever keeps most while all together keep too much."""
        while self.size > ALL_EVENTS.value:
            ALL_EVENTS.record()
            oldest = self._droppable(growing)
            if oldest is None:
                return
            self._drop(oldest)

    def _droppable(self, growing: StreamLog) -> StreamLog | None:
        """The oldest stream of whoever keeps most, besides the one that grows."""
        own = self._holders.get(growing.holder)

        def weight(kept: _StoredEvent) -> tuple[int, bool]:
            return kept.size - (growing.size if kept is own else 0), kept is own

        heaviest = max(self._holders.values(), key=weight)
        others = (log for log in heaviest.logs.values() if log.size and log is not growing)
        return next(others, None)

    def has_ended(self, log: StreamLog) -> None:
        """Note the end of a stream; beyond the limit, another one is forgotten."""
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
        """Drop the events of streams that ended a while ago."""
        for name in list(self._ended):
            log = self._logs[name]
            if log.ended_at is not None and now - log.ended_at > EVENTS_KEPT_FOR.value:
                self._drop(log)

    def drop(self, session: str) -> None:
        """Drop the events of a session that has ended."""
        for log in list(self._logs.values()):
            if log.session == session:
                self._drop(log)


def parse_event_id(event_id: bytes) -> tuple[str, int] | None:
    """Stream and number that an event id names; None when it is none of ours."""
    name, dash, number = event_id.decode("latin-1").rpartition("-")
    # Some characters of Latin-1 are digits to Python that int() refuses, as it does long numbers.
    is_number = number.isascii() and number.isdecimal() and len(number) <= MAX_DIGITS
    return (name, int(number)) if name and dash and is_number else None
