"""Streams that a legacy client can go on with after a break (2025-11-25, transports: resumability).

A stream's events are kept under ids of our own; `Last-Event-ID` names where to go on.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

MAX_KEPT: Final = 4 * 1024 * 1024
"""Bytes of events that one stream keeps; beyond it the oldest can't be had again."""
MAX_KEPT_TOTAL: Final = 64 * 1024 * 1024
"""Bytes that all streams of a process keep; beyond it the oldest stream keeps nothing."""
KEPT_FOR: Final = 60.0
"""Seconds that a stream's events are kept after its end."""
MAX_DIGITS: Final = 18


class Lost(Exception):
    """Events that a client has not got are kept no longer."""


class EventLog:
    """The events of one stream."""

    def __init__(self, name: str, session: str, logs: "EventLogs") -> None:
        self.session = session
        self._name = name
        self._logs = logs
        self._events: list[bytes] = []
        self._next = 0
        self._news = asyncio.Event()
        self.size = 0
        self.ended_at: float | None = None

    def append(self, message: bytes) -> bytes:
        """Keep an event; its id."""
        number = self._next
        self._next += 1
        self._events.append(message)
        self._grow(len(message))
        while self.size > MAX_KEPT and len(self._events) > 1:
            self._grow(-len(self._events.pop(0)))
        self._news.set()
        self._logs.limit(self)
        return self._id(number)

    def empty(self) -> None:
        """Keep nothing of what was."""
        self._grow(-self.size)
        self._events = []
        self._news.set()

    def _grow(self, by: int) -> None:
        self.size += by
        self._logs.size += by

    def end(self, now: float) -> None:
        """The last event was appended."""
        self.ended_at = now
        self._news.set()

    def _id(self, number: int) -> bytes:
        return f"{self._name}-{number}".encode()

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
                    raise Lost
                number += 1
                yield self._id(number), self._events[number - self._next]
            if self.ended_at is not None:
                return
            self._news.clear()
            await self._news.wait()


class EventLogs:
    """Those of one process."""

    def __init__(self) -> None:
        self._logs: dict[str, EventLog] = {}
        self.size = 0
        """Bytes that all keep."""

    def open(self, name: str, session: str) -> EventLog:
        """Keep the events of a stream from now on."""
        log = self._logs[name] = EventLog(name, session, self)
        return log

    def find(self, name: str, session: str) -> EventLog | None:
        """The events of a stream of this session."""
        log = self._logs.get(name)
        return log if log is not None and log.session == session else None

    def limit(self, growing: EventLog) -> None:
        """Let the oldest streams go while all together keep too much."""
        for name, log in list(self._logs.items()) if self.size > MAX_KEPT_TOTAL else ():
            if log is not growing:
                self._drop(name, log)
            if self.size <= MAX_KEPT_TOTAL:
                return

    def _drop(self, name: str, log: EventLog) -> None:
        log.empty()
        if log.ended_at is not None:
            del self._logs[name]

    def forget(self, now: float) -> None:
        """Drop the events of streams that ended a while ago."""
        for name, log in list(self._logs.items()):
            if log.ended_at is not None and now - log.ended_at > KEPT_FOR:
                self._drop(name, log)

    def drop(self, session: str) -> None:
        """Drop the events of a session that has ended."""
        for name, log in list(self._logs.items()):
            if log.session == session:
                self._drop(name, log)


def position(event_id: bytes) -> tuple[str, int] | None:
    """Stream and number that an event id names; None when it is none of ours."""
    name, dash, number = event_id.decode("latin-1").rpartition("-")
    # Some characters of Latin-1 are digits to Python that int() refuses, as it does long numbers.
    is_number = number.isascii() and number.isdecimal() and len(number) <= MAX_DIGITS
    return (name, int(number)) if name and dash and is_number else None
