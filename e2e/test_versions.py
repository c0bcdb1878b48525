"""An operator and a runtime whose contracts differ by one change work together, both ways."""

import os
import subprocess
from collections.abc import Callable, Iterator

import pytest

from e2e import pods
from e2e.pods import calling
from e2e.world import OPERATOR, SYSTEM, World
from scripts import images, machine

CONTRACT = "operator/mcpproxy/api"
EARLIER = "earlier"

pytestmark = [pods.long, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def earlier(new_world: Callable[[str], World]) -> Iterator[World]:
    """The images as they were before the last change of the contract are in the cluster."""
    world = new_world("versions")
    revision = _before_the_last_change()
    for target in ("runtime", "operator"):
        _build(world, revision, target)
    world.cluster.load([_image(target) for target in ("runtime", "operator")])
    pods.tellers(world, "teller")
    yield world
    world.remove()


def test_an_earlier_runtime_serves_under_this_operator(earlier: World) -> None:
    _serves(earlier, "old-runtime", _image("runtime"))


def test_this_runtime_serves_under_an_earlier_operator(earlier: World) -> None:
    try:
        _operate(earlier, _image("operator"))
        _serves(earlier, "new-runtime", images.name("runtime"))
    finally:
        _operate(earlier, images.name("operator"))
    earlier.wait_ready("new-runtime")


def _serves(world: World, name: str, image: str) -> None:
    """A proxy of this runtime is built, told of, called, and changed while calls go on."""
    proxy = pods.proxy(name, "teller", replicas=2)
    proxy["spec"]["image"] = image
    world.apply(proxy)
    world.wait_ready(name)
    status = world.status(name)
    assert status["components"]["tools"] == 1
    assert status["backends"][0]["state"] == "Healthy"
    with calling(world, name, "teller_tell") as caller:
        world.patch(name, {"cache": {"ttl": "30s"}})
        world.wait_ready(name)
        caller.wait_calls(50)
        print(f"{caller.check()} calls")
    assert world.status(name)["readyReplicas"] == 2


def _operate(world: World, image: str) -> None:
    world.cluster.kubectl("-n", SYSTEM, "set", "image", OPERATOR, f"operator={image}")
    world.cluster.kubectl("-n", SYSTEM, "rollout", "status", OPERATOR, "--timeout=150s")


def _before_the_last_change() -> str:
    last = machine.run(
        ["git", "log", "-1", "--format=%H", "--", CONTRACT], dict(os.environ)
    ).strip()
    return f"{last}~1"


def _image(target: str) -> str:
    return f"mcpproxy/{target}:{EARLIER}"


def _build(world: World, revision: str, target: str) -> None:
    """Build an image from the files of a revision."""
    env = world.cluster.env
    base = env.get("BASE_IMAGE")
    arguments = ["--build-arg", f"BASE_IMAGE={base}"] if base else []
    command = ["docker", "build", "--network=host", *arguments, "--target", target]
    archive = subprocess.run(
        ["git", "archive", revision], cwd=machine.ROOT, check=True, capture_output=True
    )
    built = subprocess.run(
        [*command, "--tag", _image(target), "-"],
        input=archive.stdout,
        env=env,
        capture_output=True,
        timeout=900,
        check=False,
    )
    assert built.returncode == 0, built.stdout.decode() + built.stderr.decode()
