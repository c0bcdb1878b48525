"""An operator and a runtime that differ in all that they say to one another work together."""

import subprocess
from collections.abc import Callable, Iterator

import pytest

from e2e import pods, releases, sessions
from e2e.pods import pods_of, watched
from e2e.releases import Release
from e2e.world import World, eventually
from scripts import images, machine

OPERATOR = "operator/mcpproxy"
CONTRACT = (
    (f"{OPERATOR}/api",),
    tuple(f"{OPERATOR}/desired/{name}.py" for name in ("deployment", "volumes", "placement")),
    (f"{OPERATOR}/proxy/command.py",),
    (f"{OPERATOR}/api/status.py",),
    tuple(f"{OPERATOR}/proxy/core/{name}.py" for name in ("seal", "sessions")),
    tuple(
        f"{OPERATOR}/proxy/downstream/{name}.py"
        for name in ("peers/forwarding", "legacy/sessions", "modern/input_required")
    ),
)
"""Parts of what they say: the spec, the pod, arguments, reports, tokens, and what pods say."""
KEY_NAMED = "def sealing_secret_name(proxy: str, uid: str)"
"""Versions without it call the sealing key's Secret by another name, so nobody opens what pods of
the other version have sealed. None of them was released."""
NAME = "crossing"

pytestmark = [pods.long, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def world(new_world: Callable[[str], World]) -> Iterator[World]:
    """A namespace with servers."""
    result = new_world("versions")
    pods.tellers(result, "teller")
    sessions.counter(result)
    yield result
    result.remove()


@pytest.fixture(scope="module")
def earlier(world: World, tmp_path_factory: pytest.TempPathFactory) -> Release:
    """The version before the last change of each part of the contract, its images at hand."""
    directory = tmp_path_factory.mktemp("earlier")
    result = releases.earlier(directory, _before_all_changes(), "earlier")
    result.load(world.cluster)
    return result


@pytest.fixture
def operated(world: World, earlier: Release) -> Iterator[Release]:
    """The earlier version is installed, its CRD and its roles too; afterwards this one is."""
    earlier.install(world.cluster)
    yield earlier
    releases.current().install(world.cluster)


def test_an_earlier_runtime_serves_under_this_operator(world: World, earlier: Release) -> None:
    _serves(world, "old-runtime", earlier.image("runtime"))


def test_this_runtime_serves_under_an_earlier_operator(world: World, operated: Release) -> None:
    _serves(world, "new-runtime", images.name("runtime"))


def test_sessions_cross_from_pods_of_the_earlier_version_to_those_of_this_one(
    world: World, operated: Release
) -> None:
    proxy = sessions.proxy(NAME, "teller", replicas=3)
    del proxy["spec"]["image"]
    world.apply(proxy)
    world.wait_ready(NAME)
    assert _images(world) == {operated.image("runtime")}
    with sessions.calling(world, NAME, "teller") as clients, watched(world, NAME) as seen:
        releases.current().install(world.cluster)
        image = images.name("runtime")
        eventually("all pods are of this version", lambda: _images(world) == {image}, 240)
        world.wait_ready(NAME)
        clients.wait_calls(20)
        print(clients.check())
    assert min(ready for ready, _ in seen) == 3
    assert max(total for _, total in seen) == 4


def _serves(world: World, name: str, image: str) -> None:
    """A proxy of this runtime is built, told of, called, and changed while calls go on."""
    proxy = sessions.proxy(name, "teller", replicas=2)
    proxy["spec"]["image"] = image
    world.apply(proxy)
    world.wait_ready(name)
    status = world.status(name)
    assert status["backendsHealthy"] == "2/2"
    assert status["components"]["tools"] == 4
    assert {backend["session"] for backend in status["backends"]} == {"Stateless", "Stateful"}
    with sessions.calling(world, name, "teller") as clients:
        world.patch(name, {"cache": {"ttl": "30s"}})
        world.wait_ready(name)
        clients.wait_calls(50)
        print(clients.check())
    assert world.status(name)["readyReplicas"] == 2


def _before_all_changes() -> str:
    """The revision before the last change of the part that has not changed for the longest, but
    none from before the sealing key's Secret had its name."""
    last = [_git("log", "-1", "--format=%H", "--", *paths) for paths in CONTRACT]
    farthest = f"{max(last, key=_distance)}~1"
    named = _git("log", "-1", "--format=%H", "-S", KEY_NAMED, "--", f"{OPERATOR}/api/names.py")
    return min(farthest, named, key=_distance)


def _distance(revision: str) -> int:
    """Return the number of later changes."""
    return int(_git("rev-list", "--count", f"{revision}..HEAD"))


def _git(*arguments: str) -> str:
    command = ["git", *arguments]
    done = subprocess.run(command, cwd=machine.ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _images(world: World) -> set[str]:
    return {pod["spec"]["containers"][0]["image"] for pod in pods_of(world, NAME)}
