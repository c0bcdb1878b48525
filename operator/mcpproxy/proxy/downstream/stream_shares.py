"""Fair shares of open streams, and of their memory, for streams that belong to no call."""

from collections import Counter

from mcpproxy.limits.clients import ALL_OUTBOX_BYTES, STREAMS
from mcpproxy.proxy.downstream.message_queue import MessageQueue
from mcpproxy.proxy.fair_shares import FairShares, Holder


class OpenStreams:
    """Open streams of one process."""

    def __init__(self) -> None:
        self._shares: FairShares[MessageQueue] = FairShares(STREAMS.value)
        self._size = 0

    def open(self, holder: Holder) -> MessageQueue:
        """Open a stream; beyond the limit, end the oldest stream of the largest holder."""
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
        """Remove a closed stream and its queued messages."""
        self._shares.discard(stream)
        stream.drop()

    def end(self) -> None:
        """End all streams and deliver their queued messages."""
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
