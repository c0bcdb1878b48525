"""Pure checks of what an MCPProxy only has when its spec asks for it."""

from mcpproxy.status import reasons
from mcpproxy.status.observed import Observed
from mcpproxy.status.progress import waiting_changes
from mcpproxy.status.verdict import Verdict


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


def suspended(observed: Observed) -> Verdict | None:
    """Present while the operator leaves everything as it is."""
    if not observed.suspended:
        return None
    changes = waiting_changes(observed) if observed.withheld else "no change is pending"
    return Verdict(
        "True",
        reasons.SUSPENDED,
        f"spec.suspend is true, so nothing is changed; {changes}",
    )


def monitored(observed: Observed) -> Verdict | None:
    """Whether a PodMonitor has the pods scraped; absent where none is asked for."""
    spec = observed.spec
    if spec is None or spec.monitoring is None or spec.monitoring.pod_monitor is None:
        return None
    if observed.lacking:
        return Verdict(
            "False",
            reasons.KIND_NOT_INSTALLED,
            f"the cluster has no kind {', '.join(sorted(observed.lacking))}: install the Prometheus"
            " operator, or remove spec.monitoring.podMonitor",
        )
    return Verdict("True", reasons.POD_MONITOR_PRESENT, "a PodMonitor has the pods scraped")
