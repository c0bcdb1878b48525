"""The calls that ended last, for the page of the admin port. They never include arguments."""

import time
from collections import deque
from collections.abc import Callable
from itertools import starmap
from typing import Any, Final, Protocol

import msgspec
from msgspec import Raw

from mcpproxy.limits.audit import RECENT_CALL_TEXT, RECENT_CALLS
from mcpproxy.proxy.core.exchange import ClientIdentity
from mcpproxy.proxy.core.translation.era_translation import trace_parent
from mcpproxy.proxy.upstream.transports.session import UpstreamRequest

MAX_META: Final = 4096
"""Bytes of `_meta` up to which it is searched for a trace."""
_CUT: Final = RECENT_CALL_TEXT.value
_TRACE: Final = b"traceparent"
_HEXADECIMAL: Final = frozenset("0123456789abcdef")


class NamedBackend(Protocol):
    """A backend, by its name."""

    @property
    def name(self) -> str:
        """Name of the backend."""


class KeptCall(Protocol):
    """A call that has ended, as far as its record needs it."""

    @property
    def backend(self) -> NamedBackend:
        """The backend that served the call."""

    @property
    def request(self) -> UpstreamRequest:
        """The request with the backend's names."""


class RecentCall(msgspec.Struct, frozen=True, rename="camel"):
    """One call. The fields have the names of the audit log."""

    time: float
    """Seconds since the epoch."""
    principal: str
    """Digest of the client's credentials; empty without credentials."""
    backend: str
    method: str
    name: str
    """Downstream name or URI; empty without one."""
    outcome: str
    """`ok`, or the `error.type` of metrics."""
    seconds: float
    trace_id: str = ""
    """Hexadecimal; empty without a trace."""


class RecentCalls:
    """The last calls of one process."""

    def __init__(
        self,
        trace_id: Callable[[], str] | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`trace_id` returns the id of the current call's trace; without it, clients name traces.

        `now` returns seconds since the epoch.
        """
        self._calls: deque[tuple[Any, ...]] = deque(maxlen=RECENT_CALLS.value)
        self._trace_id = trace_id
        self._now = now

    def record_call(
        self,
        call: KeptCall,
        client: ClientIdentity,
        error: str,
        seconds: float,
        size: int | None,
    ) -> None:
        """Record a call that has ended, without the size of its response. The oldest makes room.

        `error` is the `error.type` of metrics; empty for a success.
        """
        request = call.request
        meta = request.params.get("_meta") if request.params else None
        trace = ""
        if self._trace_id is not None:
            trace = self._trace_id()
        elif meta is not None and _TRACE in (encoded := bytes(meta)) and len(encoded) <= MAX_META:
            trace = _trace_of(encoded)
        subject = call.backend.name, request.method[:_CUT], request.target[:_CUT]
        self._calls.append((self._now(), client.principal, *subject, error or "ok", seconds, trace))

    def list_calls(self) -> list[RecentCall]:
        """Return the calls; the last one is first."""
        return list(starmap(RecentCall, reversed(self._calls)))


def _trace_of(meta: Raw | bytes) -> str:
    """Return the trace id in `_meta` (W3C Trace Context); empty if it is malformed."""
    version, _, rest = trace_parent(meta).partition("-")
    trace_id = rest.partition("-")[0]
    is_valid = len(version) == 2 and len(trace_id) == 32 and _HEXADECIMAL.issuperset(trace_id)
    return trace_id if is_valid else ""
