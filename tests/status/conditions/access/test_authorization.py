"""RulesUnused: rules of spec.authorization that cover nothing of the catalog."""

from typing import Any

from mcpproxy.api.v1alpha1.status import AuthorizationReport
from mcpproxy.status.compute import find_condition
from mcpproxy.status.inputs import StatusInput
from tests.status.views import a_pod, a_report, a_view, condition, observed, status_of, verdict
from tests.support.builders import an_mcpproxy

RULES: dict[str, Any] = {
    "rules": [{"name": "all", "who": {"any": True}, "may": [{"tools": ["*"]}]}]
}


def seen(*unused: list[str] | None, authorization: Any = RULES) -> StatusInput:
    """A proxy with rules and a pod for each list of unused entries."""
    reports = [
        a_report(a_view()).model_copy(
            update={"authorization": AuthorizationReport(rules=1, classes=2, unused=entries)}
        )
        for entries in unused
    ]
    pods = [a_pod(f"tools-{number}", report=report) for number, report in enumerate(reports)]
    return observed(*pods, spec=an_mcpproxy(authorization=authorization).spec)


def test_without_rules_there_is_no_condition() -> None:
    for authorization in (None, {"default": "Allow"}):
        status = status_of(seen([], authorization=authorization))
        assert find_condition(status, "RulesUnused") is None


def test_a_rule_that_covers_nothing_in_any_pod_is_named() -> None:
    status = status_of(seen(["all: may[0]", "old: may[1]"], ["old: may[1]"], None))
    assert verdict(status, "RulesUnused") == ("True", "RulesCoverNothing")
    message = condition(status, "RulesUnused").message
    assert "old: may[1]" in message
    assert "all" not in message


def test_rules_that_match_components_are_not_reported() -> None:
    status = status_of(seen([], ["all: may[0]"]))
    assert verdict(status, "RulesUnused") == ("False", "RulesCoverComponents")


def test_until_a_pod_knows_the_whole_catalog_the_condition_is_unknown() -> None:
    assert verdict(status_of(seen()), "RulesUnused") == ("Unknown", "NotReported")
    assert verdict(status_of(seen(None)), "RulesUnused") == ("Unknown", "NotReported")


def test_a_rule_that_covers_nothing_does_not_keep_a_proxy_from_being_ready() -> None:
    assert verdict(status_of(seen(["all: may[0]"])), "Ready")[0] == "True"
