"""Queue of audit records that a thread delivers, so that a slow reader never blocks calls."""

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import SimpleQueue
from typing import Final, Generic, TypeVar

from mcpproxy.limits.audit import AUDIT_BACKLOG

Delivery = Callable[[Sequence[bytes]], None]
"""Delivers records and blocks until that is done. Raises OSError if they are lost."""

BATCH: Final = 0.02
"""Seconds for which records are collected before they are delivered together."""
TOGETHER: Final = 256
"""Number of entries that are encoded together, which is faster than one by one between calls. All
calls wait until it is done, which takes about 0.4 ms."""
CLOSE: Final = 2.0
"""Seconds for which `close` waits until all records are delivered."""
log = logging.getLogger("mcpproxy.audit")
Entry = TypeVar("Entry")


class RecordQueue(Generic[Entry]):
    """Encodes entries and delivers the records in batches, in their order."""

    def __init__(
        self,
        deliver: Delivery,
        encode: Callable[[Sequence[Entry]], list[bytes]],
        capacity: int = AUDIT_BACKLOG.value,
        *,
        pause: float = BATCH,
        closing: float = CLOSE,
    ) -> None:
        """Create a queue that holds about `capacity` bytes; the other times are in seconds."""
        self.dropped = 0
        """Number of records that were not delivered."""
        self._deliver = deliver
        self._encode = encode
        self._capacity = capacity
        self._pause = pause
        self._closing = closing
        self._entries: list[Entry] = []
        self._records: list[bytes] = []
        self._held = 0
        self._estimated = 0
        """Part of `_held` that is the estimated size of entries."""
        self._timer: asyncio.TimerHandle | None = None
        self._is_delivering = False
        self._thread: threading.Thread | None = None
        """The thread that delivers; to start one for each batch would stop the event loop."""
        self._batches: SimpleQueue[Sequence[bytes] | None] = SimpleQueue()
        """The batch that is delivered next; None ends the thread."""
        self._idle = asyncio.Event()
        self._idle.set()
        self._failing = False
        self._is_closing = False

    @property
    def is_full(self) -> bool:
        """True if more records are dropped at present."""
        return self._held >= self._capacity

    def put(self, entry: Entry, size: int, required: bool = False) -> None:
        """Queue an entry whose record has about `size` bytes.

        If too many wait, it is dropped and counted, unless it is required.
        """
        if self._held >= self._capacity and not required:
            self.dropped += 1
            AUDIT_BACKLOG.record()
            return
        self._entries.append(entry)
        self._held += size
        self._estimated += size
        if len(self._entries) >= TOGETHER:
            self._encode_entries()
        if self._timer is None and not self._is_delivering:
            self._idle.clear()
            self._start_timer()

    def _encode_entries(self) -> None:
        records = self._encode(self._entries)
        self._records += records
        self._held += sum(map(len, records)) - self._estimated
        self._estimated = 0
        self._entries.clear()

    def _start_timer(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._pause, self._start_delivery)

    def _start_delivery(self) -> None:
        self._timer = None
        self._encode_entries()
        batch, self._records = self._records, []
        self._is_delivering = True
        self._batches.put(batch)
        if self._thread is None:
            loop = asyncio.get_running_loop()
            # A daemon: a reader that never reads must not keep the process from ending.
            self._thread = threading.Thread(target=self._run, args=(loop,), daemon=True)
            self._thread.start()

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        while (batch := self._batches.get()) is not None:
            error: OSError | None = None
            try:
                self._deliver(batch)
            except OSError as failure:
                error = failure
            with suppress(RuntimeError):
                # The loop may be closed by now.
                loop.call_soon_threadsafe(self._on_delivered, batch, error)

    def _on_delivered(self, batch: Sequence[bytes], error: OSError | None) -> None:
        self._is_delivering = False
        self._held -= sum(map(len, batch))
        if error is not None:
            self.dropped += len(batch)
            if not self._failing:
                log.error("audit records are lost: %s", error)
        self._failing = error is not None
        if not self._records and not self._entries:
            self._idle.set()
        elif self._is_closing:
            self._start_delivery()
        else:
            # To wake the thread for each few records would cost more than the records.
            self._start_timer()

    async def close(self) -> None:
        """Deliver the remaining records, for a bounded time."""
        self._is_closing = True
        if self._timer is not None:
            self._timer.cancel()
            self._start_delivery()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._closing):
                await self._idle.wait()
        self._batches.put(None)
        self._thread = None
