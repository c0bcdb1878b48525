"""Checks of LimitsEnforced: whether the rules of spec.limits cover calls and count all of them."""

from typing import Literal

from mcpproxy.api.v1alpha1.status import LimitsReport
from mcpproxy.report_aggregation import merge_limits
from mcpproxy.status import reasons
from mcpproxy.status.conditions.condition import ABSENT, Absence, ConditionValue
from mcpproxy.status.conditions.messages import list_unused_rules
from mcpproxy.status.inputs import StatusInput


def no_limits_exist(observed: StatusInput) -> Literal[Absence.ABSENT] | None:
    """Apply if the spec has no limits."""
    return ABSENT if observed.spec is None or observed.spec.limits is None else None


def no_pod_reports_limits(observed: StatusInput) -> ConditionValue | None:
    """Apply if no pod has reported its limits."""
    if _report(observed) is not None:
        return None
    message = "no pod has reported the limits on calls"
    return ConditionValue("Unknown", reasons.NOT_REPORTED, message)


def calls_are_not_counted_together(observed: StatusInput) -> ConditionValue | None:
    """Apply if a pod can't reach what counts calls for all pods."""
    report = _report(observed)
    if report is None or report.failure is None:
        return None
    message = (
        f"calls of all pods can't be counted together: {report.failure};"
        " spec.limits.onStoreFailure applies until they can"
    )
    return ConditionValue("False", reasons.STORE_UNREACHABLE, message)


def rules_limit_nothing(observed: StatusInput) -> ConditionValue | None:
    """Apply if a rule covers no tool in any pod."""
    report = _report(observed)
    if report is None or not report.unused:
        return None
    message = (
        f"rules of spec.limits cover no tool that the backends offer:"
        f" {list_unused_rules(report.unused)}; correct their tools, or remove them"
    )
    return ConditionValue("False", reasons.LIMITS_COVER_NOTHING, message)


def limits_are_enforced(observed: StatusInput) -> ConditionValue | None:
    """Apply in all other cases."""
    report = _report(observed)
    if report is None:
        return None
    return ConditionValue("True", reasons.LIMITS_APPLY, f"{report.rules} rules limit calls")


def _report(observed: StatusInput) -> LimitsReport | None:
    return merge_limits([report.limits for report in observed.reports])
