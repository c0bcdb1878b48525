"""Fair shares of open streams, and of their memory, for streams that belong to no call."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable

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

    def open(self, network: str, client: ClientIdentity) -> MessageQueue:
        """Open a stream to a client in a network; it ends when the client's token expires.

        Beyond the limit, end the oldest stream of the largest holder.
        """
        if self._shares.is_full:
            STREAMS.record()
            oldest = self._shares.choose()
            if oldest is not None:
                self._shares.discard(oldest)
                oldest.end()
        stream = MessageQueue(self._count)
        self._shares.add(stream, (network, client.principal))
        if client.identity is not ANONYMOUS:
            self._limit(stream, client.identity)
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
            if identity.issuer == issuer and subject in (None, identity.subject):
                stream.end()

    def close(self, stream: MessageQueue) -> None:
        """Remove a closed stream and its queued messages."""
        self._shares.discard(stream)
        _, timer = self._identities.pop(stream, (None, None))
        if timer is not None:
            timer.cancel()
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
