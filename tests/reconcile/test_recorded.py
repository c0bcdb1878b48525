"""Causes as a real cluster shows them, each by its own name."""

import copy
import re

import pytest

from mcpproxy.api.kubernetes.objects import Object
from mcpproxy.cluster.resources import ProxyKey
from mcpproxy.reconcile.object_views import deployment_view
from mcpproxy.reconcile.ownership import PodOwnership
from mcpproxy.reconcile.snapshot import Snapshot
from mcpproxy.status.pod_problems import STARTS_WITHIN
from mcpproxy.testing.fake_cluster import FakeCluster
from tests.reconcile.recordings import Recording, load

PROBLEMS = {
    "evicted": (
        "Evicted",
        r'a pod was evicted: Usage of EmptyDir volume "scratch" exceeds the limit "1Mi"\.',
    ),
    "out-of-memory": (
        "OOMKilled",
        (
            r"container mcpproxy ran out of memory \(OOMKilled\); raise"
            r" resources\.limits\.memory"
        ),
    ),
    "start-error": (
        "CrashLoopBackOff",
        (
            r'container mcpproxy of image \S+ cannot start: exec: "mcpproxy": executable file'
            r" not found in \$PATH.*"
        ),
    ),
    "init-crash": (
        "CrashLoopBackOff",
        r"init container injected-init keeps crashing \(exit code 3\); run kubectl logs .*",
    ),
    "sidecar-crash": (
        "CrashLoopBackOff",
        r"container injected-sidecar keeps crashing \(exit code 3\); run kubectl logs .*",
    ),
    "image-pull": (
        "ImagePullBackOff",
        r"cannot pull the image mcpproxy/no-such-image:0\.1\.0; correct it, or run .*",
    ),
    "unschedulable": ("Unschedulable", "a pod cannot be scheduled: 0/2 nodes are available: .*"),
    "lost-node": (
        "NodeNotReady",
        ("node ways-worker does not report its status; run kubectl describe node ways-worker"),
    ),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_pod_has_the_problem_that_its_recording_shows(name: str) -> None:
    reason, message = PROBLEMS[name]
    result = load(name).problem()
    assert result is not None
    assert result.reason == reason
    assert re.fullmatch(message, result.message, re.DOTALL), result.message


@pytest.mark.parametrize("name", ["good-1", "paused", "quota-pods", "pod-security"])
def test_the_pods_of_others_have_none(name: str) -> None:
    assert load(name).problem() is None


def test_an_evicted_pod_is_named_for_a_while_and_its_secret_never() -> None:
    assert load("evicted").problem(seconds=3 * STARTS_WITHIN) is None


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        (
            "quota-pods",
            "ResourceQuota small of the namespace is exhausted; raise the quota: ",
        ),
        ("pod-security", "Pod Security (restricted:latest) forbids the pods; "),
    ],
)
def test_the_component_that_refuses_pods_is_named(name: str, cause: str) -> None:
    failure = deployment_view(load(name).deployment).failure
    assert failure is not None
    assert failure.reason == "ReplicaFailure"
    assert failure.message.startswith(cause)
    # Each attempt has another name, and the status must not change with it.
    assert f'"{name}-' not in failure.message


def test_a_paused_deployment_is_seen_as_paused() -> None:
    view = deployment_view(load("paused").deployment)
    assert view.paused
    assert not view.rolled_out


async def superseded(recording: Recording) -> dict[str, bool]:
    """Names of the pods → whether they are of an earlier template."""
    cluster = FakeCluster()
    for live in recording.replica_sets:
        cluster.objects["ReplicaSet", "team", live["metadata"]["name"]] = _in_team(live)
    owner = {"kind": "MCPProxy", "name": "x", "uid": "u", "controller": True}
    deployment = _in_team(recording.deployment)
    deployment["metadata"]["ownerReferences"] = [owner]
    parent: Object = {"metadata": {"uid": "u", "name": "x"}}
    world = Snapshot(parent, None, None, (deployment,), tuple(recording.pods), {})
    key = ProxyKey("team", deployment["metadata"]["name"])
    result = await PodOwnership(cluster).narrow(key, world)
    assert len(result.pods) == len(recording.pods)
    pods = (pod["metadata"] for pod in result.pods)
    return {pod["name"]: pod["uid"] in result.superseded for pod in pods}


def _in_team(live: Object) -> Object:
    result = copy.deepcopy(live)
    result["metadata"]["namespace"] = "team"
    return result


@pytest.mark.parametrize(
    ("name", "earlier"),
    [
        ("good-1", [False]),
        ("out-of-memory", [False]),
        ("init-crash", [False, True]),
        ("sidecar-crash", [False, True]),
        ("quota-pods", [True]),
        ("pod-security", [True]),
    ],
)
async def test_pods_of_an_earlier_template_are_distinguished_from_those_of_the_newest(
    name: str, earlier: list[bool]
) -> None:
    recording = load(name)
    result = await superseded(recording)
    assert sorted(result.values()) == earlier
    hashes = {
        pod["metadata"]["name"]: pod["metadata"]["labels"]["pod-template-hash"]
        for pod in recording.pods
    }
    newest = max(
        recording.replica_sets,
        key=lambda live: int(live["metadata"]["annotations"]["deployment.kubernetes.io/revision"]),
    )
    current = newest["metadata"]["labels"]["pod-template-hash"]
    assert result == {pod: hash_ != current for pod, hash_ in hashes.items()}
