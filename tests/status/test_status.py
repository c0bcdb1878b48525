"""The status says what was observed, and nothing that nobody vouches for."""

import json
from dataclasses import replace

import pytest

from mcpproxy.api.v1alpha1.status import ComponentCounts
from mcpproxy.status import reasons
from mcpproxy.status.compute import build_status, find_condition
from mcpproxy.status.inputs import ConditionReason
from tests.status.views import (
    EARLIER,
    NOW,
    a_deployment,
    a_pod,
    a_report,
    a_view,
    condition,
    observed,
    status_of,
    verdict,
)
from tests.support.builders import a_backend, an_mcpproxy

READY = observed(a_pod("tools-1", a_view()))
NO_IMAGE = ConditionReason(
    reasons.IMAGE_PULL, "cannot pull the image x:1; correct it, or run kubectl describe pod"
)


def test_a_proxy_whose_pods_see_healthy_backends_is_ready() -> None:
    status = status_of(READY)
    assert verdict(status, "Accepted") == ("True", "Valid")
    assert verdict(status, "Available") == ("True", "PodsReady")
    assert verdict(status, "BackendsHealthy") == ("True", "AllHealthy")
    assert verdict(status, "Ready") == ("True", "Serving")
    assert find_condition(status, "Reconciling") is None
    assert find_condition(status, "Stalled") is None
    assert status.url == "http://tools.team.svc/mcp"
    assert status.backends_healthy == "1/1"
    assert status.components == ComponentCounts(tools=2, prompts=0)
    assert (status.replicas, status.ready_replicas) == (1, 1)
    assert status.selector == "app.kubernetes.io/instance=tools,app.kubernetes.io/name=mcpproxy"
    assert status.session_mode == "Isolated"
    assert status.catalog_hash == "c1"


def test_backends_without_certificate_verification_are_named_in_accepted() -> None:
    tls = {"insecureSkipVerify": True}
    spec = an_mcpproxy(
        backends=[
            a_backend("one", url="https://example.com/mcp", tls=tls),
            a_backend("two", url="https://example.com/mcp", tls={"insecureSkipVerify": False}),
            a_backend("three", url="https://example.com/mcp", tls=tls),
        ]
    ).spec
    result = condition(status_of(replace(READY, spec=spec)), "Accepted")
    assert result.message == (
        "the spec is valid; tls.insecureSkipVerify: the proxy does not verify the certificates of"
        " one, three"
    )
    assert condition(status_of(READY), "Accepted").message == "the spec is valid"


def test_every_condition_has_the_observed_generation() -> None:
    status = status_of(READY)
    assert status.observed_generation == 3
    assert {result.observed_generation for result in status.conditions or []} == {3}


def test_the_same_observation_gives_the_same_bytes_whenever_it_is_made() -> None:
    before = build_status(READY, None, EARLIER)
    again = build_status(READY, before, NOW)
    assert json.dumps(again.to_manifest()) == json.dumps(before.to_manifest())


def test_the_order_of_pods_never_shows() -> None:
    pods = [a_pod("tools-1", a_view(message="a")), a_pod("tools-2", a_view(message="b"))]
    item, other = observed(*pods), observed(*reversed(pods))
    assert status_of(item) == status_of(other)


def test_the_time_of_a_condition_changes_with_its_status_alone() -> None:
    before = build_status(READY, None, EARLIER)
    worse = status_of(observed(a_pod("tools-1", a_view(state="Unhealthy"))), before)
    assert condition(worse, "Ready").last_transition_time == NOW
    assert condition(worse, "Available").last_transition_time == EARLIER
    worst = build_status(
        observed(a_pod("tools-1", a_view(state="Unauthorized", message="401"))), worse, "later"
    )
    assert condition(worst, "Ready").last_transition_time == NOW
    assert "401" in condition(worst, "Ready").message


