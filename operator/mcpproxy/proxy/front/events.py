"""Streams that a legacy client can go on with after a break (2025-11-25, transports: resumability).

A stream's events are kept under ids of our own; `Last-Event-ID` names where to go on.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

MAX_KEPT: Final = 4 * 1024 * 1024
"""Bytes of events that one stream keeps; beyond it the oldest can't be had again."""
KEPT_FOR: Final = 60.0
"""Seconds that a stream's events are kept after its end."""


class EventLog:
    """The events of one stream."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._events: list[tuple[int, bytes]] = []
        self._next = 0
        self._size = 0
        self._news = asyncio.Event()
        self.ended_at: float | None = None

    def append(self, message: bytes) -> bytes:
        """Keep an event; its id."""
        number = self._next
        self._next += 1
        self._events.append((number, message))
        self._size += len(message)
        while self._size > MAX_KEPT and len(self._events) > 1:
            self._size -= len(self._events.pop(0)[1])
        self._news.set()
        return self._id(number)

    def end(self, now: float) -> None:
        """The last event was appended."""
        self.ended_at = now
        self._news.set()

    def _id(self, number: int) -> bytes:
        return f"{self._name}-{number}".encode()

    async def after(self, number: int) -> AsyncIterator[tuple[bytes, bytes]]:
        """The events after this one, as they come, with their ids, until the stream's end."""
        while True:
            for found, message in list(self._events):
                if found > number:
                    number = found
                    yield self._id(found), message
            if self.ended_at is not None:
                return
            self._news.clear()
            await self._news.wait()


def position(event_id: bytes) -> tuple[str, int] | None:
    """Stream and number that an event id names; None when it is none of ours."""
    name, dash, number = event_id.decode("latin-1").rpartition("-")
    return (name, int(number)) if name and dash and number.isdigit() else None
