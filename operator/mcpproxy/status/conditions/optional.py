"""Checks of Suspended, Autoscaled and Monitored, which exist only if the spec requests them."""

from typing import Final, Literal

from mcpproxy.status import reasons
from mcpproxy.status.conditions.condition import ABSENT, Absence, ConditionValue
from mcpproxy.status.conditions.messages import describe_absent, describe_pending_changes
from mcpproxy.status.inputs import StatusInput

_AUTOSCALER: Final = "HorizontalPodAutoscaler"
_POD_MONITOR: Final = "PodMonitor"


def mcpproxy_is_suspended(observed: StatusInput) -> ConditionValue | None:
    """Apply while the spec suspends reconciliation."""
    if not observed.suspended:
        return None
    pending = observed.pending_changes
    changes = describe_pending_changes(observed) if pending else "no change is pending"
    message = f"spec.suspend is true, so the operator changes nothing; {changes}"
    return ConditionValue("True", reasons.SUSPENDED, message)


def autoscaling_is_not_requested(observed: StatusInput) -> Literal[Absence.ABSENT] | None:
    """Apply if the spec has no `autoscaling`."""
    return ABSENT if observed.spec is None or observed.spec.autoscaling is None else None


def autoscaler_is_absent(observed: StatusInput) -> ConditionValue | None:
    """Apply until the autoscaler has been created."""
    if _AUTOSCALER not in observed.absent:
        return None
    message = describe_absent(_AUTOSCALER, observed)
    return ConditionValue("Unknown", reasons.SCALING_UNKNOWN, message)


def autoscaler_is_active(observed: StatusInput) -> ConditionValue | None:
    """Apply if the autoscaler sets the number of pods."""
    autoscaling = observed.spec.autoscaling if observed.spec else None
    if autoscaling is None or observed.autoscaler is not None:
        return None
    message = f"the autoscaler runs up to {autoscaling.max_replicas} pods, depending on their load"
    return ConditionValue("True", reasons.SCALING_ACTIVE, message)


def autoscaler_is_unknown(observed: StatusInput) -> ConditionValue | None:
    """Apply if the autoscaler has not tried to scale yet."""
    problem = observed.autoscaler
    if problem is None or problem.reason:
        return None
    return ConditionValue("Unknown", reasons.SCALING_UNKNOWN, problem.message)


def autoscaler_fails(observed: StatusInput) -> ConditionValue | None:
    """Apply if the autoscaler can't work."""
    problem = observed.autoscaler
    return ConditionValue("False", problem.reason, problem.message) if problem else None


def monitoring_is_not_requested(observed: StatusInput) -> Literal[Absence.ABSENT] | None:
    """Apply if the spec has no `monitoring.podMonitor`."""
    monitoring = observed.spec.monitoring if observed.spec else None
    return ABSENT if monitoring is None or monitoring.pod_monitor is None else None


def pod_monitor_is_not_installed(observed: StatusInput) -> ConditionValue | None:
    """Apply if the cluster lacks the kind PodMonitor."""
    if _POD_MONITOR not in observed.missing_kinds:
        return None
    return ConditionValue(
        "False",
        reasons.KIND_NOT_INSTALLED,
        f"the cluster has no kind {_POD_MONITOR}; install the Prometheus operator, or remove"
        " spec.monitoring.podMonitor",
    )


def pod_monitor_is_absent(observed: StatusInput) -> ConditionValue | None:
    """Apply until the PodMonitor has been created."""
    if _POD_MONITOR not in observed.absent:
        return None
    message = describe_absent(_POD_MONITOR, observed)
    return ConditionValue("Unknown", reasons.POD_MONITOR_PENDING, message)


def pod_monitor_exists(observed: StatusInput) -> ConditionValue | None:
    """Apply in all other cases."""
    return ConditionValue("True", reasons.POD_MONITOR_PRESENT, "a PodMonitor selects the pods")
