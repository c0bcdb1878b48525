"""Pure checks of the pods: do they serve, are they on their way, can they go on?"""

from mcpproxy.api.status import MCPProxyStatus
from mcpproxy.status import reasons
from mcpproxy.status.observed import Finding, Observed
from mcpproxy.status.verdict import Verdict

_NAMED = 5


def available(observed: Observed) -> Verdict:
    """Whether ready pods run the current configuration."""
    deployment = observed.deployment
    if observed.blocked is not None and (
        deployment is None or observed.blocked.reason == reasons.NOT_OWNED
    ):
        return Verdict("False", observed.blocked.reason, observed.blocked.message)
    if deployment is None:
        if observed.rejected is not None:
            return Verdict("False", reasons.INVALID_SPEC, "nothing runs: the spec is not valid")
        if observed.suspended:
            return Verdict("False", reasons.SUSPENDED, "nothing runs: the proxy is suspended")
        return Verdict("False", reasons.CREATING, "the Deployment is being created")
    if deployment.desired == 0:
        return Verdict("False", reasons.SCALED_TO_ZERO, "no pods run, as asked for by 0 replicas")
    serving = len(observed.serving)
    if serving:
        return Verdict("True", reasons.PODS_READY, with_problems(observed, serving))
    return _not_available(observed)


def _not_available(observed: Observed) -> Verdict:
    deployment = observed.deployment
    assert deployment is not None
    if deployment.failure is not None:
        failure = _explained(observed, deployment.failure)
        return Verdict("False", failure.reason, failure.message)
    older = sum(1 for pod in observed.pods if pod.ready and not pod.current)
    if older:
        said = "; ".join(found.message for found in _problems(observed)[:_NAMED])
        pods = "1 pod serves" if older == 1 else f"{older} pods serve"
        message = f"{pods} the previous configuration meanwhile"
        return Verdict("False", reasons.ROLLING_OUT, f"{message}: {said}" if said else message)
    found = _problems(observed)
    reason = found[0].reason if found else reasons.PODS_NOT_READY
    return Verdict("False", reason, with_problems(observed, 0))


def _explained(observed: Observed, failure: Finding) -> Finding:
    """Why the Deployment can't go on, and what the pods say of it."""
    said = [failure.message, *(found.message for found in _problems(observed)[:_NAMED])]
    return Finding(failure.reason, "; ".join(filter(None, said)))


def _problems(observed: Observed) -> list[Finding]:
    """What keeps current pods from being ready: the most hopeless first, each once."""
    found = {pod.problem for pod in observed.pods if pod.problem and pod.current}
    return sorted(found, key=lambda one: (one.reason not in reasons.HOPELESS, one.message))


def with_problems(observed: Observed, serving: int) -> str:
    """How many pods are ready, and what keeps the others from it."""
    assert observed.deployment is not None
    message = f"{serving} of {observed.deployment.desired} pods ready"
    said = "; ".join(problem.message for problem in _problems(observed)[:_NAMED])
    return f"{message}: {said}" if said else message


def reconciling(observed: Observed, before: MCPProxyStatus | None) -> Verdict | None:
    """Present while the cluster is on its way to what the spec asks for.

    Pods that are lost, or that an autoscaler adds, are no change on its way.
    """
    deployment = observed.deployment
    if observed.rejected is not None or stalled(observed) is not None:
        return None
    if observed.blocked is not None:
        return Verdict("True", observed.blocked.reason, observed.blocked.message)
    if observed.withheld:
        return Verdict("True", reasons.SUSPENDED, waiting_changes(observed))
    if deployment is None:
        return Verdict("True", reasons.CREATING, "the Deployment is being created")
    if deployment.complete or _merely_scaled(observed, before):
        return None
    message = (
        f"{deployment.updated} of {deployment.desired} pods updated,"
        f" {deployment.available} available"
    )
    if not deployment.rolled_out:
        return Verdict("True", reasons.ROLLING_OUT, message)
    starting = any(pod.starting for pod in observed.pods)
    if _sets_replicas(observed) and (starting or deployment.replicas != deployment.desired):
        return Verdict("True", reasons.SCALING, message)
    return None


def _merely_scaled(observed: Observed, before: MCPProxyStatus | None) -> bool:
    """Whether somebody else has set a number of pods that the Deployment has not seen yet."""
    deployment = observed.deployment
    if deployment is None or deployment.settled or _sets_replicas(observed) or before is None:
        return False
    found = {condition.type for condition in before.conditions or []}
    return before.observed_generation == observed.generation and reasons.RECONCILING not in found


def _sets_replicas(observed: Observed) -> bool:
    return observed.spec is not None and observed.spec.replicas is not None


def stalled(observed: Observed) -> Verdict | None:
    """Present while nothing will get better without a change by a human."""
    found: Finding | None = None
    if observed.rejected is not None:
        found = Finding(reasons.INVALID_SPEC, observed.rejected)
    elif observed.blocked is not None and observed.blocked.reason not in reasons.PASSING:
        found = observed.blocked
    elif observed.deployment is not None and not observed.deployment.complete:
        failure = observed.deployment.failure
        found = _explained(observed, failure) if failure else _all_lost(observed)
    return Verdict("True", found.reason, found.message) if found else None


def _all_lost(observed: Observed) -> Finding | None:
    """Why no pod serves any more, though the rollout went well once."""
    problems = [found for found in _problems(observed) if found.reason in reasons.HOPELESS]
    rolled_out = observed.deployment is not None and observed.deployment.rolled_out
    if observed.serving or not rolled_out or not problems:
        return None
    return Finding(problems[0].reason, with_problems(observed, 0))


def waiting_changes(observed: Observed) -> str:
    """What a suspended proxy would change."""
    named = ", ".join(observed.withheld[:_NAMED])
    more = len(observed.withheld) - _NAMED
    return f"changes wait: {named}" + (f" and {more} more" if more > 0 else "")
