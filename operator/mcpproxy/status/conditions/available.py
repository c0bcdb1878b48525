"""Checks of Available: pods serve, whichever configuration they run."""

from typing import Final

from mcpproxy.status import reasons
from mcpproxy.status.conditions.condition import ConditionValue
from mcpproxy.status.conditions.messages import describe_failure, describe_pods
from mcpproxy.status.inputs import StatusInput

_SHOW_PODS: Final = frozenset({"Deployment", "ReplicaSet", "Pod"})
"""Kinds of objects without which the pods of an MCPProxy are unknown."""


def pods_are_unreadable(observed: StatusInput) -> ConditionValue | None:
    """Apply if an object that shows the pods could not be read."""
    blocked = observed.blocked
    if blocked is None or not observed.unread & _SHOW_PODS:
        return None
    return ConditionValue("Unknown", blocked.reason, blocked.message)


def deployment_is_blocked(observed: StatusInput) -> ConditionValue | None:
    """Apply if the Deployment can't be created, or another owner has it."""
    blocked = observed.blocked
    if blocked is None:
        return None
    if observed.deployment is not None and blocked.reason != reasons.NOT_OWNED:
        return None
    return ConditionValue("False", blocked.reason, blocked.message)


def no_spec_was_valid(observed: StatusInput) -> ConditionValue | None:
    """Apply if no Deployment exists because the spec is invalid."""
    if observed.deployment is not None or observed.rejected is None:
        return None
    return ConditionValue("False", reasons.INVALID_SPEC, "no pods run because the spec is invalid")


def creation_is_suspended(observed: StatusInput) -> ConditionValue | None:
    """Apply if no Deployment exists because the MCPProxy is suspended."""
    if observed.deployment is not None or not observed.suspended:
        return None
    return ConditionValue("False", reasons.SUSPENDED, "no pods run because the proxy is suspended")


def deployment_is_missing(observed: StatusInput) -> ConditionValue | None:
    """Apply if the Deployment does not exist yet."""
    if observed.deployment is not None:
        return None
    return ConditionValue("False", reasons.CREATING, "the Deployment is being created")


def deployment_is_scaled_to_zero(observed: StatusInput) -> ConditionValue | None:
    """Apply if the Deployment has no replicas."""
    if observed.deployment is None or observed.deployment.desired != 0:
        return None
    return ConditionValue(
        "False", reasons.SCALED_TO_ZERO, "no pods run because the Deployment is scaled to 0"
    )


def previous_pods_serve(observed: StatusInput) -> ConditionValue | None:
    """Apply if all pods that serve are of an earlier configuration or pod template."""
    if not (observed.outdated or observed.superseded):
        return None
    return ConditionValue("True", reasons.ROLLING_OUT, describe_pods(observed))


def deployment_has_failed(observed: StatusInput) -> ConditionValue | None:
    """Apply if no pod serves and the Deployment reports a failure."""
    deployment = observed.deployment
    if observed.serving or deployment is None or deployment.failure is None:
        return None
    failure = deployment.failure
    return ConditionValue("False", failure.reason, describe_failure(observed, failure.message))


def no_pod_is_ready(observed: StatusInput) -> ConditionValue | None:
    """Apply if no pod serves; the worst problem of the pods gives the reason."""
    if observed.serving:
        return None
    worst = next(iter(observed.pod_problems), None)
    reason = worst.reason if worst else reasons.PODS_NOT_READY
    return ConditionValue("False", reason, describe_pods(observed))


def current_pods_serve(observed: StatusInput) -> ConditionValue | None:
    """Apply in all other cases: ready pods run the current configuration."""
    return ConditionValue("True", reasons.PODS_READY, describe_pods(observed))
