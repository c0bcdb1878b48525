"""Views of several pods of one backend become one state."""

import pytest

from mcpproxy.api.v1alpha1.status import BackendStatus, ComponentCounts, ServerInfo
from mcpproxy.status.backends import catalog_hash, count_components, merge_backends, total_counts
from tests.status.views import a_report, a_view


def merged(*views: BackendStatus) -> BackendStatus:
    """Return the aggregated views of pods of `weather`."""
    (backend,) = merge_backends(["weather"], [a_report(view) for view in views])
    return backend


@pytest.mark.parametrize(
    "state", ["Healthy", "Degraded", "Unhealthy", "Unauthorized", "RateLimited"]
)
def test_a_state_that_all_pods_report_is_the_state(state: str) -> None:
    view = a_view(state=state, reason="Why", message="because")
    assert merged(view, view, view) == view


def test_pods_that_disagree_make_it_degraded_with_numbers() -> None:
    bad = a_view(state="Unhealthy", message="connection refused")
    result = merged(a_view(), bad, a_view())
    assert (result.state, result.reason) == ("Degraded", "PodsDisagree")
    assert result.message == "1 of 3 pods: connection refused"
    assert result.components == ComponentCounts(tools=2, prompts=0)


def test_a_problem_of_most_pods_is_the_state_with_numbers_and_without_counts() -> None:
    bad = a_view(state="Unauthorized", reason="Unauthorized", message="HTTP 401")
    result = merged(a_view(), bad, bad)
    assert (result.state, result.reason) == ("Unauthorized", "Unauthorized")
    assert result.message == "2 of 3 pods: HTTP 401"
    assert result.components is None


def test_half_of_the_pods_are_not_a_majority() -> None:
    bad = a_view(state="Unhealthy", reason="Unreachable", message="refused")
    result = merged(bad, a_view(), a_view(), bad)
    assert (result.state, result.reason) == ("Degraded", "PodsDisagree")
    assert result.message == "2 of 4 pods: refused"
    assert merged(bad, bad, a_view(), a_view(), bad).state == "Unhealthy"


def test_the_most_common_state_is_reported_with_each_different_failure() -> None:
    refused = a_view(state="Unhealthy", reason="Unreachable", message="refused")
    denied = a_view(state="Unauthorized", reason="Unauthorized", message="HTTP 401")
    result = merged(denied, refused, denied)
    assert (result.state, result.reason) == ("Unauthorized", "Unauthorized")
    assert result.message == "1 of 3 pods: refused; 2 of 3 pods: HTTP 401"
    assert merged(denied, refused).state == "Unhealthy"
    assert merged(denied, refused).components is None


def test_a_rate_limit_that_most_pods_meet_is_the_state_and_the_counts_stay() -> None:
    limited = a_view(
        state="RateLimited",
        reason="RateLimited",
        message="HTTP 429",
        components=ComponentCounts(tools=2, prompts=0),
    )
    result = merged(limited, a_view(), limited)
    assert (result.state, result.reason) == ("RateLimited", "RateLimited")
    assert result.message == "2 of 3 pods: HTTP 429"
    assert result.components == ComponentCounts(tools=2, prompts=0)
    gone = a_view(state="Unhealthy", reason="Unreachable", message="refused")
    result = merged(limited, a_view(), gone)
    assert (result.state, result.components) == ("RateLimited", ComponentCounts(tools=2, prompts=0))
    assert result.message == "1 of 3 pods: refused; 1 of 3 pods: HTTP 429"


def test_a_rate_limit_before_anything_was_listed_counts_as_a_failure() -> None:
    unlisted = a_view(state="RateLimited", reason="NotListed", message="HTTP 429")
    result = merged(unlisted, unlisted, a_view())
    assert (result.state, result.reason) == ("RateLimited", "NotListed")
    assert result.components is None
    result = merged(unlisted, a_view(), a_view())
    assert (result.state, result.message) == ("Degraded", "1 of 3 pods: HTTP 429")


