"""A proxy of three pods in front of five backends: what some pods see, and evictions."""

import json
import re
import time
from collections.abc import Callable, Iterator

import pytest

from e2e import pods
from e2e.pods import is_ready, pods_of, ready_pods
from e2e.world import World, eventually
from scripts.machine import CommandFailed

NAME = "fleet"
BACKENDS = ("one", "two", "three", "four", "five")
HEALTH_INTERVAL = 5
REPORTING_SECONDS = 2


@pytest.fixture(scope="module")
def fleet(new_world: Callable[[str], World]) -> Iterator[World]:
    """Three pods, five backends, Ready; of the pods one at a time may be away."""
    world = new_world("fleet")
    pods.add_on(world, "network-policies")
    pods.tellers(world, *BACKENDS)
    world.apply(
        pods.proxy(
            NAME,
            *BACKENDS,
            replicas=3,
            health={"interval": f"{HEALTH_INTERVAL}s"},
            disruptionBudget={"maxUnavailable": 1},
        )
    )
    world.wait_ready(NAME)
    yield world
    world.remove()


def test_a_killed_backend_is_unhealthy_within_two_intervals_on_all_three_pods(
    fleet: World,
) -> None:
    assert fleet.status(NAME)["backendsHealthy"] == "5/5"
    _scale(fleet, "two", 0)
    gone = time.monotonic()
    eventually("it is Unhealthy", lambda: _state(fleet, "two") == "Unhealthy")
    assert time.monotonic() - gone < 2 * HEALTH_INTERVAL + REPORTING_SECONDS
    assert fleet.status(NAME)["backendsHealthy"] == "4/5"
    _scale(fleet, "two", 1)
    fleet.wait_ready(NAME)
    eventually("it is Healthy again", lambda: _state(fleet, "two") == "Healthy")


def test_a_backend_unreachable_for_one_of_three_pods_is_degraded_with_the_numbers(
    fleet: World,
) -> None:
    cut_off = pods_of(fleet, NAME)[0]["metadata"]["name"]
    fleet.kubectl("label", "pod", cut_off, "cut-off=yes")
    fleet.apply(_policy_against_the_cut_off("three"))
    # Connections that exist outlive the policy; those of a server that comes anew do not.
    _scale(fleet, "three", 0)
    eventually("it is Unhealthy", lambda: _state(fleet, "three") == "Unhealthy")
    _scale(fleet, "three", 1)
    eventually("it is Degraded", lambda: _state(fleet, "three") == "Degraded")
    eventually("it says of how many", lambda: _says(fleet, "three", r"^1 of 3 pods: "))
    status = fleet.status(NAME)
    conditions = {condition["type"]: condition for condition in status["conditions"]}
    assert re.search("three is Degraded: 1 of 3 pods: ", conditions["Ready"]["message"])
    assert conditions["Available"]["status"] == "True"
    assert conditions["Ready"]["status"] == "True"
    assert conditions["BackendsHealthy"]["reason"] == "BackendsDegraded"
    assert status["readyReplicas"] == 3

    fleet.kubectl("delete", "networkpolicy", "three")
    fleet.kubectl("label", "pod", cut_off, "cut-off-")
    eventually("it is Healthy again", lambda: _state(fleet, "three") == "Healthy")


def test_a_drain_evicts_one_pod_and_waits_for_its_replacement_before_the_next(
    fleet: World,
) -> None:
    node = json.loads(fleet.kubectl("get", "nodes", "-o", "json"))["items"][0]["metadata"]["name"]
    eventually("all pods are Ready", lambda: ready_pods(fleet, NAME) == 3)
    before = {pod["metadata"]["name"] for pod in pods_of(fleet, NAME)}
    selector = f"--pod-selector=app.kubernetes.io/instance={NAME}"
    try:
        with pytest.raises(CommandFailed, match="violate the pod's disruption budget"):
            fleet.kubectl("drain", node, selector, "--delete-emptydir-data", "--timeout=15s")
        # Its replacement finds no node, so the first is not back.
        left = {pod["metadata"]["name"] for pod in pods_of(fleet, NAME) if is_ready(pod)}
        assert len(left) == 2
        assert left < before
        assert _refusal(fleet, min(left)) is not None
    finally:
        fleet.kubectl("uncordon", node)
    eventually("all pods are Ready again", lambda: ready_pods(fleet, NAME) == 3, 120)
    eventually("the next may go", lambda: _refusal(fleet, min(left)) is None)
    eventually("all pods are Ready again", lambda: ready_pods(fleet, NAME) == 3, 120)


def _refusal(world: World, pod: str) -> str | None:
    """Return the API server's reason against an eviction; None if it evicts the pod."""
    metadata = {"name": pod, "namespace": world.namespace}
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata}
    path = f"/api/v1/namespaces/{world.namespace}/pods/{pod}/eviction"
    try:
        world.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(body))
    except CommandFailed as refused:
        if "TooManyRequests" not in refused.output:
            raise
        return refused.output
    return None


def _policy_against_the_cut_off(backend: str) -> dict[str, object]:
    others = {"matchExpressions": [{"key": "cut-off", "operator": "DoesNotExist"}]}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": backend},
        "spec": {
            "podSelector": {"matchLabels": {"app": backend}},
            "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"podSelector": others}]}],
        },
    }


def _scale(world: World, backend: str, replicas: int) -> None:
    world.kubectl("scale", f"deployment/{backend}", f"--replicas={replicas}")
    if replicas:
        world.kubectl("rollout", "status", f"deployment/{backend}", "--timeout=60s")
    else:
        world.kubectl("wait", "--for=delete", "pods", "-l", f"app={backend}", "--timeout=60s")


def _state(world: World, backend: str) -> str | None:
    state: str | None = world.backend(NAME, backend).get("state")
    return state


def _says(world: World, backend: str, pattern: str) -> bool:
    return re.search(pattern, world.backend(NAME, backend).get("message", "")) is not None
