"""Why a pod is not ready, and for how long it may be on its way."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mcpproxy.api.kubernetes.objects import Object
from mcpproxy.status.inputs import ConditionReason
from mcpproxy.status.pod_problems import (
    MOUNTS_WITHIN,
    STARTS_WITHIN,
    is_starting,
    next_deadline,
    pod_problem,
)

CREATED = datetime(2026, 1, 1, tzinfo=UTC)
READY = {"type": "Ready", "status": "True"}
MOUNTING = {"type": "PodReadyToStartContainers", "status": "False"}


def after(seconds: float) -> datetime:
    """So long after the pod was created."""
    return CREATED + timedelta(seconds=seconds)


def a_pod(**status: Any) -> Object:
    """A pod that is not ready."""
    return {
        "metadata": {"name": "tools-1", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {
            "volumes": [
                {"name": "sealing", "secret": {"secretName": "tools-sealing"}},
                {"name": "values", "projected": {"sources": []}},
            ]
        },
        "status": {"phase": "Pending", **status},
    }


def waiting(reason: str, message: str = "", restarts: int = 0) -> Object:
    """Status of a container that waits."""
    state = {"waiting": {"reason": reason, "message": message}}
    return {"name": "mcpproxy", "image": "x:1", "state": state, "restartCount": restarts}


def running(restarts: int, code: int = 1) -> Object:
    """Status of a container that runs and has ended before."""
    ended = {"terminated": {"exitCode": code}}
    return {
        "name": "mcpproxy",
        "state": {"running": {}},
        "lastState": ended,
        "restartCount": restarts,
    }


NO_IMAGE = ConditionReason(
    "ImagePullBackOff", "cannot pull the image x:1; correct it, or run kubectl describe pod"
)
LOOP = ConditionReason(
    "CrashLoopBackOff", "container mcpproxy keeps crashing; run kubectl logs --previous -c mcpproxy"
)
CODE = ConditionReason(
    "CrashLoopBackOff",
    "container mcpproxy keeps crashing (exit code 1); run kubectl logs --previous -c mcpproxy",
)
RUNS_AS_ROOT = (
    "container has runAsNonRoot and image will run as root (pod:"
    ' "tools-848969d47c-jkxz5_team(6e2b)", container: mcpproxy)'
)
NOT_FOUND = 'exec: "mcpproxy": executable file not found in $PATH'


def ended(reason: str, code: int, message: str = "") -> Object:
    """Status of a container that is started again and again."""
    last = {"terminated": {"reason": reason, "exitCode": code, "message": message}}
    return {**waiting("CrashLoopBackOff", "back-off 10s", 3), "lastState": last}


@pytest.mark.parametrize(
    ("status", "problem"),
    [
        (waiting("ImagePullBackOff"), NO_IMAGE),
        (waiting("ErrImagePull"), NO_IMAGE),
        (waiting("CrashLoopBackOff", "back-off 10s", 1), LOOP),
        (running(restarts=2), CODE),
        (
            ended("OOMKilled", 137),
            ConditionReason(
                "OOMKilled",
                "container mcpproxy ran out of memory (OOMKilled); raise resources.limits.memory",
            ),
        ),
        (
            ended("StartError", 128, f"{NOT_FOUND}: {'ab' * 32}"),
            ConditionReason(
                "CrashLoopBackOff", f"container mcpproxy of image x:1 cannot start: {NOT_FOUND}: …"
            ),
        ),
        (
            running(restarts=1),
            ConditionReason("ContainerCrashed", "container mcpproxy crashed and is restarting"),
        ),
        (running(restarts=1, code=0), None),
        (
            waiting("CreateContainerConfigError", "no such user"),
            ConditionReason(
                "CreateContainerConfigError",
                "container mcpproxy: CreateContainerConfigError: no such user",
            ),
        ),
        (
            waiting("CreateContainerConfigError", RUNS_AS_ROOT),
            ConditionReason(
                "CreateContainerConfigError",
                "container mcpproxy: CreateContainerConfigError: container has runAsNonRoot and"
                " image will run as root",
            ),
        ),
        (
            waiting("StrangeState", "strange"),
            ConditionReason("PodsNotReady", "container mcpproxy: StrangeState: strange"),
        ),
        (waiting("ContainerCreating"), None),
        ({"name": "mcpproxy", "state": {"running": {}}}, None),
    ],
)
def test_the_message_about_a_pod_problem_is_stable(
    status: Object, problem: ConditionReason | None
) -> None:
    pod = a_pod(containerStatuses=[status])
    assert pod_problem(pod, after(5)) == problem
    assert is_starting(pod, after(5)) is (problem is None)


def test_an_unschedulable_pod_is_reported_and_a_ready_one_has_no_problem() -> None:
    unscheduled = {"type": "PodScheduled", "status": "False", "message": "0/3 nodes"}
    result = pod_problem(a_pod(conditions=[unscheduled]), after(5))
    assert result == ConditionReason("Unschedulable", "a pod cannot be scheduled: 0/3 nodes")
    ready = a_pod(conditions=[READY], containerStatuses=[waiting("CrashLoopBackOff")])
    assert pod_problem(ready, after(5)) is None
    assert not is_starting(ready, after(5))


def test_a_pod_that_waits_for_its_volumes_for_a_minute_names_the_secret_it_needs() -> None:
    pod = a_pod(conditions=[MOUNTING], containerStatuses=[waiting("ContainerCreating")])
    assert pod_problem(pod, after(MOUNTS_WITHIN - 1)) is None
    assert next_deadline(pod, after(MOUNTS_WITHIN - 1)) == 1
    result = pod_problem(pod, after(MOUNTS_WITHIN))
    assert result is not None
    assert result.reason == "VolumesNotMounted"
    assert result.message.endswith("it cannot start without Secret tools-sealing")
    assert pod_problem(pod, after(5000)) == result


def test_a_pod_that_pulls_a_large_image_has_no_problem() -> None:
    mounted = {**MOUNTING, "status": "True"}
    pod = a_pod(conditions=[mounted], containerStatuses=[waiting("ContainerCreating")])
    assert pod_problem(pod, after(MOUNTS_WITHIN * 2)) is None
    assert is_starting(pod, after(MOUNTS_WITHIN * 2))


def test_a_pod_counts_as_starting_only_within_the_deadline_of_a_rollout() -> None:
    pod = a_pod(phase="Running")
    assert is_starting(pod, after(STARTS_WITHIN - 1))
    assert next_deadline(pod, after(STARTS_WITHIN - 1)) == 1
    assert not is_starting(pod, after(STARTS_WITHIN))
    assert next_deadline(pod, after(STARTS_WITHIN)) is None


def test_a_terminating_pod_has_no_problem_and_is_not_starting() -> None:
    pod = a_pod(containerStatuses=[waiting("CrashLoopBackOff")])
    pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert pod_problem(pod, after(5)) is None
    assert not is_starting(pod, after(5))
    assert next_deadline(pod, after(5)) is None


def test_an_init_container_that_another_manager_has_added_is_named() -> None:
    init = {**ended("Error", 3), "name": "injected"}
    pod = a_pod(initContainerStatuses=[init], containerStatuses=[waiting("PodInitializing")])
    result = pod_problem(pod, after(5))
    message = "init container injected keeps crashing (exit code 3);"
    message += " run kubectl logs --previous -c injected"
    assert result == ConditionReason("CrashLoopBackOff", message)


def test_an_evicted_pod_is_reported_for_a_limited_time() -> None:
    evicted = {"type": "DisruptionTarget", "status": "True"}
    evicted["lastTransitionTime"] = "2026-01-01T01:00:00Z"
    status = {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource"}
    pod = a_pod(**status, conditions=[MOUNTING, evicted])
    result = pod_problem(pod, after(3600))
    assert result == ConditionReason("Evicted", "a pod was evicted: The node was low on resource")
    assert next_deadline(pod, after(3600 + STARTS_WITHIN - 1)) == 1
    assert pod_problem(pod, after(3600 + STARTS_WITHIN)) is None
    assert not is_starting(pod, after(3600))


UNREADY = {"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-01T01:00:00Z"}
SHUTDOWN = "Pod was terminated in response to imminent node shutdown."


@pytest.mark.parametrize(
    ("status", "words"),
    [
        # As the kubelet reports an eviction if the containers stop without an error.
        ({"phase": "Succeeded"}, "the node evicted it or shut down; run kubectl get events"),
        ({"phase": "Failed"}, "the node evicted it or shut down; run kubectl get events"),
        (
            {"phase": "Failed", "reason": "Terminated", "message": SHUTDOWN},
            f"Terminated: {SHUTDOWN}",
        ),
        (
            {"phase": "Failed", "reason": "NodeAffinity", "message": "Pod was rejected"},
            "NodeAffinity: Pod was rejected",
        ),
    ],
    ids=str,
)
def test_a_pod_that_its_node_has_ended_is_reported_for_a_limited_time(
    status: Object, words: str
) -> None:
    pod = a_pod(**status, conditions=[UNREADY], containerStatuses=[ended("Error", 0)])
    assert pod_problem(pod, after(3600)) == ConditionReason("PodEnded", f"a pod has ended: {words}")
    assert not is_starting(pod, after(3600))
    assert next_deadline(pod, after(3600 + STARTS_WITHIN - 1)) == 1
    assert pod_problem(pod, after(3600 + STARTS_WITHIN)) is None
    assert next_deadline(pod, after(3600 + STARTS_WITHIN)) is None


def test_a_pod_that_exceeded_a_volume_after_hours_is_evicted_now() -> None:
    status = {"phase": "Failed", "reason": "Evicted", "message": "Usage exceeds the limit. "}
    pod = a_pod(**status, startTime="2026-01-01T00:00:00Z", conditions=[UNREADY])
    result = pod_problem(pod, after(3601))
    assert result == ConditionReason("Evicted", "a pod was evicted: Usage exceeds the limit.")


def test_a_deleted_pod_that_has_ended_has_no_problem() -> None:
    pod = a_pod(phase="Succeeded", conditions=[UNREADY])
    pod["metadata"]["deletionTimestamp"] = "2026-01-01T01:00:00Z"
    assert pod_problem(pod, after(3600)) is None


def test_an_unready_node_is_named() -> None:
    unready = {"type": "Ready", "status": "False"}
    container = {"name": "mcpproxy", "ready": True, "state": {"running": {}}}
    pod = a_pod(phase="Running", conditions=[unready], containerStatuses=[container])
    pod["spec"]["nodeName"] = "worker-2"
    result = pod_problem(pod, after(5))
    message = "node worker-2 does not report its status; run kubectl describe node worker-2"
    assert result == ConditionReason("NodeNotReady", message)


def test_a_pod_without_its_volumes_also_names_config_maps() -> None:
    pod = a_pod(conditions=[MOUNTING])
    pod["spec"]["volumes"].append({"name": "config", "configMap": {"name": "tools-0123456789"}})
    result = pod_problem(pod, after(MOUNTS_WITHIN))
    assert result is not None
    assert "ConfigMap tools-0123456789, Secret tools-sealing" in result.message
