"""Differences between pods that agree on the state, and pods without a report."""

from dataclasses import replace
from typing import Any

import pytest

from mcpproxy.api.v1alpha1.status import ComponentCounts, ServerInfo
from mcpproxy.status.disagreement import (
    CATALOG,
    PODS,
    backend_key,
    find_disagreements,
    reported_disagreements,
)
from mcpproxy.status.inputs import StatusInput
from tests.status.views import a_pod, a_report, a_view, condition, observed, status_of, verdict
from tests.support.builders import a_backend, an_mcpproxy

WEATHER = backend_key("weather")


def seen(*views: dict[str, Any], **fields: Any) -> StatusInput:
    """A pod for each view of `weather`."""
    pods = [a_pod(f"tools-{number}", a_view(**view)) for number, view in enumerate(views)]
    return observed(*pods, **fields)


def three(*, silent: int) -> StatusInput:
    """Three pods, of which so many do not report."""
    reporting = [a_pod(f"tools-{number}", a_view()) for number in range(silent, 3)]
    return observed(*reporting, *(a_pod(f"tools-{number}") for number in range(silent)))


@pytest.mark.parametrize(
    ("item", "other", "words"),
    [
        (
            {"components": ComponentCounts(tools=3)},
            {"components": ComponentCounts(tools=4)},
            "tools 3 (1 of 2), 4 (1 of 2)",
        ),
        (
            {"server": ServerInfo(name="w", version="1")},
            {"server": ServerInfo(name="w", version="2")},
            "server w 1 (1 of 2), w 2 (1 of 2)",
        ),
        (
            {"protocol_version": "2025-11-25"},
            {"protocol_version": "2026-07-28"},
            "protocolVersion 2025-11-25 (1 of 2), 2026-07-28 (1 of 2)",
        ),
        ({"session": "Stateful"}, {}, "session Stateful (1 of 2), none (1 of 2)"),
    ],
)
def test_a_disagreement_of_pods_is_reported_with_numbers(
    item: dict[str, Any], other: dict[str, Any], words: str
) -> None:
    result = seen(item, other)
    assert find_disagreements(result) == {WEATHER}
    status = status_of(result)
    (backend,) = status.backends or []
    assert (backend.state, backend.reason) == ("Healthy", "PodsDiffer")
    assert backend.message == f"pods differ: {words}"
    assert verdict(status, "BackendsHealthy") == ("True", "PodsDiffer")
    assert condition(status, "BackendsHealthy").message == (
        f"1 of 1 healthy; weather is Healthy: pods differ: {words}"
    )
    assert verdict(status, "Ready") == ("True", "Serving")
    assert reported_disagreements(status) == {WEATHER}


def test_pods_with_equal_reports_cause_no_disagreement() -> None:
    result = seen({}, {})
    assert find_disagreements(result) == frozenset()
    assert reported_disagreements(status_of(result)) == frozenset()


def test_a_pod_that_cannot_reach_a_backend_does_not_disagree_about_its_components() -> None:
    assert find_disagreements(seen({}, {"state": "Unhealthy"}, {})) == frozenset()


def test_a_difference_that_is_debounced_leaves_the_previous_values() -> None:
    before = status_of(seen({}, {}))
    later = seen({}, {"components": ComponentCounts(tools=9)})
    assert status_of(replace(later, debounced=find_disagreements(later)), before) == before


def test_different_catalogs_remove_the_hash_with_a_message() -> None:
    pods = [a_pod(f"tools-{letter}", report=a_report(a_view(), catalog=letter)) for letter in "ab"]
    result = observed(*pods)
    assert find_disagreements(result) == {CATALOG}
    status = status_of(result)
    assert status.catalog_hash is None
    assert verdict(status, "BackendsHealthy") == ("True", "PodsDiffer")
    assert "the pods have different catalogs" in condition(status, "BackendsHealthy").message
    assert "the pods have different catalogs" in condition(status, "Ready").message
    assert reported_disagreements(status) == {CATALOG}
    recent = replace(result, debounced=frozenset({CATALOG}))
    assert status_of(recent, status_of(seen({}, {}))).catalog_hash == "c1"
    assert reported_disagreements(status_of(recent)) == frozenset()


def test_one_report_from_three_pods_is_not_enough_to_be_ready() -> None:
    result = three(silent=2)
    assert find_disagreements(result) == {PODS}
    status = status_of(result)
    assert verdict(status, "BackendsHealthy") == ("Unknown", "PodsNotReporting")
    assert condition(status, "BackendsHealthy").message == "1 of 1 healthy; reported by 1 of 3 pods"
    assert verdict(status, "Ready") == ("Unknown", "PodsNotReporting")
    assert status.catalog_hash is None
    assert reported_disagreements(status) == {PODS}


def test_one_missing_report_of_three_is_noted_and_ready_stays_true() -> None:
    status = status_of(three(silent=1))
    assert verdict(status, "BackendsHealthy") == ("Unknown", "PodsNotReporting")
    assert verdict(status, "Ready") == ("True", "Serving")
    assert condition(status, "Ready").message == (
        "1 of 1 backends are being served; reported by 2 of 3 pods"
    )


def test_briefly_missing_reports_are_debounced() -> None:
    status = status_of(replace(three(silent=2), debounced=frozenset({PODS})))
    assert verdict(status, "BackendsHealthy") == ("True", "AllHealthy")
    assert verdict(status, "Ready") == ("True", "Serving")
    assert status.catalog_hash == "c1"


def test_a_failure_without_reports_of_all_pods_names_the_number_of_reports() -> None:
    pods = [a_pod("tools-1", a_view(state="Unhealthy", message="refused")), a_pod("tools-2")]
    status = status_of(observed(*pods))
    assert condition(status, "BackendsHealthy").message == (
        "weather is Unhealthy: refused; reported by 1 of 2 pods"
    )


def test_a_catalog_without_reports_of_all_pods_is_not_reported_as_approved() -> None:
    spec = an_mcpproxy(backends=[a_backend()], catalog={"approvedHash": "a" * 64}).spec
    report = a_report(a_view(), catalog="a" * 64)
    result = observed(a_pod("tools-1", report=report), a_pod("tools-2"), spec=spec)
    assert verdict(status_of(result), "CatalogDrift") == ("Unknown", "NotReported")
    recent = replace(result, debounced=frozenset({PODS}))
    assert verdict(status_of(recent), "CatalogDrift") == ("False", "CatalogApproved")