def test_an_unhealthy_backend_takes_ready_away_and_is_named_with_its_message() -> None:
    seen = observed(
        a_pod("tools-1", a_view("a"), a_view("b", "Unhealthy", message="connection refused")),
        backends=("a", "b"),
    )
    status = status_of(seen)
    assert verdict(status, "BackendsHealthy") == ("False", "BackendsUnhealthy")
    assert verdict(status, "Ready") == ("False", "BackendsUnhealthy")
    assert condition(status, "Ready").message == "b is Unhealthy: connection refused"
    assert status.backends_healthy == "1/2"


def test_an_optional_backend_never_makes_the_proxy_not_ready() -> None:
    spec = an_mcpproxy(backends=[a_backend("a"), a_backend("b", optional=True)]).spec
    for state in ("Unhealthy", "Unknown"):
        pod = a_pod("tools-1", a_view("a"), a_view("b", state))
        status = status_of(observed(pod, spec=spec))
        assert verdict(status, "Ready") == ("True", "Serving")
        assert verdict(status, "BackendsHealthy")[0] != "True"


def test_a_degraded_backend_leaves_the_proxy_ready() -> None:
    status = status_of(observed(a_pod("tools-1", a_view(state="Degraded"))))
    assert verdict(status, "Ready") == ("True", "Serving")
    assert verdict(status, "BackendsHealthy") == ("False", "BackendsDegraded")


def test_a_backend_unreachable_for_most_pods_makes_ready_false_with_the_number() -> None:
    bad = a_view(state="Unauthorized", reason="Unauthorized", message="HTTP 401")
    pods = (a_pod("tools-1", a_view()), a_pod("tools-2", bad), a_pod("tools-3", bad))
    status = status_of(observed(*pods))
    assert verdict(status, "Ready") == ("False", "BackendsUnhealthy")
    assert condition(status, "Ready").message == "weather is Unauthorized: 2 of 3 pods: HTTP 401"
    assert verdict(status, "BackendsHealthy") == ("False", "BackendsUnhealthy")
    assert (status.backends_healthy, status.components) == ("0/1", None)


def test_a_backend_unreachable_for_one_of_three_pods_keeps_ready_true_and_is_named_there() -> None:
    bad = a_view(state="Unhealthy", message="refused")
    pods = (a_pod("tools-1", a_view()), a_pod("tools-2", a_view()), a_pod("tools-3", bad))
    status = status_of(observed(*pods))
    assert verdict(status, "Ready") == ("True", "Serving")
    assert condition(status, "Ready").message == (
        "1 of 1 backends are being served; weather is Degraded: 1 of 3 pods: refused"
    )
    assert status.backends_healthy == "0/1"


def test_a_rate_limit_is_reported_and_changes_neither_ready_nor_the_counts() -> None:
    counts = ComponentCounts(tools=2)
    limited = a_view(
        state="RateLimited", reason="RateLimited", message="HTTP 429", components=counts
    )
    status = status_of(observed(a_pod("tools-1", limited)))
    assert verdict(status, "Ready") == ("True", "Serving")
    assert condition(status, "Ready").message == (
        "1 of 1 backends are being served; weather is RateLimited: HTTP 429"
    )
    assert verdict(status, "BackendsHealthy") == ("False", "BackendsRateLimited")
    assert (status.components, status.backends_healthy) == (counts, "0/1")


def test_a_rate_limit_before_anything_was_listed_takes_ready_away() -> None:
    unlisted = a_view(state="RateLimited", reason="NotListed", message="HTTP 429")
    status = status_of(observed(a_pod("tools-1", unlisted)))
    assert verdict(status, "Ready") == ("False", "BackendsUnhealthy")
    assert verdict(status, "BackendsHealthy") == ("False", "BackendsUnhealthy")


def test_without_a_report_everything_about_backends_is_unknown_and_has_no_number() -> None:
    before = status_of(READY)
    status = status_of(observed(a_pod("tools-1")), before)
    assert verdict(status, "Available") == ("True", "PodsReady")
    assert verdict(status, "BackendsHealthy") == ("Unknown", "BackendsUnknown")
    assert verdict(status, "Ready") == ("Unknown", "BackendsUnknown")
    assert status.backends is not None
    assert status.backends[0].state == "Unknown"
    assert status.backends[0].components is None
    assert (status.components, status.backends_healthy, status.catalog_hash) == (None, None, None)


