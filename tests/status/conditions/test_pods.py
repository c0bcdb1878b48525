"""Rollouts, pods that come and go after them, and what generic tools make of it."""

from dataclasses import replace
from typing import Any

import pytest

from mcpproxy.api.v1alpha1.status import MCPProxyStatus
from mcpproxy.status import reasons
from mcpproxy.status.compute import find_condition
from mcpproxy.status.inputs import ConditionReason, StatusInput
from tests.status.views import a_deployment, a_pod, a_view, condition, observed, status_of, verdict
from tests.support.builders import a_backend, an_mcpproxy
from tests.support.kstatus import kstatus

LOOP = ConditionReason(
    reasons.CRASH_LOOP, "container mcpproxy keeps crashing; run kubectl logs --previous -c mcpproxy"
)
ONCE = ConditionReason(reasons.CRASHED, "container mcpproxy crashed and is restarting")


def seen(
    ready: int, *others: dict[str, Any], desired: int | None = None, replicas: int | None = None
) -> StatusInput:
    """A proxy that was rolled out once: so many ready pods, and others that are not."""
    pods = [a_pod(f"tools-{number}", a_view()) for number in range(ready)]
    pods += [a_pod(f"late-{number}", ready=False, **item) for number, item in enumerate(others)]
    count = len(pods)
    deployment = a_deployment(
        count if desired is None else desired,
        replicas=count,
        updated=count,
        available=ready,
        ready=ready,
        was_available=True,
    )
    fields: dict[str, Any] = {} if replicas is None else {"replicas": replicas}
    spec = an_mcpproxy(backends=[a_backend()], **fields).spec
    return observed(*pods, deployment=deployment, spec=spec)


def tool(status: MCPProxyStatus) -> str:
    """Return the status that kstatus computes."""
    return kstatus({"metadata": {"generation": 3}, "status": status.to_manifest()})


def test_pods_that_all_crash_after_a_rollout_stall_it_for_their_own_reason() -> None:
    status = status_of(seen(0, {"problem": LOOP}, {"problem": LOOP}))
    for type_, value in (("Available", "False"), ("Ready", "False"), ("Stalled", "True")):
        assert verdict(status, type_) == (value, "CrashLoopBackOff")
        assert condition(status, type_).message == f"0 of 2 pods ready: {LOOP.message}"
    assert find_condition(status, "Reconciling") is None
    assert tool(status) == "Failed"


def test_a_crashing_pod_is_reported_while_the_others_serve() -> None:
    status = status_of(seen(2, {"problem": LOOP}, replicas=3))
    assert verdict(status, "Available") == ("True", "PodsReady")
    assert condition(status, "Available").message == f"2 of 3 pods ready: {LOOP.message}"
    assert condition(status, "Ready").message.endswith(f"; 2 of 3 pods ready: {LOOP.message}")
    assert find_condition(status, "Reconciling") is None
    assert find_condition(status, "Stalled") is None


def test_a_pod_that_crashed_once_is_not_reported_as_stalled() -> None:
    status = status_of(seen(0, {"problem": ONCE}))
    assert verdict(status, "Available") == ("False", "ContainerCrashed")
    assert find_condition(status, "Stalled") is None
    assert find_condition(status, "Reconciling") is None


def test_a_pod_that_lost_its_readiness_is_not_a_rollout() -> None:
    status = status_of(seen(0, {}))
    assert verdict(status, "Available") == ("False", "PodsNotReady")
    assert find_condition(status, "Reconciling") is None


def test_the_worst_problem_of_several_gives_the_reason() -> None:
    status = status_of(seen(0, {"problem": ONCE}, {"problem": LOOP}))
    assert verdict(status, "Available") == ("False", "CrashLoopBackOff")
    assert ONCE.message in condition(status, "Available").message


def test_a_crash_in_the_first_rollout_is_a_rollout_until_its_deadline() -> None:
    first = seen(0, {"problem": LOOP})
    assert first.deployment is not None
    first = replace(first, deployment=replace(first.deployment, was_available=False))
    status = status_of(first)
    assert verdict(status, "Reconciling") == ("True", "RollingOut")
    assert verdict(status, "Available") == ("False", "CrashLoopBackOff")
    assert find_condition(status, "Stalled") is None


