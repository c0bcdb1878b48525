"""The reports of all workers, made one."""

from collections.abc import Sequence
from typing import Final, TypeVar

from mcpproxy.api.status import BackendState, BackendStatus, ComponentCounts, PodReport

Value = TypeVar("Value")
DISAGREE: Final = "WorkersDisagree"
_WORKS: Final[frozenset[BackendState]] = frozenset({"Healthy", "Degraded"})
_WORST_FIRST: Final[tuple[BackendState, ...]] = (
    "Unhealthy",
    "Unauthorized",
    "RateLimited",
    "Degraded",
    "Healthy",
)


def merged(blank: PodReport, reports: Sequence[PodReport]) -> PodReport:
    """One report for all; `blank` says what there is before any worker has reported.

    Workers that don't know a backend yet have no say in its state. Where some reach it and others
    don't it is Degraded; counts and the catalog's hash are shown where all agree on them.
    """
    return blank.model_copy(
        update={
            "backends": [_state(unknown, reports) for unknown in blank.backends],
            "catalog_hash": _agreed([report.catalog_hash for report in reports]),
            "clashes": sorted({clash for report in reports for clash in report.clashes}),
        }
    )


def _state(unknown: BackendStatus, reports: Sequence[PodReport]) -> BackendStatus:
    views = [view for report in reports for view in report.backends if view.name == unknown.name]
    known = [view for view in views if view.state != "Unknown"]
    if not known:
        return views[0] if views else unknown
    if all(view == known[0] for view in known):
        return known[0]
    working = [view for view in known if view.state in _WORKS]
    asked = working or known
    state, reason, message = _verdict(known)
    return BackendStatus(
        name=unknown.name,
        state=state,
        reason=reason,
        message=message,
        protocol_version=_agreed([view.protocol_version for view in asked]),
        transport=_agreed([view.transport for view in asked]),
        server=_agreed([view.server for view in asked]),
        session=_agreed([view.session for view in asked]),
        components=_agreed_counts([view.components for view in working]),
    )


def _verdict(known: Sequence[BackendStatus]) -> tuple[BackendState, str | None, str | None]:
    worst = min(known, key=lambda view: _WORST_FIRST.index(view.state))
    if len({view.state for view in known}) == 1:
        return worst.state, worst.reason, worst.message
    bad = [view for view in known if view.state not in _WORKS]
    state: BackendState = worst.state if len(bad) == len(known) else "Degraded"
    why = worst.message or worst.reason or worst.state
    return state, DISAGREE, f"{len(bad)} of {len(known)} workers: {why}"


def _agreed(values: Sequence[Value | None]) -> Value | None:
    first = values[0] if values else None
    return first if all(value == first for value in values) else None


def _agreed_counts(counts: Sequence[ComponentCounts | None]) -> ComponentCounts | None:
    known = [found for found in counts if found is not None]
    if not known or len(known) < len(counts):
        return None
    agreed = ComponentCounts(
        tools=_agreed([found.tools for found in known]),
        prompts=_agreed([found.prompts for found in known]),
        resources=_agreed([found.resources for found in known]),
        resource_templates=_agreed([found.resource_templates for found in known]),
    )
    return agreed if agreed.to_manifest() else None
