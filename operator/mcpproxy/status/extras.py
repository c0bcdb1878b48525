"""Pure checks of what an MCPProxy only has when its spec asks for it."""

from mcpproxy.status import reasons
from mcpproxy.status.checks import Verdict
from mcpproxy.status.observed import Observed


def autoscaled(observed: Observed) -> Verdict | None:
    """Whether the autoscaler sets the number of pods; absent without one."""
    spec = observed.spec
    if spec is None or spec.autoscaling is None:
        return None
    problem = observed.autoscaler
    if problem is None:
        most = spec.autoscaling.max_replicas
        return Verdict("True", reasons.SCALING_ACTIVE, f"up to {most} pods, as their load asks for")
    if not problem.reason:
        return Verdict("Unknown", reasons.SCALING_UNKNOWN, problem.message)
    return Verdict("False", problem.reason, problem.message)