def test_reports_of_pods_that_are_not_ready_do_not_count() -> None:
    status = status_of(observed(a_pod("tools-1", a_view(), ready=False)))
    assert status.backends is not None
    assert status.backends[0].state == "Unknown"
    assert verdict(status, "Ready") == ("False", "PodsNotReady")


def test_ready_reports_pods_of_the_previous_configuration() -> None:
    waits = a_pod(
        "tools-1", ready=False, problem=ConditionReason("ImagePullBackOff", "no such image")
    )
    status = status_of(observed(waits, a_pod("tools-2", a_view(), current=False)))
    assert verdict(status, "Ready") == ("True", "Serving")
    assert verdict(status, "Available") == ("True", "RollingOut")
    message = condition(status, "Ready").message
    assert "1 pod serves the previous configuration" in message
    assert "no such image" in message
    assert status.components is not None


def test_a_failed_backend_of_the_previous_configuration_is_not_ready() -> None:
    bad = a_view(state="Unhealthy", message="refused")
    status = status_of(observed(a_pod("tools-2", bad, current=False)))
    assert verdict(status, "Ready") == ("False", "BackendsUnhealthy")


@pytest.mark.parametrize("reason", ["RefusedByApiServer", "Forbidden", "ApiServerUnavailable"])
def test_a_rejected_change_is_reported_next_to_the_serving_pods(reason: str) -> None:
    blocked = ConditionReason(reason, "the API server rejected a child: no")
    status = status_of(observed(a_pod("tools-1", a_view(), current=False), blocked=blocked))
    assert verdict(status, "Ready") == ("True", "Serving")
    assert "rejected a child" in condition(status, "Ready").message
    bad = a_view(state="Unhealthy", message="refused")
    status = status_of(observed(a_pod("tools-1", bad, current=False), blocked=blocked))
    assert verdict(status, "Ready") == ("False", "BackendsUnhealthy")


def test_unreadable_pods_are_not_reported_as_missing() -> None:
    blocked = ConditionReason("Forbidden", "the operator lacks the permission to read Pod")
    status = status_of(observed(blocked=blocked, unread=frozenset({"Pod"})))
    assert verdict(status, "Available") == ("Unknown", "Forbidden")
    assert verdict(status, "Ready") == ("Unknown", "Forbidden")


def test_a_deletion_is_reported_and_the_proxy_is_not_ready() -> None:
    status = status_of(observed(a_pod("tools-1", a_view()), terminating=True))
    assert verdict(status, "Ready") == ("False", "Terminating")
    assert verdict(status, "Reconciling") == ("True", "Terminating")


def test_the_address_appears_when_ready_was_reached_and_stays() -> None:
    creating = status_of(observed(deployment=None))
    assert creating.url is None
    unready = status_of(observed(a_pod("tools-1", a_view(state="Unhealthy"))), creating)
    assert unready.url is None
    ready = status_of(READY, unready)
    lost = status_of(observed(deployment=None), ready)
    assert lost.url == ready.url == "http://tools.team.svc/mcp"


def test_a_proxy_without_a_deployment_is_being_created() -> None:
    status = status_of(observed(deployment=None))
    assert verdict(status, "Available") == ("False", "Creating")
    assert verdict(status, "Reconciling") == ("True", "Creating")
    assert (status.replicas, status.selector) == (None, None)


def test_scaled_to_zero_is_reported_and_ready_is_true() -> None:
    ready = status_of(READY)
    status = status_of(observed(deployment=a_deployment(0)), ready)
    assert verdict(status, "Available") == ("False", "ScaledToZero")
    assert verdict(status, "Ready") == ("True", "ScaledToZero")
    assert status.url == ready.url
    assert status_of(observed(deployment=a_deployment(0))).url is None
    assert verdict(status, "BackendsHealthy")[0] == "Unknown"
    assert find_condition(status, "Stalled") is None
    assert find_condition(status, "Reconciling") is None
    assert status.replicas == 0


