"""Checks of RulesUnused: rules of spec.authorization that cover nothing of the catalog."""

from typing import Literal

from mcpproxy.api.v1alpha1.status import AuthorizationReport
from mcpproxy.report_aggregation import merge_authorization
from mcpproxy.status import reasons
from mcpproxy.status.conditions.condition import ABSENT, Absence, ConditionValue
from mcpproxy.status.conditions.messages import list_unused_rules
from mcpproxy.status.inputs import StatusInput


def no_rules_exist(observed: StatusInput) -> Literal[Absence.ABSENT] | None:
    """Apply if the spec has no rules."""
    authorization = observed.spec.authorization if observed.spec else None
    return ABSENT if authorization is None or not authorization.rules else None


def catalog_is_unknown(observed: StatusInput) -> ConditionValue | None:
    """Apply if no pod knows the components of all backends."""
    report = _report(observed)
    if report is not None and report.unused is not None:
        return None
    message = "no pod has reported the components of all backends, which the rules cover"
    return ConditionValue("Unknown", reasons.NOT_REPORTED, message)


def rules_cover_nothing(observed: StatusInput) -> ConditionValue | None:
    """Apply if an entry of a rule covers no component in any pod."""
    report = _report(observed)
    if report is None or not report.unused:
        return None
    message = (
        f"rules of spec.authorization cover nothing that the backends offer:"
        f" {list_unused_rules(report.unused)}; correct their patterns, or remove them"
    )
    return ConditionValue("True", reasons.RULES_COVER_NOTHING, message)


def rules_cover_components(observed: StatusInput) -> ConditionValue | None:
    """Apply in all other cases."""
    report = _report(observed)
    if report is None:
        return None
    # The number of classes depends on who called lately; as a fact of the moment it is left to
    # the pods' reports.
    message = f"each entry of the {report.rules} rules covers components that the backends offer"
    return ConditionValue("False", reasons.RULES_COVER_COMPONENTS, message)


def _report(observed: StatusInput) -> AuthorizationReport | None:
    return merge_authorization([report.authorization for report in observed.reports])
