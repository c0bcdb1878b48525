"""Open streams that belong to no call: each client has its share of them."""

from mcpproxy.limits.clients import STREAMS
from mcpproxy.proxy.core.shares import Holder, Shares
from mcpproxy.proxy.front.outbox import Outbox


class StandingStreams:
    """The streams of one process; beyond the limit one ends for each that opens."""

    def __init__(self) -> None:
        self._shares: Shares[Outbox] = Shares(STREAMS.value)

    def add(self, stream: Outbox, holder: Holder) -> None:
        """Add a stream that opens."""
        if self._shares.is_full:
            STREAMS.record()
            oldest = self._shares.choose()
            if oldest is not None:
                self._shares.discard(oldest)
                oldest.end()
        self._shares.add(stream, holder)

    def discard(self, stream: Outbox) -> None:
        """Remove a stream that has ended."""
        self._shares.discard(stream)

    def end(self) -> None:
        """End all streams properly."""
        for stream in self._shares:
            stream.end()
