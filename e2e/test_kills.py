"""Pods of a proxy are killed with SIGKILL, one every 20 seconds, while calls run."""

import time
from collections.abc import Iterator

import pytest

from e2e import pods, sessions
from e2e.operators import killing
from e2e.pods import pods_of, ready_pods
from e2e.world import World, eventually, steadily
from scripts import machine
from scripts.cluster import Cluster

NAME = "killed"
REPLICAS = 3
KILLS = 6
EVERY = 20
"""Seconds between two kills."""

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def killed(cluster: Cluster) -> Iterator[World]:
    """A proxy of three pods in front of a server that counts in each session."""
    cluster.kubectl("create", "namespace", "kills")
    world = World(cluster, "kills")
    pods.tellers(world, "teller")
    sessions.counter(world)
    world.apply(sessions.proxy(NAME, "teller", replicas=REPLICAS))
    world.wait_ready(NAME)
    yield world
    world.remove()


def test_only_calls_in_flight_on_a_killed_pod_fail_and_no_session_ends(killed: World) -> None:
    eventually("all pods are Ready", lambda: ready_pods(killed, NAME) == REPLICAS)
    with sessions.surviving(killed, NAME) as clients:
        for number in range(KILLS):
            next_at = time.monotonic() + EVERY
            names = sorted(pod["metadata"]["name"] for pod in pods_of(killed, NAME))
            machine.run(killing(killed, names[number % REPLICAS]), killed.cluster.env)
            clients.wait_calls(20)
            seconds = next_at - time.monotonic()
            steadily("no session ends", lambda: clients.tally()["ended"] == 0, seconds)
        eventually("all pods are Ready", lambda: ready_pods(killed, NAME) == REPLICAS, 120)
        tally = clients.tally()
        print(f"{KILLS} kills: {tally}")
        assert tally["failed"] == 0, tally
        assert (tally["begun"], tally["ended"]) == (sessions.COUNTING_CLIENTS, 0)
        # One call of each client is in flight, at the pod that is killed or by way of it.
        assert tally["broken"] <= KILLS * sessions.COUNTING_CLIENTS
    statuses = [pod["status"]["containerStatuses"][0] for pod in pods_of(killed, NAME)]
    assert sum(status["restartCount"] for status in statuses) == KILLS
