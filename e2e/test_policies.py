"""A NetworkPolicy that is enforced: clients, the operator and the backends, and nothing else."""

import json
from collections.abc import Callable, Iterator

import pytest

from e2e import pods
from e2e.pods import PORT, pods_of, reaches
from e2e.world import World, eventually, steadily

NAME = "guarded"
PROXY = f"deployment/{NAME}"
SECONDS = 10


@pytest.fixture(scope="module")
def guarded(new_world: Callable[[str], World]) -> Iterator[World]:
    """A proxy of one backend that only pods of role agent may call."""
    world = new_world("policies")
    pods.add_on(world, "network-policies")
    pods.tellers(world, "backend", "neighbour")
    pods.idler(world, "agent", role="agent")
    pods.idler(world, "stranger", role="other")
    agents = {"podSelector": {"matchLabels": {"role": "agent"}}}
    health = {"interval": "5s"}
    world.apply(pods.proxy(NAME, "backend", networkPolicy={"clients": [agents]}, health=health))
    world.wait_ready(NAME)
    yield world
    world.remove()


def test_the_endpoint_lets_clients_in_and_nobody_else(guarded: World) -> None:
    assert reaches(guarded, "pod/agent", NAME, 80)
    _never(guarded, "pod/stranger", NAME, 80)


def test_the_admin_port_lets_neither_clients_nor_others_in(guarded: World) -> None:
    address, port = _admin(guarded)
    _never(guarded, "pod/agent", address, port)
    _never(guarded, "pod/stranger", address, port)


def test_the_proxy_reaches_its_backend_and_no_other_service(guarded: World) -> None:
    assert reaches(guarded, PROXY, "backend", PORT)
    _never(guarded, PROXY, "neighbour", PORT)
    # It is the policy that stands between them, not the neighbour.
    assert reaches(guarded, "pod/stranger", "neighbour", PORT)


def test_what_the_pods_see_arrives_at_the_operator(guarded: World) -> None:
    assert guarded.backend(NAME, "backend")["components"]["tools"] == 1
    guarded.kubectl("scale", "deployment/backend", "--replicas=0")
    eventually("it is Unhealthy", lambda: _state(guarded) == "Unhealthy")
    guarded.kubectl("scale", "deployment/backend", "--replicas=1")
    eventually("it is Healthy again", lambda: _state(guarded) == "Healthy")


def test_without_the_policy_the_same_connections_come_about(guarded: World) -> None:
    address, port = _admin(guarded)
    change = json.dumps([{"op": "remove", "path": "/spec/networkPolicy"}])
    guarded.kubectl("patch", "mcpproxies.mcpproxy.dev", NAME, "--type=json", "-p", change)
    for source, host, target in (
        ("pod/stranger", NAME, 80),
        ("pod/stranger", address, port),
        (PROXY, "neighbour", PORT),
    ):
        eventually(f"{source} to {host}", lambda: reaches(guarded, source, host, target))  # noqa: B023


def _never(world: World, source: str, host: str, port: int) -> None:
    """A policy takes a moment to know a new pod; from then on nothing passes."""
    eventually(f"{source} is cut off", lambda: not reaches(world, source, host, port))
    steadily(f"{source} is cut off", lambda: not reaches(world, source, host, port), SECONDS)


def _admin(world: World) -> tuple[str, int]:
    pod = pods_of(world, NAME)[0]
    ports = {one["name"]: one for one in pod["spec"]["containers"][0]["ports"]}
    return pod["status"]["podIP"], ports["admin"]["containerPort"]


def _state(world: World) -> str | None:
    state: str | None = world.backend(NAME, "backend").get("state")
    return state
