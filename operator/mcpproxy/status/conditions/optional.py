"""Pure checks of what an MCPProxy only has when its spec asks for it."""

from mcpproxy.status import reasons
from mcpproxy.status.conditions.condition import ConditionValue
from mcpproxy.status.conditions.pods import pending_changes
from mcpproxy.status.inputs import StatusInput


def check_autoscaled(observed: StatusInput) -> ConditionValue | None:
    """Whether the autoscaler sets the number of pods; absent without one."""
    spec = observed.spec
    if spec is None or spec.autoscaling is None:
        return None
    problem = observed.autoscaler
    if problem is None:
        most = spec.autoscaling.max_replicas
        return ConditionValue(
            "True", reasons.SCALING_ACTIVE, f"up to {most} pods, as their load asks for"
        )
    if not problem.reason:
        return ConditionValue("Unknown", reasons.SCALING_UNKNOWN, problem.message)
    return ConditionValue("False", problem.reason, problem.message)


def check_suspended(observed: StatusInput) -> ConditionValue | None:
    """Present while the operator leaves everything as it is."""
    if not observed.suspended:
        return None
    changes = pending_changes(observed) if observed.withheld else "no change is pending"
    return ConditionValue(
        "True",
        reasons.SUSPENDED,
        f"spec.suspend is true, so nothing is changed; {changes}",
    )


def check_monitored(observed: StatusInput) -> ConditionValue | None:
    """Whether a PodMonitor has the pods scraped; absent where none is asked for."""
    spec = observed.spec
    if spec is None or spec.monitoring is None or spec.monitoring.pod_monitor is None:
        return None
    if observed.lacking:
        return ConditionValue(
            "False",
            reasons.KIND_NOT_INSTALLED,
            f"the cluster has no kind {', '.join(sorted(observed.lacking))}: install the Prometheus"
            " operator, or remove spec.monitoring.podMonitor",
        )
    return ConditionValue("True", reasons.POD_MONITOR_PRESENT, "a PodMonitor has the pods scraped")
