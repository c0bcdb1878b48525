"""Pure checks of the pods: do they serve, are they on their way, can they go on?"""

from mcpproxy.api.v1alpha1.status import MCPProxyStatus
from mcpproxy.status import reasons
from mcpproxy.status.conditions.condition import ConditionValue
from mcpproxy.status.inputs import ConditionReason, StatusInput

_NAMED = 5
_SHOW_PODS = frozenset({"Deployment", "ReplicaSet", "Pod"})
"""Kinds of objects that say which pods there are."""


def check_deletion(observed: StatusInput) -> str:
    """The sentence about a deletion, with the finalizers that it waits for."""
    message = "the MCPProxy or its namespace is being deleted, and its pods with it"
    held = ", ".join(observed.finalizers[:_NAMED])
    return (
        f"{message}; finalizers keep it, which their owner has to remove: {held}"
        if held
        else message
    )


def check_available(observed: StatusInput) -> ConditionValue:
    """Whether ready pods run the current configuration."""
    deployment, blocked = observed.deployment, observed.blocked
    if blocked is not None and observed.unread & _SHOW_PODS:
        return ConditionValue("Unknown", blocked.reason, blocked.message)
    if blocked is not None and (deployment is None or blocked.reason == reasons.NOT_OWNED):
        return ConditionValue("False", blocked.reason, blocked.message)
    if deployment is None:
        if observed.rejected is not None:
            return ConditionValue(
                "False", reasons.INVALID_SPEC, "nothing runs: the spec is not valid"
            )
        if observed.suspended:
            return ConditionValue(
                "False", reasons.SUSPENDED, "nothing runs: the proxy is suspended"
            )
        return ConditionValue("False", reasons.CREATING, "the Deployment is being created")
    if deployment.desired == 0:
        return ConditionValue(
            "False", reasons.SCALED_TO_ZERO, "the Deployment is scaled to 0, so no pods run"
        )
    if observed.outdated or observed.superseded:
        return ConditionValue("True", reasons.ROLLING_OUT, summarize_problems(observed))
    if observed.serving:
        return ConditionValue("True", reasons.PODS_READY, summarize_problems(observed))
    return _not_available(observed)


def _not_available(observed: StatusInput) -> ConditionValue:
    deployment = observed.deployment
    assert deployment is not None
    if deployment.failure is not None:
        failure = _explained(observed, deployment.failure)
        return ConditionValue("False", failure.reason, failure.message)
    found = pod_problems(observed)
    reason = found[0].reason if found else reasons.PODS_NOT_READY
    return ConditionValue("False", reason, summarize_problems(observed))


def _explained(observed: StatusInput, failure: ConditionReason) -> ConditionReason:
    """Why the Deployment can't go on, what the pods say of it, and which of them serve."""
    older = [older_pods(observed)] if observed.outdated or observed.superseded else []
    said = [*older, failure.message, *(found.message for found in pod_problems(observed)[:_NAMED])]
    return ConditionReason(failure.reason, "; ".join(filter(None, said)))


def pod_problems(observed: StatusInput) -> list[ConditionReason]:
    """What keeps current pods from being ready: the most hopeless first, each once."""
    found = {
        pod.problem for pod in observed.pods if pod.problem and pod.current and not pod.superseded
    }
    return sorted(found, key=lambda one: (one.reason not in reasons.HOPELESS, one.message))


def summarize_problems(observed: StatusInput) -> str:
    """How many pods serve which configuration, and what keeps the others from it."""
    deployment, serving = observed.deployment, len(observed.serving)
    assert deployment is not None
    message = f"{serving} of {deployment.desired} pods ready"
    hindered = [problem.message for problem in pod_problems(observed)[:_NAMED]]
    if observed.outdated or observed.superseded:
        message = older_pods(observed)
        hindered = [*_paused(observed), *hindered]
        if deployment.failure is not None:
            hindered.insert(0, deployment.failure.message)
    return ": ".join(filter(None, (message, "; ".join(hindered))))


