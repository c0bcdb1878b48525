"""LimitsEnforced: whether rules of spec.limits cover tools, and whether pods count together."""

from typing import Any

from mcpproxy.api.v1alpha1.status import LimitsReport
from mcpproxy.status.compute import find_condition
from mcpproxy.status.inputs import StatusInput
from tests.status.views import a_pod, a_report, a_view, condition, observed, status_of, verdict
from tests.support.builders import an_mcpproxy

LIMITS: dict[str, Any] = {"rules": [{"name": "each", "inFlight": 5}]}


def seen(*reports: LimitsReport | None, limits: Any = LIMITS) -> StatusInput:
    """A proxy with limits and a pod for each report."""
    told = [a_report(a_view()).model_copy(update={"limits": report}) for report in reports]
    pods = [a_pod(f"tools-{number}", report=report) for number, report in enumerate(told)]
    return observed(*pods, spec=an_mcpproxy(limits=limits).spec)


def test_a_proxy_without_limits_lacks_the_condition() -> None:
    status = status_of(seen(LimitsReport(rules=0), limits=None))
    assert find_condition(status, "LimitsEnforced") is None


def test_rules_that_cover_tools_are_enforced() -> None:
    status = status_of(seen(LimitsReport(rules=2, unused=[]), LimitsReport(rules=2)))
    assert verdict(status, "LimitsEnforced") == ("True", "LimitsApply")
    assert condition(status, "LimitsEnforced").message == "2 rules limit calls"


def test_a_rule_that_covers_no_tool_in_any_pod_is_named() -> None:
    reports = LimitsReport(rules=2, unused=["old", "new"]), LimitsReport(rules=2, unused=["old"])
    status = status_of(seen(*reports))
    assert verdict(status, "LimitsEnforced") == ("False", "LimitsCoverNothing")
    message = condition(status, "LimitsEnforced").message
    assert "old" in message
    assert "new" not in message


def test_a_store_that_one_pod_cannot_reach_is_reported_first() -> None:
    failing = LimitsReport(rules=1, unused=["old"], failure="valkey:6379: connection refused")
    status = status_of(seen(LimitsReport(rules=1, unused=["old"]), failing))
    assert verdict(status, "LimitsEnforced") == ("False", "StoreUnreachable")
    assert "valkey:6379: connection refused" in condition(status, "LimitsEnforced").message
    assert verdict(status, "Ready")[0] == "True"


def test_until_a_pod_reports_its_limits_the_condition_is_unknown() -> None:
    assert verdict(status_of(seen(None)), "LimitsEnforced") == ("Unknown", "NotReported")
