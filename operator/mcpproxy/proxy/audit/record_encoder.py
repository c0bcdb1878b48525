"""Encoder of audit records: lines of JSON, joined from parts that are encoded already.

There is one record for each call, so that the parts are joined in one step, and no function is
called for parts that all records have.
"""

import time
from collections.abc import Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Raw

from mcpproxy.limits.audit import AUDITED_ARGUMENTS
from mcpproxy.proxy.audit.record import encode_text
from mcpproxy.proxy.audit.redaction import Redaction
from mcpproxy.proxy.core.catalog.digests import canonical_json

if TYPE_CHECKING:
    from mcpproxy.api.v1alpha1.audit import AuditedArguments

Entry = tuple[float, bytes, bytes, float | None, int | None, Raw | None, str]
"""Time, description, decision, duration in seconds, size, arguments and trace parent. Plain tuples
are created faster than anything with names."""

_NO_BYTES: Final = sha256()
_DIGEST: Final = b',"argumentsDigest":"'
_BYTES: Final = b'","argumentsBytes":'
_DURATION: Final = b',"durationMs":'
_SIZE: Final = b',"responseBytes":'
_FEW: Final = 1000
_DECIMALS: Final = tuple(b"%d" % number for number in range(_FEW))
_FRACTIONS: Final = tuple(b".%03d" % number for number in range(_FEW))
"""Encoded numbers; formatting a number takes as long as joining ten parts."""


class RecordEncoder:
    """Encoder of the records of one log."""

    def __init__(self, recorded: "AuditedArguments", redaction: Redaction) -> None:
        self.keeps_arguments = recorded != "None"
        """True if records have the arguments of calls or their digest."""
        self._shows_arguments = recorded == "Full"
        self._redaction = redaction
        self._milliseconds = self._second = -1
        self._prefix = self._time = b""

    def encode(self, entries: Sequence[Entry]) -> list[bytes]:
        """Return the records of entries, each as one line of JSON."""
        records, join, is_plain = [], b"".join, not self._shows_arguments
        # A copy is made faster than a new one.
        new_hash = _NO_BYTES.copy
        for entry in entries:
            at, description, decision, seconds, size, arguments, trace_parent = entry
            if int(at * 1000) != self._milliseconds:
                self._set_time(int(at * 1000))
            if arguments is None or seconds is None or size is None or trace_parent:
                records.append(self._encode_other(entry))
                continue
            length, microseconds = len(arguments), int(seconds * 1_000_000 + 0.5)
            whole = microseconds // 1000
            if not (is_plain and length < _FEW and 0 <= whole < _FEW):
                records.append(self._encode_other(entry))
                continue
            digest = new_hash()
            digest.update(canonical_json(arguments))
            # Most records have these members. A tuple is joined faster than a list that grows.
            record = (
                self._time,
                description,
                _DIGEST,
                digest.hexdigest().encode(),
                _BYTES,
                _DECIMALS[length],
                decision,
                _DURATION,
                _DECIMALS[whole],
                _FRACTIONS[microseconds % 1000],
                _SIZE,
                _DECIMALS[size] if size < _FEW else b"%d" % size,
                b"}",
            )
            records.append(join(record))
        return records

    def _encode_other(self, entry: Entry) -> bytes:
        """Return a record with any members."""
        _, description, decision, seconds, size, arguments, trace_parent = entry
        parts = [self._time, description]
        if arguments is not None:
            shown = self._show(arguments) if self._shows_arguments else None
            if shown is None:
                digest = sha256(canonical_json(arguments)).hexdigest().encode()
                parts += (_DIGEST, digest, _BYTES, b"%d" % len(arguments))
            else:
                parts += (b',"arguments":', shown)
        parts.append(decision)
        if seconds is not None:
            parts += (_DURATION, b"%.3f" % (seconds * 1000))
        if size is not None:
            parts += (_SIZE, b"%d" % size)
        if trace_parent:
            parts += (b',"traceparent":', encode_text(trace_parent))
        return b"%b}" % b"".join(parts)

    def _set_time(self, milliseconds: int) -> None:
        """Set the beginning of records of this time since the epoch: RFC 3339, in UTC."""
        self._milliseconds = milliseconds
        second, rest = divmod(milliseconds, 1000)
        if second != self._second:
            self._second = second
            text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._prefix = b'{"time":"%b' % text.encode("ascii")
        self._time = b"%b.%03dZ" % (self._prefix, rest)

    def _show(self, raw: Raw) -> bytes | None:
        """Return the arguments without redacted values; None if they are too large or malformed.

        They are always encoded again: a line break between their members must not end the record.
        """
        if len(raw) > AUDITED_ARGUMENTS.value:
            AUDITED_ARGUMENTS.record()
            return None
        try:
            return msgspec.json.encode(self._redaction.apply(msgspec.json.decode(raw)))
        except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
            return None
