"""Nodes are drained, one of three after the other, while calls run."""

from collections.abc import Iterator

import pytest

from e2e import pods, sessions
from e2e.pods import pods_of, ready_pods, watched
from e2e.world import World, eventually
from scripts.cluster import Cluster
from scripts.machine import CommandFailed

NAME = "spread"
REPLICAS = 3
AT_LEAST = 2
DRAIN = (f"--pod-selector=app.kubernetes.io/instance={NAME}", "--delete-emptydir-data")

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def spread(three_nodes: Cluster) -> Iterator[World]:
    """A proxy of three pods on two nodes, of which two have to be there."""
    three_nodes.kubectl("create", "namespace", "drain")
    world = World(three_nodes, "drain")
    pods.tellers(world, "teller")
    sessions.counter(world)
    budget = {"minAvailable": AT_LEAST}
    world.apply(sessions.proxy(NAME, "teller", replicas=REPLICAS, disruptionBudget=budget))
    world.wait_ready(NAME)
    yield world
    world.remove()


def test_a_drain_continues_while_enough_pods_are_ready_and_is_blocked_below_that(
    spread: World,
) -> None:
    eventually("all pods are Ready", lambda: ready_pods(spread, NAME) == REPLICAS)
    first = _nodes(spread).pop()
    with (
        sessions.calling(spread, NAME, "teller") as clients,
        watched(spread, NAME) as seen,
    ):
        spread.kubectl("drain", first, *DRAIN, "--timeout=150s")
        assert first not in _nodes(spread)
        eventually(
            "all pods are Ready elsewhere", lambda: ready_pods(spread, NAME) == REPLICAS, 120
        )

        (second,) = _nodes(spread)
        with pytest.raises(CommandFailed, match="violate the pod's disruption budget"):
            spread.kubectl("drain", second, *DRAIN, "--timeout=20s")
        assert ready_pods(spread, NAME) == AT_LEAST

        spread.kubectl("uncordon", first)
        spread.kubectl("drain", second, *DRAIN, "--timeout=150s")
        eventually("all pods are Ready again", lambda: ready_pods(spread, NAME) == REPLICAS, 120)
        assert _nodes(spread) == {first}
        spread.kubectl("uncordon", second)
        clients.wait_calls(20)
        # Every pod that was there at the beginning is gone.
        assert clients.ended == 0
        print(f"{clients.check()}; never fewer than {min(ready for ready, _ in seen)} pods")
    assert min(ready for ready, _ in seen) == AT_LEAST


def _nodes(world: World) -> set[str]:
    return {pod["spec"]["nodeName"] for pod in pods_of(world, NAME) if "nodeName" in pod["spec"]}
