"""Events tell of changes, once each."""

from dataclasses import replace

from mcpproxy.api.v1alpha1.status import MCPProxyStatus
from mcpproxy.status import reasons
from mcpproxy.status.events import find_transitions
from mcpproxy.status.inputs import ConditionReason, StatusInput
from tests.status.views import a_pod, a_view, observed, status_of

READY = observed(a_pod("tools-1", a_view()))
CREATING = observed(deployment=None)


def told(before: StatusInput | None, after: StatusInput) -> list[tuple[str, str]]:
    """Type and reason of each Event."""
    earlier: MCPProxyStatus | None = status_of(before) if before else None
    return [
        (transition.type, transition.reason)
        for transition in find_transitions(earlier, status_of(after))
    ]


def test_no_event_is_written_while_nothing_changes() -> None:
    assert told(READY, READY) == []


def test_a_new_proxy_that_becomes_ready_without_a_fault_makes_no_event() -> None:
    assert told(None, CREATING) == []
    assert told(None, READY) == []
    assert told(CREATING, READY) == []


def test_a_new_proxy_that_becomes_ready_after_a_failure_is_reported() -> None:
    blocked = ConditionReason(reasons.NOT_OWNED, "Deployment tools belongs to somebody else")
    result = told(observed(deployment=None, blocked=blocked), READY)
    assert ("Normal", "Serving") in result


def test_a_backend_that_fails_is_a_warning_and_its_return_is_normal() -> None:
    failed = observed(a_pod("tools-1", a_view(state="Unhealthy", message="refused")))
    assert told(READY, failed) == [("Warning", "BackendUnhealthy")]
    assert told(failed, READY) == [("Normal", "BackendHealthy")]


def test_a_changed_message_alone_is_not_reported() -> None:
    item = observed(a_pod("tools-1", a_view(state="Unhealthy", message="refused")))
    other = observed(a_pod("tools-1", a_view(state="Unhealthy", message="timeout")))
    assert told(item, other) == []


def test_an_invalid_spec_is_reported_once_though_three_conditions_change() -> None:
    assert told(READY, replace(READY, rejected="spec: wrong")) == [("Warning", "InvalidSpec")]


def test_a_foreign_object_is_reported_even_for_a_new_proxy() -> None:
    blocked = ConditionReason(reasons.NOT_OWNED, "Deployment tools belongs to somebody else")
    result = told(None, observed(deployment=None, blocked=blocked))
    assert result == [("Warning", "NotOwned")]


def test_a_rollout_and_scaling_to_zero_are_not_warnings() -> None:
    old = observed(a_pod("tools-1", a_view(), current=False))
    assert all(type_ == "Normal" for type_, _ in told(READY, old))


def test_an_event_about_a_backend_names_it_and_one_about_a_condition_names_none() -> None:
    failed = [a_view(name=name, state="Unhealthy", message="refused") for name in ("a", "b")]
    well = [a_view(name=name) for name in ("a", "b")]
    before, after = (
        status_of(observed(a_pod("tools-1", *views), backends=("a", "b")))
        for views in (well, failed)
    )
    assert [change.backend for change in find_transitions(before, after)] == ["a", "b"]
    rejected = status_of(replace(READY, rejected="spec: wrong"))
    assert [change.backend for change in find_transitions(status_of(READY), rejected)] == [""]
