"""Several views of one backend made one: of a proxy's pods, of a pod's worker processes."""

from collections.abc import Sequence
from typing import Final, TypeVar

from mcpproxy.api.status import (
    BackendState,
    BackendStatus,
    CatalogDrift,
    ComponentCounts,
    Drifted,
)

T = TypeVar("T")
NAMED: Final = 10
"""Components of each sort that a report names."""

_WORKS: Final[frozenset[BackendState]] = frozenset({"Healthy", "Degraded"})
_WORST_FIRST: Final[tuple[BackendState, ...]] = (
    "Unhealthy",
    "Unauthorized",
    "RateLimited",
    "Degraded",
    "Healthy",
)


def combined(
    name: str, known: Sequence[BackendStatus], *, disagree: str, who: str
) -> BackendStatus:
    """What all see of a backend; `known` has at least one view, and none that is Unknown.

    Where some reach it and others don't it is Degraded for the reason `disagree`, and the message
    says how many of `who` (a plural) do not.
    """
    state, reason, message = _verdict(known, disagree, who)
    working = [view for view in known if view.state in _WORKS]
    return BackendStatus(
        name=name,
        state=state,
        reason=reason,
        message=message,
        protocol_version=agreed([view.protocol_version for view in working or known]),
        transport=agreed([view.transport for view in working or known]),
        server=agreed([view.server for view in working or known]),
        session=agreed([view.session for view in working or known]),
        # Only who reaches it can count: a failed backend has no counts.
        components=_agreed_counts([view.components for view in working]),
    )


def _verdict(
    known: Sequence[BackendStatus], disagree: str, who: str
) -> tuple[BackendState, str | None, str | None]:
    worst = min(known, key=lambda view: _WORST_FIRST.index(view.state))
    if len({view.state for view in known}) == 1:
        return worst.state, worst.reason, worst.message
    bad = [view for view in known if view.state not in _WORKS] or [
        view for view in known if view.state == "Degraded"
    ]
    state: BackendState = worst.state if len(bad) == len(known) else "Degraded"
    why = worst.message or worst.reason or worst.state
    return state, disagree, f"{len(bad)} of {len(known)} {who}: {why}"


def agreed(values: Sequence[T | None]) -> T | None:
    """The value that all have; None while they differ or one has none."""
    first = values[0] if values else None
    return first if all(value == first for value in values) else None


def united(drifts: Sequence[CatalogDrift | None]) -> CatalogDrift | None:
    """What differs from the approved catalog for any of those who say so; None when none does."""
    known = [drift for drift in drifts if drift is not None]
    if not known:
        return None
    return CatalogDrift(
        new=_united([drift.new for drift in known]),
        changed=_united([drift.changed for drift in known]),
        gone=_united([drift.gone for drift in known]),
    )


def _united(parts: Sequence[Drifted | None]) -> Drifted | None:
    known = [part for part in parts if part is not None]
    if not known:
        return None
    names = sorted({name for part in known for name in part.names})
    count = max(len(names), *(part.count for part in known))
    return Drifted(count=count, names=names[:NAMED])


def _agreed_counts(counts: Sequence[ComponentCounts | None]) -> ComponentCounts | None:
    known = [found for found in counts if found is not None]
    if not known or len(known) < len(counts):
        return None
    found = ComponentCounts(
        tools=agreed([counts.tools for counts in known]),
        prompts=agreed([counts.prompts for counts in known]),
        resources=agreed([counts.resources for counts in known]),
        resource_templates=agreed([counts.resource_templates for counts in known]),
    )
    return found if found.to_manifest() else None
