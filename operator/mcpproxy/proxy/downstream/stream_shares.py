"""Fair shares of open streams, and of their memory, for streams that belong to no call."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from mcpproxy.limits import clients as limits
from mcpproxy.limits.clients import ALL_OUTBOX_BYTES, STREAMS
from mcpproxy.proxy.core.exchange import ClientIdentity
from mcpproxy.proxy.core.identity import ANONYMOUS, Identity
from mcpproxy.proxy.downstream.message_queue import MessageQueue
from mcpproxy.proxy.fair_shares import FairShares, Holder


class OpenStreams:
    """Open streams of one process."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        """`now` returns the seconds since the epoch."""
        self._now = now
        self._identities: dict[MessageQueue, tuple[Identity, asyncio.TimerHandle | None]] = {}
        """Identities of the callers of streams, and the timers of those that expire."""
        self._shares: FairShares[MessageQueue] = FairShares(STREAMS.value)
        self._size = 0
        self._have_ended = False

    def open(self, network: str, client: ClientIdentity) -> MessageQueue:
        """Open a stream to a client in a network; it ends when the client's token expires.

        Beyond the limit, end the oldest stream of the largest holder. After `end`, the stream
        ends at once.
        """
        if self._shares.is_full:
            STREAMS.record()
            oldest = self._shares.choose()
            if oldest is not None:
                self._shares.discard(oldest)
                oldest.end()
        stream = MessageQueue(self._count)
        self._shares.add(stream, (network, client.user))
        if client.identity is not ANONYMOUS:
            self._limit(stream, client.identity)
        if self._have_ended:
            stream.end()
        return stream

    def _limit(self, stream: MessageQueue, identity: Identity) -> None:
        lifetime, timer = identity.stream_lifetime(self._now()), None
        if lifetime is not None:
            timer = asyncio.get_running_loop().call_later(lifetime, stream.end)
        self._identities[stream] = identity, timer

    def end_revoked(self, issuer: str, subject: str | None) -> None:
        """End the streams of callers of an issuer whose credentials may count no longer.

        `subject` is None if it may be any of the issuer's.
        """
        for stream, (identity, _) in self._identities.items():
            if identity.is_of(issuer, subject):
                stream.end()

    def close(self, stream: MessageQueue) -> None:
        """Remove a closed stream and its queued messages."""
        self._shares.discard(stream)
        _, timer = self._identities.pop(stream, (None, None))
        if timer is not None:
            timer.cancel()
        stream.drop()

    def end(self) -> None:
        """End all streams, also those that are opened later, and deliver their queued messages."""
        self._have_ended = True
        for stream in self._shares:
            stream.end()

    def _count(self, by: int) -> None:
        self._size += by
        if by > 0 and self._size > ALL_OUTBOX_BYTES.value:
            self._make_room()

    def _make_room(self) -> None:
        """End the fullest streams of the holders with most bytes until a quarter is free.

        A quarter at once, because streams are many, and each may add the next byte.
        """
        waiting: Counter[Holder] = Counter()
        for stream in self._shares:
            waiting[self._shares.holder(stream)] += stream.size

        def fullness(stream: MessageQueue) -> tuple[int, int]:
            return waiting[self._shares.holder(stream)], stream.size

        for stream in sorted(self._shares, key=fullness, reverse=True):
            if self._size <= ALL_OUTBOX_BYTES.value * 3 // 4:
                return
            ALL_OUTBOX_BYTES.record()
            stream.drop()


class StdioWorkload:
    """Tasks that process messages, limited in the number of messages and in bytes."""

    def __init__(self) -> None:
        self.tasks: set[asyncio.Task[None]] = set()
        self._messages = 0
        self._bytes = 0
        self._completed = asyncio.Event()

    def fits(self, size: int) -> bool:
        """Return True if a message of this size fits the limits, or is the only one."""
        if not self.tasks:
            return True
        room = limits.STDIO_MESSAGE_BYTES.value - self._bytes
        return self._messages < limits.STDIO_MESSAGES.value and size <= room

    def spawn(self, work: Coroutine[Any, Any, None], size: int, messages: int = 1) -> None:
        """Process messages with this total size in a new task."""
        task = asyncio.create_task(work)
        self.tasks.add(task)
        self._messages += messages
        self._bytes += size

        def over(task: "asyncio.Task[None]") -> None:
            self.tasks.discard(task)
            self._messages -= messages
            self._bytes -= size
            self._completed.set()

        task.add_done_callback(over)

    async def wait_for_completion(self, seconds: float) -> bool:
        """Wait until a task has ended, for at most `seconds`; return True if one has."""
        self._completed.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._completed.wait()
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """Cancel all tasks."""
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