@pytest.mark.parametrize("desired", [2, 3, 4])
def test_pods_added_or_removed_by_an_autoscaler_are_not_a_change_in_progress(desired: int) -> None:
    before = status_of(seen(2))
    scaled = seen(2, {"starting": True}, desired=desired)
    assert find_condition(status_of(scaled, before), "Reconciling") is None
    assert scaled.deployment is not None
    unseen = replace(scaled, deployment=replace(scaled.deployment, settled=False))
    status = status_of(unseen, before)
    assert find_condition(status, "Reconciling") is None
    assert tool(status) == "Current"


def test_an_unobserved_deployment_is_a_rollout_if_the_spec_changed() -> None:
    result = seen(2)
    assert result.deployment is not None
    unseen = replace(result, deployment=replace(result.deployment, settled=False))
    assert verdict(status_of(unseen), "Reconciling") == ("True", "RollingOut")
    before = status_of(replace(result, generation=2))
    assert verdict(status_of(unseen, before), "Reconciling") == ("True", "RollingOut")
    rolling = status_of(unseen)
    assert verdict(status_of(unseen, rolling), "Reconciling") == ("True", "RollingOut")


def test_replicas_of_the_spec_are_on_their_way_until_the_pods_are_there() -> None:
    for scaled in (
        seen(2, desired=3, replicas=3),
        seen(2, {"starting": True}, replicas=3),
        seen(3, desired=2, replicas=2),
    ):
        status = status_of(scaled)
        assert verdict(status, "Reconciling") == ("True", "Scaling")
        assert verdict(status, "Ready") == ("True", "Serving")
        assert tool(status) == "InProgress"
    assert find_condition(status_of(seen(3, replicas=3)), "Reconciling") is None


def test_generic_tools_treat_zero_replicas_as_desired() -> None:
    status = status_of(seen(0, desired=0, replicas=0))
    assert tool(status) == "Current"
    ending = status_of(seen(1, desired=0, replicas=0))
    assert verdict(ending, "Reconciling") == ("True", "Scaling")
    assert tool(ending) == "InProgress"


def test_a_deletion_names_the_finalizers_that_it_waits_for() -> None:
    seen = observed(terminating=True, finalizers=("example.com/held", "foregroundDeletion"))
    message = (
        "the MCPProxy or its namespace is being deleted, including its pods; the deletion waits"
        " for the controllers of these finalizers: example.com/held, foregroundDeletion"
    )
    conditions = {item.type: item.message for item in status_of(seen).conditions or []}
    assert conditions["Ready"] == conditions["Reconciling"] == message


def test_serving_pods_of_an_earlier_template_are_named_before_the_problem_of_new_ones() -> None:
    failure = ConditionReason("ReplicaFailure", "ResourceQuota small is used up")
    older = a_pod("tools-0", a_view(), superseded=True, problem=None)
    seen = observed(older, deployment=a_deployment(1, updated=0, failure=failure))
    conditions = {item.type: item for item in status_of(seen).conditions or []}
    serves = "1 pod serves from the previous pod template until pods from the new one are ready"
    assert conditions["Ready"].status == "True"
    assert conditions["Available"].message == f"{serves}: {failure.message}"
    assert conditions["Stalled"].message == f"{serves}; {failure.message}"
    assert serves in conditions["Ready"].message


def test_problems_of_pods_of_an_earlier_template_are_not_mixed_with_those_of_the_new_one() -> None:
    old, new = (
        ConditionReason("CrashLoopBackOff", "old"),
        ConditionReason("ImagePullBackOff", "new"),
    )
    pods = (
        a_pod("tools-0", ready=False, superseded=True, problem=old),
        a_pod("tools-1", ready=False, problem=new),
    )
    conditions = {item.type: item for item in status_of(observed(*pods)).conditions or []}
    assert conditions["Available"].reason == "ImagePullBackOff"
    assert conditions["Available"].message.endswith(" pods ready: new")


def test_problems_with_one_message_give_the_same_reason_in_every_process() -> None:
    problems = [ConditionReason(reason, "q") for reason in sorted(reasons.HOPELESS)]
    status = status_of(seen(0, *({"problem": problem} for problem in reversed(problems))))
    assert verdict(status, "Available") == ("False", problems[0].reason)
