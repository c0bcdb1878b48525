"""The audit log of one process."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Literal

from msgspec import Raw

from mcpproxy.limits.audit import AUDIT_BACKLOG
from mcpproxy.proxy.audit.record import LOGGER, RequestOutcome, encode_decision, encode_text
from mcpproxy.proxy.audit.record_encoder import Entry, RecordEncoder
from mcpproxy.proxy.audit.record_queue import BATCH, Delivery, RecordQueue
from mcpproxy.proxy.audit.redaction import Redaction

if TYPE_CHECKING:
    from mcpproxy.api.v1alpha1.audit import Audit

Event = Literal["call", "list", "authentication"]
FIXED: Final = 192
"""Estimated size in bytes of a record without its description and arguments."""


class AuditLog:
    """Writes one record for each event."""

    def __init__(
        self,
        policy: "Audit",
        proxy: str,
        deliver: Delivery,
        now: Callable[[], float],
        *,
        capacity: int = AUDIT_BACKLOG.value,
        pause: float = BATCH,
    ) -> None:
        """Create a log for the proxy `proxy`; `now` returns seconds since the epoch.

        `capacity` and `pause` are those of the `RecordQueue`.
        """
        self.records_lists = bool(policy.lists)
        """True if requests for lists are recorded."""
        self.refuses = policy.on_full == "Refuse"
        """True if requests are refused while their records could not be written."""
        encoder = RecordEncoder(policy.arguments or "Digest", Redaction(policy.redact or ()))
        self._queue: RecordQueue[Entry] = RecordQueue(
            deliver, encoder.encode, capacity, pause=pause
        )
        self.put = self._queue.put
        """Queue an entry whose record has about a size in bytes. A required one, the third
        argument, is never dropped."""
        self.now = now
        self.records_arguments = encoder.keeps_arguments
        """True if records have the arguments of calls or their digest."""
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

    def describe(self, event: Event, caller: bytes, subject: bytes) -> bytes:
        """Return the part that all records of a caller and a subject have in common.

        `caller` and `subject` are the results of `encode_caller` and `encode_subject`.
        """
        members = b",".join([member for member in (caller, subject) if member])
        return b'%b%b",%b' % (self._middle, event.encode("ascii"), members)

    def record(
        self,
        event: Event,
        caller: bytes,
        subject: bytes,
        outcome: RequestOutcome,
        *,
        arguments: Raw | None = None,
        trace_parent: str = "",
    ) -> None:
        """Queue the record of an event.

        `caller` and `subject` are the results of `encode_caller` and `encode_subject`.
        """
        description = self.describe(event, caller, subject)
        decision = encode_decision(outcome.decision, outcome.outcome, outcome.network)
        seconds, size = outcome.seconds, outcome.response_bytes
        kept, length = None, FIXED + len(description)
        if arguments is not None and self.records_arguments:
            # A copy: they may be a part of a large request, which would stay in memory.
            kept = arguments.copy()
            length += len(kept)
        entry = (self.now(), description, decision, seconds, size, kept, trace_parent)
        # Senders without valid credentials must not make the queue grow.
        self.put(entry, length, self.refuses and event != "authentication")

    async def close(self) -> None:
        """Write the remaining records, for a bounded time."""
        await self._queue.close()
