"""The operator is replaced by a newer version while calls run."""

from collections.abc import Callable, Iterator

import pytest

from e2e import pods
from e2e.operators import Operators
from e2e.pods import calling, pods_of, watched
from e2e.world import World, eventually, steadily
from scripts import images, machine

FOLLOWING = "following"
PINNED = "pinned"
NEXT = "0.2.0"
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
    Operators(cluster).wait()
    upgraded.wait_ready(FOLLOWING)


def test_a_newer_operator_rolls_only_what_renders_anew_one_pod_at_a_time(
    next_version: World,
) -> None:
    world, operators = next_version, Operators(next_version.cluster)
    before = {name: _uids(world, name) for name in (FOLLOWING, PINNED)}
    with (
        calling(world, FOLLOWING, "teller_tell") as following,
        calling(world, PINNED, "teller_tell") as pinned,
    ):
        world.cluster.kubectl("apply", "--server-side", "-f", CRD)
        operators.change(image=f"mcpproxy/operator:{NEXT}")
        steadily("no pod is replaced", lambda: before[PINNED] == _uids(world, PINNED), 5)
        assert _uids(world, FOLLOWING) == before[FOLLOWING]

        with watched(world, FOLLOWING) as seen:
            operators.change(args=_with_runtime(operators, f"mcpproxy/runtime:{NEXT}"))
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


def _with_runtime(operators: Operators, image: str) -> list[str]:
    args = operators.container()["args"]
    return [f"--image={image}" if arg.startswith("--image=") else arg for arg in args]


def _uids(world: World, name: str) -> set[str]:
    return {pod["metadata"]["uid"] for pod in pods_of(world, name)}


def _images(world: World, name: str) -> set[str]:
    return {pod["spec"]["containers"][0]["image"] for pod in pods_of(world, name)}
