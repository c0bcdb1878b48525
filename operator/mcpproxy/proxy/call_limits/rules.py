"""The rules of `spec.limits`, and the error of a call that one of them does not admit."""

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from mcpproxy.api.kubernetes.durations import parse_duration
from mcpproxy.proxy.call_limits.store import SubjectKey
from mcpproxy.proxy.call_limits.window import Rate, lease_size
from mcpproxy.proxy.core.catalog.component_filter import Globs
from mcpproxy.proxy.core.exchange import ClientIdentity

if TYPE_CHECKING:
    from mcpproxy.api.v1alpha1 import LimitRule

CALL_TOOL: Final = "tools/call"
KEPT: Final = 4096
"""Maximum number of names and callers whose rules are cached."""
MAX_NAME: Final = 512
"""Maximum length of a name whose rules are cached."""
_TTL: Final = (1.0, 10.0)
"""Shortest and longest time in seconds for which a lease is used."""
RETRY_SOON: Final = 1.0
"""Seconds after which a call may be tried again if nothing tells when it would be admitted."""


class CompiledRule:
    """One rule."""

    def __init__(self, spec: "LimitRule") -> None:
        self.name = spec.name
        self.in_flight = spec.in_flight
        self.rate: Rate | None = None
        if spec.calls is not None and spec.window is not None:
            period = parse_duration(spec.window)
            self.rate = Rate(spec.calls, period, spec.burst or 0)
            self.lease = lease_size(self.rate)
            shortest, longest = _TTL
            self.lease_time = min(max(period / 6, shortest), longest)
        per = "" if spec.per == "Proxy" else f" for each {(spec.per or 'Principal').lower()}"
        self.why = f"allows {spec.calls} calls in {spec.window}{per}"
        self.why_in_flight = f"allows {spec.in_flight} calls at a time{per}"
        self._per = spec.per or "Principal"
        self._globs = None if spec.tools is None else Globs(spec.tools)
        # Instances with another content of the rule count separately, as during a rollout.
        content = spec.to_json().encode()
        self.id = f"{spec.name}:{hashlib.sha256(content).hexdigest()[:16]}"

    def covers(self, method: str, name: str) -> bool:
        """Return True if the rule counts requests about a component, by its downstream name."""
        return self._globs is None or (method == CALL_TOOL and self._globs.match(name))

    def covers_one_of(self, tools: Iterable[str]) -> bool:
        """Return True if the rule counts calls of one of these tools."""
        return self._globs is None or any(map(self._globs.match, tools))

    def key(self, backend: str, client: ClientIdentity) -> SubjectKey:
        """Return what a call is counted together with."""
        if self._per == "Principal":
            return SubjectKey(self.id, client.user)
        return SubjectKey(self.id, backend if self._per == "Backend" else "")
