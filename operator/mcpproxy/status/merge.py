"""What all pods see of the backends, made one."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from mcpproxy.api.status import BackendState, BackendStatus, ComponentCounts, PodReport
from mcpproxy.status import reasons

T = TypeVar("T")

_WORKS: frozenset[BackendState] = frozenset({"Healthy", "Degraded"})
_WORST_FIRST: tuple[BackendState, ...] = (
    "Unhealthy",
    "Unauthorized",
    "RateLimited",
    "Degraded",
    "Healthy",
)


def merge(names: Iterable[str], reports: Sequence[PodReport]) -> list[BackendStatus]:
    """The state of each backend, sorted by name; pods that don't know yet have no say."""
    return [_merge_one(name, reports) for name in sorted(names)]


def totals(backends: Iterable[BackendStatus]) -> ComponentCounts | None:
    """Sums over the counts that are known; None when none is."""
    known = [backend.components for backend in backends if backend.components is not None]
    if not known:
        return None

    def total(pick: Callable[[ComponentCounts], int | None]) -> int | None:
        found = [count for count in map(pick, known) if count is not None]
        return sum(found) if found else None

    return ComponentCounts(
        tools=total(lambda counts: counts.tools),
        prompts=total(lambda counts: counts.prompts),
        resources=total(lambda counts: counts.resources),
        resource_templates=total(lambda counts: counts.resource_templates),
    )


def catalog_hash(reports: Sequence[PodReport]) -> str | None:
    """The catalog that every pod shows; None while they differ or one doesn't know."""
    return _agreed([report.catalog_hash for report in reports])


def _merge_one(name: str, reports: Sequence[PodReport]) -> BackendStatus:
    views = [view for report in reports for view in report.backends if view.name == name]
    known = [view for view in views if view.state != "Unknown"]
    if not known:
        return BackendStatus(
            name=name,
            state="Unknown",
            reason=(views[0].reason if views else None) or reasons.NOT_REPORTED,
            message=(views[0].message if views else None) or "no ready pod has reported on it",
        )
    state, reason, message = _verdict(known)
    working = [view for view in known if view.state in _WORKS]
    return BackendStatus(
        name=name,
        state=state,
        reason=reason,
        message=message,
        protocol_version=_agreed([view.protocol_version for view in working or known]),
        transport=_agreed([view.transport for view in working or known]),
        server=_agreed([view.server for view in working or known]),
        session=_agreed([view.session for view in working or known]),
        # Only who reaches it can count: a failed backend has no counts.
        components=_agreed_counts([view.components for view in working]),
    )


def _verdict(known: Sequence[BackendStatus]) -> tuple[BackendState, str | None, str | None]:
    worst = min(known, key=lambda view: _WORST_FIRST.index(view.state))
    if len({view.state for view in known}) == 1:
        return worst.state, worst.reason, worst.message
    bad = [view for view in known if view.state not in _WORKS] or [
        view for view in known if view.state == "Degraded"
    ]
    state: BackendState = worst.state if len(bad) == len(known) else "Degraded"
    why = worst.message or worst.reason or worst.state
    return state, reasons.PODS_DISAGREE, f"{len(bad)} of {len(known)} pods: {why}"


def _agreed(values: Sequence[T | None]) -> T | None:
    first = values[0] if values else None
    return first if all(value == first for value in values) else None


def _agreed_counts(counts: Sequence[ComponentCounts | None]) -> ComponentCounts | None:
    known = [found for found in counts if found is not None]
    if not known or len(known) < len(counts):
        return None
    merged = ComponentCounts(
        tools=_agreed([found.tools for found in known]),
        prompts=_agreed([found.prompts for found in known]),
        resources=_agreed([found.resources for found in known]),
        resource_templates=_agreed([found.resource_templates for found in known]),
    )
    return merged if merged.to_manifest() else None
