"""Somebody changes the children by hand; they come back as they were."""

from collections.abc import Callable

import pytest

from e2e.world import PROXIES, World, eventually, notes_proxy

NAME = "drifting"


@pytest.fixture(scope="module")
def drifting(new_world: Callable[[str], World]) -> World:
    """A proxy that is Ready."""
    world = new_world("drift")
    world.apply(notes_proxy(NAME))
    world.wait_ready(NAME)
    return world


@pytest.mark.parametrize("kind", ["Deployment", "Service", "ConfigMap"])
def test_a_deleted_child_comes_back(drifting: World, kind: str) -> None:
    uid = drifting.get(PROXIES, NAME)["metadata"]["uid"]
    child = next(item for item in drifting.owned(uid) if item["kind"] == kind)
    name, old = child["metadata"]["name"], child["metadata"]["uid"]
    drifting.kubectl("delete", kind, name, "--wait=false")

    def back() -> bool:
        result = drifting.find(kind, name)
        return result is not None and result["metadata"]["uid"] != old

    eventually(f"the {kind} is back", back, seconds=30)
    drifting.wait_ready(NAME)
    again = drifting.get(kind, name)
    assert again["metadata"]["ownerReferences"] == child["metadata"]["ownerReferences"]
    assert again.get("data") == child.get("data")


def test_an_edited_image_is_reverted(drifting: World) -> None:
    def image() -> str:
        containers = drifting.get("deployment", NAME)["spec"]["template"]["spec"]["containers"]
        assert len(containers) == 1
        result: str = containers[0]["image"]
        return result

    wanted = image()
    drifting.kubectl("set", "image", f"deployment/{NAME}", "mcpproxy=example.com/other:1")
    eventually("the image is the one wanted", lambda: image() == wanted, seconds=30)
    drifting.wait_ready(NAME)
