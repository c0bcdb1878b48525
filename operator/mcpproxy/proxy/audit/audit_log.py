"""The audit log of one process."""

from collections.abc import Callable
from typing import Literal

from msgspec import Raw

from mcpproxy.api.v1alpha1.audit import Audit
from mcpproxy.proxy.audit.record import (
    LOGGER,
    ArgumentsEncoder,
    RequestOutcome,
    Timestamps,
    encode_outcome,
    encode_text,
)
from mcpproxy.proxy.audit.record_queue import RecordQueue
from mcpproxy.proxy.audit.redaction import Redaction

Event = Literal["call", "list", "authentication"]


class AuditLog:
    """Writes one record for each event."""

    def __init__(
        self, policy: Audit, proxy: str, queue: RecordQueue, now: Callable[[], float]
    ) -> None:
        """Create a log for the proxy `proxy`; `now` returns seconds since the epoch."""
        self.records_lists = bool(policy.lists)
        """True if requests for lists are recorded."""
        self.refuses = policy.on_full == "Refuse"
        """True if requests are refused while their records could not be written."""
        self._queue = queue
        self._now = now
        self._arguments = ArgumentsEncoder(
            policy.arguments or "Digest", Redaction(policy.redact or ())
        )
        self._timestamps = Timestamps()
        self._middle = b'","logger":"%b","proxy":%b,"event":"' % (
            LOGGER.encode("ascii"),
            encode_text(proxy),
        )

    @property
    def is_refusing(self) -> bool:
        """True if calls must be refused, because their records could not be written."""
        return self.refuses and self._queue.is_full

    @property
    def dropped(self) -> int:
        """Number of records that were not written."""
        return self._queue.dropped

    def record(
        self,
        event: Event,
        caller: bytes,
        subject: bytes,
        outcome: RequestOutcome,
        *,
        arguments: Raw | bytes | None = None,
        trace_parent: str = "",
    ) -> None:
        """Queue the record of an event.

        `caller` and `subject` are the results of `encode_caller` and `encode_subject`.
        """
        parts = [caller, subject]
        if encoded := self._arguments.encode(arguments):
            parts.append(encoded)
        parts.append(encode_outcome(outcome))
        if trace_parent:
            parts.append(b'"traceparent":' + encode_text(trace_parent))
        members = b",".join(filter(None, parts))
        time = self._timestamps.format(self._now())
        head = b'{"time":"%b%b%b",' % (time, self._middle, event.encode("ascii"))
        # Senders without valid credentials must not make the queue grow.
        required = self.refuses and event != "authentication"
        self._queue.put(head + members + b"}", required=required)

    async def close(self) -> None:
        """Write the remaining records, for a bounded time."""
        await self._queue.close()