def test_a_rollout_that_continues_is_reconciling_and_stays_ready_while_a_current_pod_serves() -> (
    None
):
    pods = (a_pod("tools-1", a_view()), a_pod("tools-2", ready=False))
    status = status_of(observed(*pods, deployment=a_deployment(2, available=1)))
    assert verdict(status, "Reconciling") == ("True", "RollingOut")
    assert verdict(status, "Ready") == ("True", "Serving")


def test_a_stuck_rollout_is_stalled_with_the_cause() -> None:
    failure = ConditionReason(reasons.DEADLINE_EXCEEDED, "has timed out progressing.")
    pod = a_pod("tools-1", ready=False, problem=NO_IMAGE)
    seen = observed(pod, deployment=a_deployment(1, available=0, failure=failure))
    status = status_of(seen)
    assert verdict(status, "Available") == ("False", "ProgressDeadlineExceeded")
    assert (
        "cannot pull the image x:1; correct it, or run kubectl describe pod"
        in condition(status, "Available").message
    )
    assert verdict(status, "Stalled") == ("True", "ProgressDeadlineExceeded")
    assert find_condition(status, "Reconciling") is None


def test_the_cause_of_an_unready_pod_is_reported() -> None:
    problem = ConditionReason(reasons.CRASH_LOOP, "container mcpproxy keeps crashing")
    pod = a_pod("tools-1", ready=False, problem=problem)
    status = status_of(observed(pod, deployment=a_deployment(1, available=0)))
    assert verdict(status, "Available") == verdict(status, "Ready") == ("False", "CrashLoopBackOff")
    assert condition(status, "Ready").message == (
        "0 of 1 pods ready: container mcpproxy keeps crashing"
    )


def test_a_rejected_spec_is_not_accepted_and_the_old_pods_are_still_reported() -> None:
    status = status_of(replace(READY, rejected="spec.backends[0].url: too long"))
    assert verdict(status, "Accepted") == ("False", "InvalidSpec")
    assert "spec.backends[0].url" in condition(status, "Accepted").message
    assert verdict(status, "Available") == ("True", "PodsReady")
    assert verdict(status, "Ready") == ("False", "InvalidSpec")
    assert verdict(status, "Stalled") == ("True", "InvalidSpec")
    assert status.backends_healthy == "1/1"


def test_a_spec_that_was_never_valid_reports_no_backends() -> None:
    status = status_of(observed(deployment=None, spec=None, rejected="spec: wrong"))
    assert verdict(status, "Available") == ("False", "InvalidSpec")
    assert (status.backends, status.session_mode, status.backends_healthy) == (None, None, None)


def test_an_object_of_another_owner_is_named_and_stalls() -> None:
    blocked = ConditionReason(reasons.NOT_OWNED, "Deployment tools belongs to somebody else")
    status = status_of(observed(deployment=None, blocked=blocked))
    assert verdict(status, "Accepted") == ("True", "Valid")
    for type_ in ("Available", "Ready"):
        assert verdict(status, type_) == ("False", "NotOwned")
    assert verdict(status, "Stalled") == ("True", "NotOwned")
    assert "Deployment tools" in condition(status, "Stalled").message


def test_waiting_for_a_deletion_is_reconciling_not_stalled() -> None:
    blocked = ConditionReason(reasons.WAITING_FOR_DELETION, "Deployment tools is being deleted")
    status = status_of(observed(deployment=None, blocked=blocked))
    assert verdict(status, "Reconciling") == ("True", "WaitingForDeletion")
    assert find_condition(status, "Stalled") is None


def test_name_conflicts_are_reported_with_the_remedy() -> None:
    pod = a_pod("tools-1", report=a_report(a_view(), clashes=["a_b", "c_d"]))
    message = condition(status_of(observed(pod)), "Ready").message
    assert "several backends offer a_b, c_d" in message
    assert "prefix" in message


def test_many_bad_backends_do_not_make_an_endless_message() -> None:
    names = tuple(f"b{number:02}" for number in range(9))
    views = [a_view(name, "Unhealthy", message="no") for name in names]
    status = status_of(observed(a_pod("tools-1", *views), backends=names))
    assert condition(status, "BackendsHealthy").message.endswith("and 4 more")