def test_the_most_common_message_for_a_state_is_reported_regardless_of_pod_order() -> None:
    late = a_view(state="Unhealthy", reason="TimedOut", message="late")
    refused = a_view(state="Unhealthy", reason="Unreachable", message="refused")
    assert merged(late, refused, refused) == merged(refused, late, refused) == refused
    assert merged(refused, late) == merged(late, refused)


def test_a_failed_backend_has_no_counts_even_if_a_pod_still_gives_some() -> None:
    stale = a_view(state="Unhealthy", components=ComponentCounts(tools=40))
    assert merged(stale, stale).components is None


def test_a_pod_with_an_unknown_state_does_not_count() -> None:
    assert merged(a_view(state="Unknown"), a_view()).state == "Healthy"


def test_a_backend_without_a_report_is_unknown() -> None:
    (backend,) = merge_backends(["weather"], [])
    assert (backend.state, backend.reason, backend.components) == ("Unknown", "NotReported", None)


def test_a_removed_backend_is_not_in_the_result() -> None:
    result = merge_backends(["b", "a"], [a_report(a_view("a"), a_view("b"), a_view("gone"))])
    assert [backend.name for backend in result] == ["a", "b"]


def test_a_count_that_differs_between_pods_is_absent_and_the_others_stay() -> None:
    result = merged(
        a_view(components=ComponentCounts(tools=3, prompts=1)),
        a_view(components=ComponentCounts(tools=4, prompts=1)),
    )
    assert result.components == ComponentCounts(prompts=1)


def test_an_empty_list_counts_zero_and_a_kind_not_offered_has_no_count() -> None:
    result = merged(a_view(components=ComponentCounts(tools=0)))
    assert result.components == ComponentCounts(tools=0)
    assert result.components.to_manifest() == {"tools": 0}


def test_server_information_is_kept_while_pods_agree() -> None:
    view = a_view(server=ServerInfo(name="w", version="1"), protocol_version="2025-11-25")
    other = a_view(server=ServerInfo(name="w", version="2"), protocol_version="2025-11-25")
    result = merged(view, other)
    assert (result.server, result.protocol_version) == (None, "2025-11-25")


def test_kinds_that_no_pod_finds_are_distinguished_from_unknown_ones() -> None:
    offered = a_view(components=ComponentCounts(tools=2), not_offered=["prompts"])
    assert merged(offered, offered).not_offered == ["prompts"]
    assert merged(offered, a_view(components=ComponentCounts(tools=2))).not_offered is None
    failed = a_view(state="Unhealthy", not_offered=["prompts"])
    assert merged(failed).not_offered is None


def test_the_totals_state_the_number_of_completely_counted_backends() -> None:
    every = ["prompts", "resources", "resourceTemplates"]
    whole = a_view("a", components=ComponentCounts(tools=3), not_offered=every)
    part = a_view("b", components=ComponentCounts(tools=1), not_offered=every[1:])
    failed = a_view("c", "Unhealthy")
    assert count_components([whole]) == "1/1"
    assert count_components([whole, part, failed]) == "1/3"
    assert count_components([part]) == "0/1"
    assert count_components([failed]) is None


def test_totals_are_sums_of_known_counts() -> None:
    backends = [
        a_view("a", components=ComponentCounts(tools=3)),
        a_view("b", "Unhealthy"),
        a_view("c", components=ComponentCounts(tools=0, prompts=2)),
    ]
    assert total_counts(backends) == ComponentCounts(tools=3, prompts=2)
    assert total_counts([a_view("b", "Unhealthy")]) is None


def test_the_catalog_is_known_only_while_all_pods_show_the_same() -> None:
    assert catalog_hash([a_report(catalog="x"), a_report(catalog="x")]) == "x"
    assert catalog_hash([a_report(catalog="x"), a_report(catalog="y")]) is None
    assert catalog_hash([a_report(catalog="x"), a_report(catalog=None)]) is None
    assert catalog_hash([]) is None
