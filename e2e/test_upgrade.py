"""The operator is replaced by a newer version, and its leader killed, while calls run."""

import json
from collections.abc import Callable, Iterator

import pytest

from e2e import pods
from e2e.audit import AuditLog
from e2e.pods import calling, pods_of, watched
from e2e.world import (
    OPERATOR,
    PROXIES,
    SERVICE_ACCOUNT,
    SYSTEM,
    Object,
    World,
    eventually,
    steadily,
)
from scripts import images, machine

FOLLOWING = "following"
PINNED = "pinned"
NEXT = "0.2.0"
FAILOVER_SECONDS = 20
LEASE = "mcpproxy-operator"
CRD = "crds/mcpproxies.mcpproxy.dev.yaml"


@pytest.fixture(scope="module")
def upgraded(new_world: Callable[[str], World]) -> Iterator[World]:
    """Two proxies of two pods: one of the operator's runtime image, and one of its own image."""
    world = new_world("upgrade")
    pods.tellers(world, "teller")
    following = pods.proxy(FOLLOWING, "teller", replicas=2)
    del following["spec"]["image"]
    world.apply(following)
    world.apply(pods.proxy(PINNED, "teller", replicas=2))
    world.wait_ready(FOLLOWING)
    world.wait_ready(PINNED)
    yield world
    world.remove()


@pytest.fixture
def next_version(upgraded: World) -> Iterator[World]:
    """The images under a newer tag, in the cluster; afterwards the operator is as it was."""
    cluster = upgraded.cluster
    newer = {target: f"mcpproxy/{target}:{NEXT}" for target in ("operator", "runtime")}
    for target, name in newer.items():
        machine.run(["docker", "tag", images.name(target), name], cluster.env)
    cluster.load(newer.values())
    yield upgraded
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", "manifests/install.yaml")
    _rolled_out(upgraded)
    upgraded.wait_ready(FOLLOWING)


def test_a_newer_operator_rolls_only_what_renders_anew_one_pod_at_a_time(
    next_version: World,
) -> None:
    world = next_version
    before = {name: _uids(world, name) for name in (FOLLOWING, PINNED)}
    with (
        calling(world, FOLLOWING, "teller_tell") as following,
        calling(world, PINNED, "teller_tell") as pinned,
    ):
        world.cluster.kubectl("apply", "--server-side", "-f", CRD)
        _change_operator(world, {"image": f"mcpproxy/operator:{NEXT}"})
        steadily("no pod is replaced", lambda: before[PINNED] == _uids(world, PINNED), 5)
        assert _uids(world, FOLLOWING) == before[FOLLOWING]

        with watched(world, FOLLOWING) as seen:
            _change_operator(world, {"args": _with_runtime(world, f"mcpproxy/runtime:{NEXT}")})
            eventually(
                "the pods are of the newer image",
                lambda: _images(world, FOLLOWING) == {f"mcpproxy/runtime:{NEXT}"},
                180,
            )
            world.wait_ready(FOLLOWING)
        assert min(ready for ready, _ in seen) == 2
        assert max(total for _, total in seen) == 3
        assert _uids(world, FOLLOWING).isdisjoint(before[FOLLOWING])
        assert _uids(world, PINNED) == before[PINNED]
        following.wait_calls(20)
        print(f"{following.check()} calls of the one that rolled, {pinned.check()} of the other")


def test_a_killed_leader_is_followed_within_20_seconds_and_nothing_is_written_twice(
    upgraded: World, audit: AuditLog
) -> None:
    world = upgraded
    uid = world.get(PROXIES, PINNED)["metadata"]["uid"]
    children = {one["metadata"]["uid"] for one in world.owned(uid) if one["kind"] != "ConfigMap"}
    system = World(world.cluster, SYSTEM)
    leader = system.get("lease", LEASE)["spec"]["holderIdentity"]
    position = audit.position()
    _kill(system, leader)
    world.patch(PINNED, {"service": {"port": 8080}})
    eventually("the port is changed", lambda: _port(world) == 8080, FAILOVER_SECONDS)
    world.wait_ready(PINNED)
    written = audit.writes(
        position,
        lambda write: write.user == SERVICE_ACCOUNT and write.resource == "services",
    )
    assert len(written) == 1
    assert {
        one["metadata"]["uid"] for one in world.owned(uid) if one["kind"] != "ConfigMap"
    } == children
    _rolled_out(world)


def _kill(system: World, leader: str) -> None:
    """SIGKILL the process of the pod that holds the Lease, from its node."""
    node = ["docker", "exec", f"{system.cluster.name}-control-plane"]
    names = [pod["metadata"]["name"] for pod in system.all("pods")]
    pod = next(name for name in names if name in leader)
    status = system.get("pod", pod)["status"]["containerStatuses"][0]
    container = status["containerID"].rpartition("/")[2]
    tasks = machine.run([*node, "ctr", "--namespace=k8s.io", "tasks", "ls"], system.cluster.env)
    pid = next(line.split()[1] for line in tasks.splitlines() if line.startswith(container))
    machine.run([*node, "kill", "-9", pid], system.cluster.env)


def _port(world: World) -> int:
    port: int = world.get("service", PINNED)["spec"]["ports"][0]["port"]
    return port


def _with_runtime(world: World, image: str) -> list[str]:
    args = _operator(world)["args"]
    return [f"--image={image}" if arg.startswith("--image=") else arg for arg in args]


def _operator(world: World) -> Object:
    found = World(world.cluster, SYSTEM).get("deployment", OPERATOR.partition("/")[2])
    container: Object = found["spec"]["template"]["spec"]["containers"][0]
    return container


def _change_operator(world: World, fields: Object) -> None:
    containers = {"containers": [{"name": "operator", **fields}]}
    change = json.dumps({"spec": {"template": {"spec": containers}}})
    world.cluster.kubectl("-n", SYSTEM, "patch", OPERATOR, "-p", change)
    _rolled_out(world)


def _rolled_out(world: World) -> None:
    world.cluster.kubectl("-n", SYSTEM, "rollout", "status", OPERATOR, "--timeout=120s")


def _uids(world: World, name: str) -> set[str]:
    return {pod["metadata"]["uid"] for pod in pods_of(world, name)}


def _images(world: World, name: str) -> set[str]:
    return {pod["spec"]["containers"][0]["image"] for pod in pods_of(world, name)}
