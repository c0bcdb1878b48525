"""Aggregation of reports: those of a proxy's pods, and of a pod's worker processes."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from pydantic.alias_generators import to_camel

from mcpproxy.api.catalog_digests import NAMED
from mcpproxy.api.constants import NOT_LISTED
from mcpproxy.api.untrusted_text import clean_text
from mcpproxy.api.v1alpha1.status import (
    AuthorizationReport,
    BackendState,
    BackendStatus,
    CatalogDrift,
    ComponentCounts,
    DriftedComponents,
    IssuerStatus,
    LimitsReport,
    ServerInfo,
)
from mcpproxy.limits.pods import REPORT_MESSAGE

T = TypeVar("T")
_NAMED: Final = 3
_FACTS: Final = ("protocol_version", "transport", "server", "session")
_WORST_LAST: Final[tuple[BackendState, ...]] = (
    "Unknown",
    "Healthy",
    "Degraded",
    "RateLimited",
    "Unauthorized",
    "Unhealthy",
)


def is_serving(view: BackendStatus) -> bool:
    """Return True if clients are offered the components of a backend, even a rate-limited one."""
    if view.state == "RateLimited":
        return view.reason != NOT_LISTED
    return view.state in ("Healthy", "Degraded")


@dataclass(frozen=True, slots=True)
class Reporters:
    """Names of the reporters, and the reasons to use when their reports differ."""

    who: str
    """Plural noun."""
    disagree: str
    """Reason if some reach a backend and others do not."""
    differ: str
    """Reason if all reach a backend and report different facts."""


def aggregate_backend(
    name: str, known: Sequence[BackendStatus], voices: Reporters, held: BackendStatus | None = None
) -> BackendStatus:
    """Return the state that most reporters see; `known` has at least one view, and none is Unknown.

    The backend has failed if more than half of the reporters say so, and is Degraded if fewer do;
    the message has the numbers. Facts that differ are absent, or those of `held` if it is given.
    """
    state, reason, message = _verdict(known, voices)
    served = [view for view in known if is_serving(view)]
    facts = {
        field: common_value([getattr(view, field) for view in served or known]) for field in _FACTS
    }
    # Only reporters that reach the backend know its counts.
    facts["components"] = _agreed_counts([view.components for view in served])
    facts["not_offered"] = common_value([view.not_offered for view in served])
    differing = describe_differences(served)
    if differing and held is not None:
        facts = {field: getattr(held, field) for field in facts}
    elif differing:
        reason = voices.differ if state == "Healthy" else reason
        # The differences must survive the limit of a message.
        before = clean_text(message or "", REPORT_MESSAGE.value // 2)
        message = "; ".join(filter(None, [before, f"{voices.who} differ: {differing}"]))
    backend = BackendStatus(name=name, state=state, reason=reason, message=message)
    if not is_serving(backend):
        facts["components"] = facts["not_offered"] = None
    return backend.model_copy(update=facts)


def describe_differences(served: Sequence[BackendStatus]) -> str:
    """Return the facts that differ between views, with the numbers of views; empty if none do."""
    facts = {field: [getattr(view, field) for view in served] for field in _FACTS}
    counts = [view.components or ComponentCounts() for view in served]
    facts |= {
        field: [getattr(count, field) for count in counts] for field in ComponentCounts.model_fields
    }
    return "; ".join(
        f"{to_camel(field)} {_values(values)}"
        for field, values in facts.items()
        if any(value != values[0] for value in values)
    )


def _values(values: Sequence[object]) -> str:
    said = Counter(map(_word, values))
    most = sorted(said, key=lambda word: (-said[word], word))
    named = [f"{word} ({said[word]} of {len(values)})" for word in most[:_NAMED]]
    return ", ".join([*named, *(["others"] if len(most) > _NAMED else [])])


def _word(value: object) -> str:
    if isinstance(value, ServerInfo):
        return " ".join(filter(None, [value.name, value.version]))
    return "none" if value is None else str(value)


def _verdict(
    known: Sequence[BackendStatus], voices: Reporters
) -> tuple[BackendState, str | None, str | None]:
    # More than half are at least as bad as the middle one; of two, the better one counts.
    middle = sorted(known, key=_badness, reverse=True)[len(known) // 2]
    most = _typical([view for view in known if _sort(view) == _sort(middle)])
    if len({(_sort(view), view.state) for view in known}) == 1:
        return most.state, most.reason, most.message
    numbers = "; ".join(_numbers(known, voices.who))
    if most.state in ("Healthy", "Degraded"):
        return "Degraded", voices.disagree, numbers
    return most.state, most.reason, numbers


def _sort(view: BackendStatus) -> str:
    return view.state if is_serving(view) else "failed"


def _badness(view: BackendStatus) -> tuple[bool, int]:
    return not is_serving(view), _WORST_LAST.index(view.state)


def _typical(views: Sequence[BackendStatus]) -> BackendStatus:
    """Return a view with the most common state, then the worst, and the most common message."""
    states = Counter(view.state for view in views)
    state = max(states, key=lambda candidate: (states[candidate], _WORST_LAST.index(candidate)))
    said = Counter((v.reason or "", v.message or "") for v in views if v.state == state)
    words = min(said, key=lambda candidate: (-said[candidate], candidate))
    return next(v for v in views if (v.state, v.reason or "", v.message or "") == (state, *words))


def _numbers(known: Sequence[BackendStatus], who: str) -> Iterator[str]:
    for state in reversed(_WORST_LAST):
        seen = [view for view in known if view.state == state]
        if seen and state != "Healthy":
            typical = _typical(seen)
            why = typical.message or typical.reason or typical.state
            yield f"{len(seen)} of {len(known)} {who}: {why}"


def common_value(values: Sequence[T | None]) -> T | None:
    """Return the value that all have; None if they differ or one is None."""
    first = values[0] if values else None
    return first if all(value == first for value in values) else None


def merge_drift(drifts: Sequence[CatalogDrift | None]) -> CatalogDrift | None:
    """Return the union of all drifts from the approved catalog; None if no report has one."""
    known = [drift for drift in drifts if drift is not None]
    if not known:
        return None
    return CatalogDrift(
        new=_united([drift.new for drift in known]),
        changed=_united([drift.changed for drift in known]),
        gone=_united([drift.gone for drift in known]),
    )


def merge_issuers(reports: Sequence[Sequence[IssuerStatus] | None]) -> list[IssuerStatus] | None:
    """Return the worst state of each issuer that reports name; None if no report names any.

    A state is worse with a message, with fewer keys, and with older keys.
    """
    known = [report for report in reports if report is not None]
    if not known:
        return None
    worst: dict[str, IssuerStatus] = {}
    for state in (state for report in known for state in report):
        before = worst.get(state.issuer)
        if before is None or _issuer_badness(state) > _issuer_badness(before):
            worst[state.issuer] = state
    return list(worst.values())


def merge_authorization(
    reports: Sequence[AuthorizationReport | None],
) -> AuthorizationReport | None:
    """Return the rules of all reports; an entry is unused if all who know say so."""
    known = [report for report in reports if report is not None]
    if not known:
        return None
    unused = [set(report.unused) for report in known if report.unused is not None]
    return AuthorizationReport(
        rules=max(report.rules for report in known),
        classes=max(report.classes for report in known),
        unused=sorted(set.intersection(*unused)) if unused else None,
    )


def merge_limits(reports: Sequence[LimitsReport | None]) -> LimitsReport | None:
    """Return the limits of all reports; a rule is unused if all who know say so."""
    known = [report for report in reports if report is not None]
    if not known:
        return None
    unused = [set(report.unused) for report in known if report.unused is not None]
    return LimitsReport(
        rules=max(report.rules for report in known),
        unused=sorted(set.intersection(*unused)) if unused else None,
        failure=next((report.failure for report in known if report.failure is not None), None),
    )


def _issuer_badness(state: IssuerStatus) -> tuple[bool, bool, int, str]:
    return state.message is not None, state.keys_from is None, -state.keys, state.message or ""


def _united(parts: Sequence[DriftedComponents | None]) -> DriftedComponents | None:
    known = [part for part in parts if part is not None]
    if not known:
        return None
    names = sorted({name for part in known for name in part.names})
    count = max(len(names), *(part.count for part in known))
    return DriftedComponents(count=count, names=names[:NAMED])


def _agreed_counts(counts: Sequence[ComponentCounts | None]) -> ComponentCounts | None:
    known = [agreed for agreed in counts if agreed is not None]
    if not known or len(known) < len(counts):
        return None
    agreed = ComponentCounts(
        tools=common_value([counts.tools for counts in known]),
        prompts=common_value([counts.prompts for counts in known]),
        resources=common_value([counts.resources for counts in known]),
        resource_templates=common_value([counts.resource_templates for counts in known]),
    )
    return agreed if agreed.to_manifest() else None
