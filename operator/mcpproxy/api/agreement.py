"""Several views of one backend made one: of a proxy's pods, of a pod's worker processes."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final, TypeVar

from mcpproxy.api.status import (
    NOT_LISTED,
    BackendState,
    BackendStatus,
    CatalogDrift,
    ComponentCounts,
    Drifted,
)

T = TypeVar("T")
NAMED: Final = 10
"""Components of each sort that a report names."""

_WORST_LAST: Final[tuple[BackendState, ...]] = (
    "Unknown",
    "Healthy",
    "Degraded",
    "RateLimited",
    "Unauthorized",
    "Unhealthy",
)


def is_served(view: BackendStatus) -> bool:
    """Whether clients are shown what a backend offers: one that is merely slowed down keeps it."""
    if view.state == "RateLimited":
        return view.reason != NOT_LISTED
    return view.state in ("Healthy", "Degraded")


def combined(
    name: str, known: Sequence[BackendStatus], *, disagree: str, who: str
) -> BackendStatus:
    """What most see of a backend; `known` has at least one view, and none that is Unknown.

    It is in trouble where more than half say so; where fewer do it is Degraded for the reason
    `disagree`. The message says how many of `who` (a plural) see what.
    """
    state, reason, message = _verdict(known, disagree, who)
    served = [view for view in known if is_served(view)]
    found = BackendStatus(
        name=name,
        state=state,
        reason=reason,
        message=message,
        protocol_version=agreed([view.protocol_version for view in served or known]),
        transport=agreed([view.transport for view in served or known]),
        server=agreed([view.server for view in served or known]),
        session=agreed([view.session for view in served or known]),
    )
    # Only who reaches it can count: a failed backend has no counts.
    counts = _agreed_counts([view.components for view in served]) if is_served(found) else None
    return found.model_copy(update={"components": counts})


def _verdict(
    known: Sequence[BackendStatus], disagree: str, who: str
) -> tuple[BackendState, str | None, str | None]:
    # More than half are at least as bad as the one in the middle, of two the better one.
    middle = sorted(known, key=_badness, reverse=True)[len(known) // 2]
    most = _typical([view for view in known if _sort(view) == _sort(middle)])
    if len({(_sort(view), view.state) for view in known}) == 1:
        return most.state, most.reason, most.message
    numbers = "; ".join(_numbers(known, who))
    if most.state in ("Healthy", "Degraded"):
        return "Degraded", disagree, numbers
    return most.state, most.reason, numbers


def _sort(view: BackendStatus) -> str:
    return view.state if is_served(view) else "failed"


def _badness(view: BackendStatus) -> tuple[bool, int]:
    return not is_served(view), _WORST_LAST.index(view.state)


def _typical(views: Sequence[BackendStatus]) -> BackendStatus:
    """A view of the state that is the most common of these, then the worst; in common words."""
    states = Counter(view.state for view in views)
    state = max(states, key=lambda one: (states[one], _WORST_LAST.index(one)))
    said = Counter((v.reason or "", v.message or "") for v in views if v.state == state)
    words = min(said, key=lambda one: (-said[one], one))
    return next(v for v in views if (v.state, v.reason or "", v.message or "") == (state, *words))


def _numbers(known: Sequence[BackendStatus], who: str) -> Iterator[str]:
    for state in reversed(_WORST_LAST):
        seen = [view for view in known if view.state == state]
        if seen and state != "Healthy":
            found = _typical(seen)
            why = found.message or found.reason or found.state
            yield f"{len(seen)} of {len(known)} {who}: {why}"


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
