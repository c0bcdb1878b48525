"""The operator is replaced by a newer version while clients of all kinds call."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from e2e import pods, releases, sessions
from e2e.operators import Operators
from e2e.pods import calling, pods_of, watched
from e2e.releases import Release
from e2e.world import World, eventually, steadily

FOLLOWING = "following"
PINNED = "pinned"
VERSION = "mcpproxy.dev/operator-version"
STEADY_SECONDS = 5


@pytest.fixture(scope="module")
def upgraded(new_world: Callable[[str], World]) -> Iterator[World]:
    """Two proxies of two pods: one of the operator's runtime image, and one of its own image."""
    world = new_world("upgrade")
    pods.tellers(world, "teller")
    sessions.counter(world)
    following = sessions.proxy(FOLLOWING, "teller", replicas=2)
    del following["spec"]["image"]
    world.apply(following)
    world.apply(pods.proxy(PINNED, "teller", replicas=2))
    world.wait_ready(FOLLOWING)
    world.wait_ready(PINNED)
    yield world
    world.remove()


@pytest.fixture
def newer(upgraded: World, tmp_path: Path) -> Iterator[Release]:
    """A newer version, whose images are in the cluster; afterwards this one operates again."""
    release = releases.newer(tmp_path / "newer", "0.2.0")
    release.load(upgraded.cluster)
    yield release
    releases.current().install(upgraded.cluster)
    upgraded.wait_ready(FOLLOWING)


def test_a_newer_operator_rolls_only_changed_pods_one_at_a_time(
    upgraded: World, newer: Release
) -> None:
    world, operators = upgraded, Operators(upgraded.cluster)
    before = {name: _uids(world, name) for name in (FOLLOWING, PINNED)}
    with (
        sessions.calling(world, FOLLOWING, "teller") as clients,
        calling(world, PINNED, "teller_tell") as pinned,
    ):
        operators.change(image=newer.image("operator"))
        eventually("it has been at work", lambda: _versions(world) == {newer.tag})
        steadily(
            "no pod is replaced",
            lambda: before == {name: _uids(world, name) for name in (FOLLOWING, PINNED)},
            STEADY_SECONDS,
        )
        assert clients.ended == 0

        with watched(world, FOLLOWING) as seen:
            newer.install(world.cluster)
            image = newer.image("runtime")
            eventually("the pods are newer", lambda: _images(world, FOLLOWING) == {image}, 180)
            world.wait_ready(FOLLOWING)
        assert min(ready for ready, _ in seen) == 2
        assert max(total for _, total in seen) == 3
        assert _uids(world, FOLLOWING).isdisjoint(before[FOLLOWING])
        assert _uids(world, PINNED) == before[PINNED]
        clients.wait_calls(20)
        assert clients.ended == 0
        print(f"of the one that rolled {clients.check()}; {pinned.check()} calls of the other")


def _versions(world: World) -> set[str]:
    results = [world.get("deployment", name) for name in (FOLLOWING, PINNED)]
    return {item["metadata"]["annotations"][VERSION] for item in results}


def _uids(world: World, name: str) -> set[str]:
    return {pod["metadata"]["uid"] for pod in pods_of(world, name)}


def _images(world: World, name: str) -> set[str]:
    return {pod["spec"]["containers"][0]["image"] for pod in pods_of(world, name)}
