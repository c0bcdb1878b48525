"""Open streams that belong to no call: each client has its share of them and of their memory."""

from collections import Counter

from mcpproxy.limits.clients import ALL_OUTBOX_BYTES, STREAMS
from mcpproxy.proxy.downstream.message_queue import MessageQueue
from mcpproxy.proxy.fair_shares import FairShares, Holder


class OpenStreams:
    """The streams of one process."""

    def __init__(self) -> None:
        self._shares: FairShares[MessageQueue] = FairShares(STREAMS.value)
        self._size = 0

    def open(self, holder: Holder) -> MessageQueue:
        """Open a stream; beyond the limit, the oldest of whoever has most ends."""
        if self._shares.is_full:
            STREAMS.record()
            oldest = self._shares.choose()
            if oldest is not None:
                self._shares.discard(oldest)
                oldest.end()
        stream = MessageQueue(self._count)
        self._shares.add(stream, holder)
        return stream

    def close(self, stream: MessageQueue) -> None:
        """Forget a stream that has ended, and what waits for it."""
        self._shares.discard(stream)
        stream.drop()

    def end(self) -> None:
        """End all streams properly."""
        for stream in self._shares:
            stream.end()

    def _count(self, by: int) -> None:
        self._size += by
        if by > 0 and self._size > ALL_OUTBOX_BYTES.value:
            self._make_room()

    def _make_room(self) -> None:
        """End the fullest streams of whoever has most waiting, until a quarter is free.

        A quarter at once: streams are many, and each may bring the next byte.
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
