"""Checks of BackendsHealthy: every backend is Healthy, optional ones included."""

from collections.abc import Sequence

from mcpproxy.api.v1alpha1.status import BackendState, BackendStatus, ConditionStatus
from mcpproxy.report_aggregation import is_serving
from mcpproxy.status import reasons
from mcpproxy.status.conditions.condition import ConditionValue
from mcpproxy.status.conditions.messages import describe_backends
from mcpproxy.status.disagreement import disagreement_notes, missing_reports
from mcpproxy.status.inputs import StatusInput


def no_pod_is_ready(observed: StatusInput) -> ConditionValue | None:
    """Apply if no pod serves, so that nothing is known of the backends."""
    if observed.serving:
        return None
    return ConditionValue(
        "Unknown", reasons.BACKENDS_UNKNOWN, "no pod is ready, so no backend is checked"
    )


def backends_are_unhealthy(observed: StatusInput) -> ConditionValue | None:
    """Apply if a backend does not serve."""
    failed = failed_backends(observed.backends)
    return _describe(observed, "False", reasons.BACKENDS_UNHEALTHY, failed)


def backends_are_rate_limited(observed: StatusInput) -> ConditionValue | None:
    """Apply if a backend serves in spite of a rate limit."""
    limited = backends_in_state(observed, "RateLimited")
    return _describe(observed, "False", reasons.BACKENDS_RATE_LIMITED, limited)


def backends_are_degraded(observed: StatusInput) -> ConditionValue | None:
    """Apply if a backend is Degraded."""
    degraded = backends_in_state(observed, "Degraded")
    return _describe(observed, "False", reasons.BACKENDS_DEGRADED, degraded)


def backends_are_unknown(observed: StatusInput) -> ConditionValue | None:
    """Apply if the state of a backend is unknown."""
    unknown = backends_in_state(observed, "Unknown")
    return _describe(observed, "Unknown", reasons.BACKENDS_UNKNOWN, unknown)


def pods_do_not_report(observed: StatusInput) -> ConditionValue | None:
    """Apply if reports of serving pods are missing."""
    if not missing_reports(observed):
        return None
    return _with_notes(observed, "Unknown", reasons.PODS_NOT_REPORTING, _count_healthy(observed))


def pods_differ(observed: StatusInput) -> ConditionValue | None:
    """Apply if all backends are healthy but pods report different facts about them."""
    differing = [backend for backend in observed.backends if backend.reason == reasons.PODS_DIFFER]
    if not differing and not disagreement_notes(observed):
        return None
    message = "; ".join(filter(None, (_count_healthy(observed), describe_backends(differing))))
    return _with_notes(observed, "True", reasons.PODS_DIFFER, message)


def all_backends_are_healthy(observed: StatusInput) -> ConditionValue | None:
    """Apply in all other cases."""
    return _with_notes(observed, "True", reasons.ALL_HEALTHY, _count_healthy(observed))


def failed_backends(backends: Sequence[BackendStatus]) -> list[BackendStatus]:
    """Return the backends whose state is known and that do not serve."""
    return [
        backend for backend in backends if not (backend.state == "Unknown" or is_serving(backend))
    ]


def backends_in_state(observed: StatusInput, state: BackendState) -> list[BackendStatus]:
    """Return the backends in this state."""
    return [backend for backend in observed.backends if backend.state == state]


def _count_healthy(observed: StatusInput) -> str:
    return f"{len(observed.backends)} of {len(observed.backends)} healthy"


def _describe(
    observed: StatusInput, status: ConditionStatus, reason: str, backends: Sequence[BackendStatus]
) -> ConditionValue | None:
    if not backends:
        return None
    return _with_notes(observed, status, reason, describe_backends(backends))


def _with_notes(
    observed: StatusInput, status: ConditionStatus, reason: str, message: str
) -> ConditionValue:
    return ConditionValue(status, reason, "; ".join([message, *disagreement_notes(observed)]))
