"""Transitions between two statuses that are worth an Event."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from mcpproxy.api.v1alpha1.status import BackendStatus, Condition, MCPProxyStatus
from mcpproxy.status import reasons
from mcpproxy.status.compute import find_condition

_WATCHED = (
    reasons.ACCEPTED,
    reasons.AVAILABLE,
    reasons.READY,
    reasons.STALLED,
    reasons.SUSPENDED,
    reasons.CATALOG_DRIFT,
    reasons.EXPOSED,
)
_OF_BACKENDS = (
    reasons.BACKENDS_UNHEALTHY,
    reasons.BACKENDS_RATE_LIMITED,
    reasons.BACKENDS_DEGRADED,
    reasons.SERVING,
)
"""Reasons that repeat Events about single backends."""
_GOALS = (reasons.ACCEPTED, reasons.AVAILABLE, reasons.READY)
"""Conditions that are expected to become True: a start without a failure causes no Event."""
_GOOD_IF_FALSE = (reasons.STALLED, reasons.CATALOG_DRIFT)


@dataclass(frozen=True, slots=True)
class Transition:
    """Change of a condition or of a backend's state."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str
    backend: str = ""
    """Name of the backend; empty for a condition."""


def find_transitions(before: MCPProxyStatus | None, after: MCPProxyStatus) -> list[Transition]:
    """Return one entry for each new reason; none if only numbers or messages changed."""
    backends = list(_backends(before, after))
    by_reason: dict[str, Transition] = {}
    for change in _conditions(before, after):
        # Ready has the same reason as the condition that caused it; one Event is enough.
        if not (backends and change.reason in _OF_BACKENDS):
            by_reason.setdefault(change.reason, change)
    return [*by_reason.values(), *backends]


def _conditions(before: MCPProxyStatus | None, after: MCPProxyStatus) -> Iterator[Transition]:
    for type_ in _WATCHED:
        now, earlier = find_condition(after, type_), find_condition(before, type_)
        if now is None or (earlier is not None and earlier.status == now.status):
            continue
        if earlier is None and _unremarkable(now):
            continue
        if now.status == "True" and now.type in _GOALS and _never_failed(before):
            continue
        if now.type == reasons.CATALOG_DRIFT and not _drift_told(earlier, now):
            continue
        yield Transition("Normal" if _fine(now) else "Warning", now.reason, now.message)


def _never_failed(before: MCPProxyStatus | None) -> bool:
    """Return True for a proxy that has never been Ready and has had no failure so far."""
    if before is None:
        return True
    if before.url is not None:
        return False
    goals = [condition for condition in before.conditions or [] if condition.type in _GOALS]
    failed = [condition for condition in goals if condition.status != "True"]
    return find_condition(before, reasons.STALLED) is None and all(map(_unremarkable, failed))


def _fine(condition: Condition) -> bool:
    if condition.type in _GOOD_IF_FALSE:
        return condition.status == "False"
    return condition.status == "True" or condition.reason in reasons.PASSING


def _drift_told(earlier: Condition | None, now: Condition) -> bool:
    """Return True if a drift began, or if a known one ended; an unknown state is neither."""
    return now.status == "True" or (
        now.status == "False" and earlier is not None and earlier.status == "True"
    )


def _unremarkable(condition: Condition) -> bool:
    """Return True if a new object is expected to begin with this condition."""
    begins = {
        *reasons.PASSING,
        reasons.ADDRESS_PENDING,
        reasons.BACKENDS_UNKNOWN,
        reasons.PODS_NOT_READY,
        reasons.ROUTE_PENDING,
    }
    return condition.status != "True" and condition.reason in begins


def _backends(before: MCPProxyStatus | None, after: MCPProxyStatus) -> Iterator[Transition]:
    earlier = {backend.name: backend for backend in (before.backends or [])} if before else {}
    for now in after.backends or []:
        was: BackendStatus | None = earlier.get(now.name)
        expected = was is None or was.state == "Unknown"
        if now.state == "Unknown" or (was is not None and was.state == now.state):
            continue
        if now.state == "Healthy" and expected:
            continue
        why = f": {now.message}" if now.message else ""
        yield Transition(
            "Normal" if now.state == "Healthy" else "Warning",
            f"Backend{now.state}",
            f"backend {now.name} is {now.state}{why}",
            now.name,
        )
