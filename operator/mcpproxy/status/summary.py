"""Pure: one word or two that say how a proxy does, for the column of kubectl get."""

from collections.abc import Mapping, Sequence
from typing import Final

from mcpproxy.api.v1alpha1.status import BackendStatus
from mcpproxy.status import reasons
from mcpproxy.status.conditions.condition import ConditionValue
from mcpproxy.status.conditions.pods import pod_problems
from mcpproxy.status.inputs import StatusInput

_PENDING: Final = frozenset(
    {
        reasons.BACKENDS_UNKNOWN,
        reasons.CREATING,
        reasons.PODS_NOT_HEARD,
        reasons.PODS_NOT_READY,
        reasons.WAITING_FOR_DELETION,
    }
)


def summarize(
    observed: StatusInput,
    verdicts: Mapping[str, ConditionValue | None],
    backends: Sequence[BackendStatus],
) -> str:
    """The first that holds of all that can be said, the most important first."""
    ready, available = verdicts[reasons.READY], verdicts[reasons.AVAILABLE]
    if ready is not None and ready.reason == reasons.TERMINATING:
        return "Terminating"
    if verdicts[reasons.SUSPENDED] is not None:
        return "Suspended"
    if available is not None and available.reason == reasons.SCALED_TO_ZERO:
        return "Scaled to 0"
    if verdicts[reasons.STALLED] is not None:
        return "Stalled"
    if ready is None or (ready.status != "True" and ready.reason in _PENDING):
        return "Pending"
    if ready.status != "True":
        return "NotReady" if ready.status == "False" else "Unknown"
    if verdicts[reasons.RECONCILING] is not None:
        return _rollout(observed)
    healthy = all(found.state == "Healthy" for found in backends)
    return "Serving" if healthy else "Degraded"


def _rollout(observed: StatusInput) -> str:
    """A rollout that goes on by itself is told from one that needs a human."""
    deployment = observed.deployment
    if deployment is not None and deployment.paused and not deployment.rolled_out:
        return "Paused"
    blocked = any(found.reason in reasons.HINDERS for found in pod_problems(observed))
    return "Degraded" if blocked else "Updating"
