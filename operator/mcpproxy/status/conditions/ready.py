"""Checks of Ready: clients are served as the spec requests.

Those of them that Available has as well are in `available`.
"""

from collections.abc import Sequence

from mcpproxy.api.v1alpha1.status import BackendStatus, ConditionStatus
from mcpproxy.report_aggregation import is_serving
from mcpproxy.status import reasons
from mcpproxy.status.conditions.available import deployment_is_scaled_to_zero, pods_are_unreadable
from mcpproxy.status.conditions.backends import backends_in_state, failed_backends
from mcpproxy.status.conditions.condition import ConditionValue
from mcpproxy.status.conditions.messages import (
    LISTED,
    describe_backends,
    describe_deletion,
    describe_pods,
)
from mcpproxy.status.disagreement import disagreement_notes, missing_reports, unread_pods
from mcpproxy.status.inputs import StatusInput


def mcpproxy_is_deleted(observed: StatusInput) -> ConditionValue | None:
    """Apply if the MCPProxy is being deleted."""
    if not observed.terminating:
        return None
    return ConditionValue("False", reasons.TERMINATING, describe_deletion(observed))


def spec_is_invalid(observed: StatusInput) -> ConditionValue | None:
    """Apply if the spec is invalid."""
    if observed.rejected is None:
        return None
    return ConditionValue("False", reasons.INVALID_SPEC, observed.rejected)


def children_are_blocked(observed: StatusInput) -> ConditionValue | None:
    """Apply if the children can't be written, unless pods serve and the reason is harmless."""
    blocked = observed.blocked
    if blocked is None or (observed.serving and blocked.reason in reasons.HARMLESS):
        return None
    status: ConditionStatus = "Unknown" if pods_are_unreadable(observed) else "False"
    return ConditionValue(status, blocked.reason, blocked.message)


def no_pods_are_requested(observed: StatusInput) -> ConditionValue | None:
    """Apply if the Deployment has no replicas: nothing is missing, and waiting for Ready ends."""
    scaled = deployment_is_scaled_to_zero(observed)
    return ConditionValue("True", scaled.reason, scaled.message) if scaled else None


def required_backends_are_unhealthy(observed: StatusInput) -> ConditionValue | None:
    """Apply if a required backend does not serve."""
    failed = _required(observed, failed_backends(observed.backends))
    if not failed:
        return None
    return ConditionValue("False", reasons.BACKENDS_UNHEALTHY, describe_backends(failed))


def required_backends_are_unknown(observed: StatusInput) -> ConditionValue | None:
    """Apply if the state of a required backend is unknown."""
    unknown = _required(observed, backends_in_state(observed, "Unknown"))
    if not unknown:
        return None
    parts = filter(None, (describe_backends(unknown), unread_pods(observed)))
    return ConditionValue("Unknown", reasons.BACKENDS_UNKNOWN, "; ".join(parts))


def most_pods_do_not_report(observed: StatusInput) -> ConditionValue | None:
    """Apply if the reports of more than half of the serving pods are missing."""
    if 2 * missing_reports(observed) <= len(observed.serving):
        return None
    return ConditionValue("Unknown", reasons.PODS_NOT_REPORTING, _describe_serving(observed))


def proxy_serves(observed: StatusInput) -> ConditionValue | None:
    """Apply in all other cases."""
    return ConditionValue("True", reasons.SERVING, _describe_serving(observed))


def _required(observed: StatusInput, backends: Sequence[BackendStatus]) -> list[BackendStatus]:
    """Return those of the backends without which the proxy is not ready."""
    required = _required_names(observed)
    if observed.outdated:
        # Pods of the previous configuration know nothing of backends that only the new one has.
        required &= {view.name for report in observed.reports for view in report.backends}
    return [backend for backend in backends if backend.name in required]


def _required_names(observed: StatusInput) -> set[str]:
    backends = observed.spec.backends if observed.spec else ()
    return {backend.name for backend in backends if not backend.optional}


def _describe_serving(observed: StatusInput) -> str:
    serving = sum(map(is_serving, observed.backends))
    parts = [
        f"{serving} of {len(observed.backends)} backends are being served",
        _describe_troubled_backends(observed),
        *disagreement_notes(observed),
        _describe_incomplete_rollout(observed),
        observed.blocked.message if observed.blocked else "",
        _describe_name_conflicts(observed),
    ]
    return "; ".join(filter(None, parts))


def _describe_troubled_backends(observed: StatusInput) -> str:
    slowed = [view for view in observed.backends if view.state in ("RateLimited", "Degraded")]
    required = _required_names(observed)
    return describe_backends(
        [
            backend
            if backend.name in required
            else backend.model_copy(update={"name": f"{backend.name} (optional)"})
            for backend in (*slowed, *failed_backends(observed.backends))
        ]
    )


def _describe_incomplete_rollout(observed: StatusInput) -> str:
    deployment = observed.deployment
    if deployment is None:
        return ""
    older = observed.outdated or observed.superseded
    few = len(observed.serving) < deployment.desired
    return describe_pods(observed) if older or few else ""


def _describe_name_conflicts(observed: StatusInput) -> str:
    names = sorted({name for pod in observed.serving if pod.report for name in pod.report.clashes})
    if not names:
        return ""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return (
        f"several backends offer {', '.join(names[:LISTED])}{more}; change the prefix of one of"
        " them"
    )
