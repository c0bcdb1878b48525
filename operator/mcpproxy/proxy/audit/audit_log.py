"""The audit log of one process."""

from collections.abc import Callable
from typing import Final, Literal, NamedTuple

from msgspec import Raw

from mcpproxy.api.v1alpha1.audit import Audit
from mcpproxy.limits.audit import AUDIT_BACKLOG
from mcpproxy.proxy.audit.record import (
    LOGGER,
    ArgumentsEncoder,
    RequestOutcome,
    Timestamps,
    encode_outcome,
    encode_text,
)
from mcpproxy.proxy.audit.record_queue import BATCH, Delivery, RecordQueue
from mcpproxy.proxy.audit.redaction import Redaction

Event = Literal["call", "list", "authentication"]
HEAD: Final = 256
"""Estimated size in bytes of a record without its caller, subject and arguments."""


class _Entry(NamedTuple):
    time: float
    event: Event
    caller: bytes
    subject: bytes
    outcome: RequestOutcome
    arguments: bytes | None
    trace_parent: str


class AuditLog:
    """Writes one record for each event."""

    def __init__(
        self,
        policy: Audit,
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
        self._queue = RecordQueue(deliver, self._encode, capacity, pause=pause)
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
    def records_arguments(self) -> bool:
        """True if records have the arguments of calls or their digest."""
        return self._arguments.records

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
        # A copy: the arguments may be a part of a large request, which would stay in memory.
        kept = None if arguments is None or not self._arguments.records else bytes(arguments)
        size = HEAD + len(caller) + len(subject) + (0 if kept is None else len(kept))
        entry = _Entry(self._now(), event, caller, subject, outcome, kept, trace_parent)
        # Senders without valid credentials must not make the queue grow.
        required = self.refuses and event != "authentication"
        self._queue.put(entry, size, required=required)

    def _encode(self, entry: _Entry) -> bytes:
        """Return the record of an entry as one line of JSON."""
        seconds, event, caller, subject, outcome, arguments, trace_parent = entry
        time = self._timestamps.format(seconds)
        members = (
            caller,
            subject,
            self._arguments.encode(arguments),
            encode_outcome(outcome),
            trace_parent and b'"traceparent":' + encode_text(trace_parent),
        )
        return b'{"time":"%b%b%b",%b}' % (
            *(time, self._middle, event.encode("ascii")),
            b",".join([member for member in members if member]),
        )

    async def close(self) -> None:
        """Write the remaining records, for a bounded time."""
        await self._queue.close()