def _paused(observed: StatusInput) -> list[str]:
    """The command that resumes a paused rollout; nothing where none is paused."""
    deployment = observed.deployment
    if deployment is None or not deployment.paused or deployment.rolled_out:
        return []
    command = f"kubectl rollout resume -n {observed.namespace} deployment/{observed.name}"
    return [f"the Deployment is paused: {command}"]


def older_pods(observed: StatusInput) -> str:
    """How many pods serve until those that the Deployment asks for now are ready."""
    serving = len(observed.serving)
    pods = "1 pod serves" if serving == 1 else f"{serving} pods serve"
    if observed.outdated:
        return f"{pods} the previous configuration until pods of the new one are ready"
    return f"{pods} from the previous pod template until pods of the new one are ready"


def check_reconciling(
    observed: StatusInput, before: MCPProxyStatus | None
) -> ConditionValue | None:
    """Present while the cluster is on its way to what the spec asks for.

    Pods that are lost, or that an autoscaler adds, are no change on its way.
    """
    deployment = observed.deployment
    if observed.terminating:
        return ConditionValue("True", reasons.TERMINATING, check_deletion(observed))
    if observed.rejected is not None or check_stalled(observed) is not None:
        return None
    if observed.blocked is not None:
        return ConditionValue("True", observed.blocked.reason, observed.blocked.message)
    if observed.withheld:
        return ConditionValue("True", reasons.SUSPENDED, pending_changes(observed))
    if deployment is None:
        return ConditionValue("True", reasons.CREATING, "the Deployment is being created")
    if deployment.complete or _merely_scaled(observed, before):
        return None
    message = (
        f"{deployment.updated} of {deployment.desired} pods updated,"
        f" {deployment.available} available"
    )
    if not deployment.rolled_out:
        told = "; ".join((message, *_paused(observed)))
        return ConditionValue("True", reasons.ROLLING_OUT, told)
    starting = any(pod.starting for pod in observed.pods)
    if _sets_replicas(observed) and (starting or deployment.replicas != deployment.desired):
        return ConditionValue("True", reasons.SCALING, message)
    return None


def _merely_scaled(observed: StatusInput, before: MCPProxyStatus | None) -> bool:
    """Whether somebody else has set a number of pods that the Deployment has not seen yet."""
    deployment = observed.deployment
    if deployment is None or deployment.settled or _sets_replicas(observed) or before is None:
        return False
    found = {condition.type for condition in before.conditions or []}
    return before.observed_generation == observed.generation and reasons.RECONCILING not in found


def _sets_replicas(observed: StatusInput) -> bool:
    return observed.spec is not None and observed.spec.replicas is not None


def check_stalled(observed: StatusInput) -> ConditionValue | None:
    """Present while nothing will get better without a change by a human."""
    found: ConditionReason | None = None
    if observed.terminating:
        return None
    if observed.rejected is not None:
        found = ConditionReason(reasons.INVALID_SPEC, observed.rejected)
    elif observed.blocked is not None and observed.blocked.reason not in reasons.PASSING:
        found = observed.blocked
    elif observed.deployment is not None and not observed.deployment.complete:
        failure = observed.deployment.failure
        found = _explained(observed, failure) if failure else _all_lost(observed)
    return ConditionValue("True", found.reason, found.message) if found else None


def _all_lost(observed: StatusInput) -> ConditionReason | None:
    """Why no pod serves any more, though the rollout went well once."""
    hopeless = [found for found in pod_problems(observed) if found.reason in reasons.HOPELESS]
    rolled_out = observed.deployment is not None and observed.deployment.rolled_out
    if observed.serving or not rolled_out or not hopeless:
        return None
    return ConditionReason(hopeless[0].reason, summarize_problems(observed))


def pending_changes(observed: StatusInput) -> str:
    """What a suspended proxy would change."""
    named = ", ".join(observed.withheld[:_NAMED])
    more = len(observed.withheld) - _NAMED
    return f"pending changes: {named}" + (f" and {more} more" if more > 0 else "")
