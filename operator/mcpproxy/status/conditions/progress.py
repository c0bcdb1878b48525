"""Checks of Reconciling and Stalled, as kstatus reads them."""

from typing import Final, Literal

from mcpproxy.status import reasons
from mcpproxy.status.conditions.condition import ABSENT, Absence, Check, ConditionValue
from mcpproxy.status.conditions.messages import (
    describe_deletion,
    describe_failure,
    describe_pause,
    describe_pending_changes,
    describe_pods,
)
from mcpproxy.status.inputs import DeploymentView, StatusInput

# Checks of Reconciling


def mcpproxy_is_deleted(observed: StatusInput) -> ConditionValue | None:
    """Apply if the MCPProxy is being deleted."""
    if not observed.terminating:
        return None
    return ConditionValue("True", reasons.TERMINATING, describe_deletion(observed))


def reconciliation_is_stalled(observed: StatusInput) -> Literal[Absence.ABSENT] | None:
    """Apply if the MCPProxy is Stalled: it makes no progress."""
    return ABSENT if any(check(observed) for check in STALLS) else None


def children_are_blocked(observed: StatusInput) -> ConditionValue | None:
    """Apply if the children can't be written at the moment."""
    blocked = observed.blocked
    return ConditionValue("True", blocked.reason, blocked.message) if blocked else None


def changes_are_suspended(observed: StatusInput) -> ConditionValue | None:
    """Apply if a suspended MCPProxy has pending changes."""
    if not observed.pending_changes:
        return None
    return ConditionValue("True", reasons.SUSPENDED, describe_pending_changes(observed))


def deployment_is_missing(observed: StatusInput) -> ConditionValue | None:
    """Apply if the Deployment does not exist yet."""
    if observed.deployment is not None:
        return None
    return ConditionValue("True", reasons.CREATING, "the Deployment is being created")


def rollout_is_complete(observed: StatusInput) -> Literal[Absence.ABSENT] | None:
    """Apply if every pod is of the newest revision and available."""
    return ABSENT if observed.deployment is not None and observed.deployment.complete else None


def replicas_were_set_elsewhere(observed: StatusInput) -> Literal[Absence.ABSENT] | None:
    """Apply if, for example, an autoscaler set replicas that the Deployment has not seen yet."""
    deployment, before = observed.deployment, observed.before
    if deployment is None or deployment.settled or _sets_replicas(observed) or before is None:
        return None
    types = {condition.type for condition in before.conditions or []}
    is_settled = before.observed_generation == observed.generation
    return ABSENT if is_settled and reasons.RECONCILING not in types else None


def deployment_is_rolling_out(observed: StatusInput) -> ConditionValue | None:
    """Apply if pods of another revision exist, or the newest was never available."""
    deployment = observed.deployment
    if deployment is None or deployment.rolled_out:
        return None
    message = "; ".join((_describe_update(deployment), *describe_pause(observed)))
    return ConditionValue("True", reasons.ROLLING_OUT, message)


def deployment_is_scaling(observed: StatusInput) -> ConditionValue | None:
    """Apply if the spec sets replicas that are not all there.

    Pods that are lost, or that an autoscaler adds, are not changes that the spec requests.
    """
    deployment = observed.deployment
    if deployment is None or not _sets_replicas(observed):
        return None
    if deployment.replicas == deployment.desired and not any(pod.starting for pod in observed.pods):
        return None
    return ConditionValue("True", reasons.SCALING, _describe_update(deployment))


# Checks of Stalled: only a human can change these


def deletion_hides_stalls(observed: StatusInput) -> Literal[Absence.ABSENT] | None:
    """Apply if the MCPProxy is being deleted."""
    return ABSENT if observed.terminating else None


def spec_is_invalid(observed: StatusInput) -> ConditionValue | None:
    """Apply if the spec is invalid."""
    if observed.rejected is None:
        return None
    return ConditionValue("True", reasons.INVALID_SPEC, observed.rejected)


def children_stay_blocked(observed: StatusInput) -> ConditionValue | None:
    """Apply if the children can't be written for a reason that does not pass by itself."""
    blocked = observed.blocked
    if blocked is None or blocked.reason in reasons.PASSING:
        return None
    return ConditionValue("True", blocked.reason, blocked.message)


def deployment_has_failed(observed: StatusInput) -> ConditionValue | None:
    """Apply if the Deployment is not complete and reports a failure."""
    deployment = observed.deployment
    if deployment is None or deployment.complete or deployment.failure is None:
        return None
    failure = deployment.failure
    return ConditionValue("True", failure.reason, describe_failure(observed, failure.message))


def all_pods_are_lost(observed: StatusInput) -> ConditionValue | None:
    """Apply if no pod serves although the rollout succeeded once."""
    deployment = observed.deployment
    hopeless = [problem for problem in observed.pod_problems if problem.reason in reasons.HOPELESS]
    if deployment is None or deployment.complete or not deployment.rolled_out:
        return None
    if observed.serving or not hopeless:
        return None
    return ConditionValue("True", hopeless[0].reason, describe_pods(observed))


STALLS: Final[tuple[Check, ...]] = (
    spec_is_invalid,
    children_stay_blocked,
    deployment_has_failed,
    all_pods_are_lost,
)


def _describe_update(deployment: DeploymentView) -> str:
    return (
        f"{deployment.updated} of {deployment.desired} pods updated,"
        f" {deployment.available} available"
    )


def _sets_replicas(observed: StatusInput) -> bool:
    return observed.spec is not None and observed.spec.replicas is not None
