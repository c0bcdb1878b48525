"""Queue of audit records that a thread delivers, so that a slow reader never blocks calls."""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from mcpproxy.limits.audit import AUDIT_BACKLOG

Delivery = Callable[[Sequence[bytes]], None]
"""Delivers records and blocks until that is done. Raises OSError if they are lost."""

BATCH: Final = 0.02
"""Seconds for which records are collected before they are delivered together."""
CLOSE: Final = 2.0
"""Seconds for which `close` waits until all records are delivered."""
log = logging.getLogger("mcpproxy.audit")


class RecordQueue:
    """Delivers records in batches, in their order."""

    def __init__(
        self,
        deliver: Delivery,
        capacity: int = AUDIT_BACKLOG.value,
        *,
        pause: float = BATCH,
        closing: float = CLOSE,
    ) -> None:
        """Create a queue that holds about `capacity` bytes; the other times are in seconds."""
        self.dropped = 0
        """Number of records that were not delivered."""
        self._deliver = deliver
        self._capacity = capacity
        self._pause = pause
        self._closing = closing
        self._records: deque[bytes] = deque()
        self._held = 0
        self._timer: asyncio.TimerHandle | None = None
        self._thread: threading.Thread | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._failing = False

    @property
    def is_full(self) -> bool:
        """True if more records are dropped at present."""
        return self._held >= self._capacity

    def put(self, record: bytes, *, required: bool = False) -> None:
        """Queue a record. If too many wait, it is dropped and counted, unless it is required."""
        if self._held >= self._capacity and not required:
            self.dropped += 1
            AUDIT_BACKLOG.record()
            return
        self._records.append(record)
        self._held += len(record)
        if self._timer is None and self._thread is None:
            self._idle.clear()
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._pause, self._start_delivery)

    def _start_delivery(self) -> None:
        self._timer = None
        batch = list(self._records)
        self._records.clear()
        loop = asyncio.get_running_loop()
        # A daemon: a reader that never reads must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, args=(loop, batch), daemon=True)
        self._thread.start()

    def _run(self, loop: asyncio.AbstractEventLoop, batch: Sequence[bytes]) -> None:
        error: OSError | None = None
        try:
            self._deliver(batch)
        except OSError as failure:
            error = failure
        with suppress(RuntimeError):
            # The loop may be closed by now.
            loop.call_soon_threadsafe(self._on_delivered, batch, error)

    def _on_delivered(self, batch: Sequence[bytes], error: OSError | None) -> None:
        self._thread = None
        self._held -= sum(map(len, batch))
        if error is not None:
            self.dropped += len(batch)
            if not self._failing:
                log.error("audit records are lost: %s", error)
        self._failing = error is not None
        if self._records:
            self._start_delivery()
        else:
            self._idle.set()

    async def close(self) -> None:
        """Deliver the remaining records, for a bounded time."""
        if self._timer is not None:
            self._timer.cancel()
            self._start_delivery()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._closing):
                await self._idle.wait()
