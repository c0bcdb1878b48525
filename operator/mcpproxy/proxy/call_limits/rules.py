"""The rules of `spec.limits`, and the error of a call that one of them does not admit."""

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, NamedTuple

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


CountedInFlight = tuple[tuple[CompiledRule, int, SubjectKey], ...]
"""Rules with `inFlight`, each with its number of calls and with what a request is counted with."""


class CountedBy(NamedTuple):
    """The rules that count a request, each with what the request is counted together with."""

    in_flight: CountedInFlight
    rates: tuple[tuple[CompiledRule, Rate, SubjectKey], ...]


class RuleSet:
    """All rules of a proxy, with a cache of the rules for each name and caller."""

    def __init__(self, rules: "Iterable[LimitRule]") -> None:
        self.rules = tuple(map(CompiledRule, rules))
        self.known: dict[tuple[str, str, str, str], CountedBy] = {}
        """Results of `counting` by method, name, backend and user."""

    def counting(self, method: str, name: str, backend: str, client: ClientIdentity) -> CountedBy:
        """Return the rules that count a client's request about a component of a backend."""
        key = method, name, backend, client.user
        counted = self.known.get(key)
        if counted is None:
            counted = self._count(method, name, backend, client)
            if len(name) <= MAX_NAME and len(method) <= MAX_NAME:
                if len(self.known) >= KEPT:
                    self.known.clear()
                self.known[key] = counted
        return counted

    def _count(self, method: str, name: str, backend: str, client: ClientIdentity) -> CountedBy:
        covering = [
            (rule, rule.key(backend, client)) for rule in self.rules if rule.covers(method, name)
        ]
        return CountedBy(
            tuple((rule, rule.in_flight, key) for rule, key in covering if rule.in_flight),
            tuple((rule, rule.rate, key) for rule, key in covering if rule.rate),
        )

    def unused(self, tools: Iterable[str]) -> list[str]:
        """Return the names of the rules that cover none of the offered tools."""
        names = tuple(tools)
        return [rule.name for rule in self.rules if not rule.covers_one_of(names)]
