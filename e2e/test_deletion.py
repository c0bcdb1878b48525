"""A user deletes an MCPProxy; and one that would need another's Deployment gets none."""

from collections.abc import Callable

import pytest

from e2e.world import PROXIES, World, eventually, notes_proxy, operator_down, steadily

# The garbage collector may take half a minute to notice a kind that is new to it.
COLLECTION_SECONDS = 90
KINDS = {"Deployment", "Service", "ConfigMap", "Secret", "ServiceAccount"}


@pytest.fixture
def world(new_world: Callable[[str], World]) -> World:
    """A namespace of its own."""
    return new_world("deletion")


def _delete(world: World, name: str) -> None:
    uid = world.get(PROXIES, name)["metadata"]["uid"]
    assert {item["kind"] for item in world.owned(uid)} == KINDS
    world.kubectl("delete", PROXIES, name, "--timeout=60s")
    eventually("all children are gone", lambda: not world.owned(uid), COLLECTION_SECONDS)


def test_children_go_with_the_proxy_whether_the_operator_runs_or_not(world: World) -> None:
    world.apply(notes_proxy("first"))
    world.apply(notes_proxy("second"))
    world.wait_ready("first")
    world.wait_ready("second")
    _delete(world, "first")
    with operator_down(world.cluster):
        _delete(world, "second")


def test_a_foreign_deployment_is_left_unchanged_and_reported(
    world: World,
) -> None:
    image = "mcpproxy/demo:0.1.0"
    world.kubectl("create", "deployment", "taken", f"--image={image}", "--replicas=0")
    world.kubectl("rollout", "status", "deployment/taken", "--timeout=60s")
    before = world.get("deployment", "taken")
    world.apply(notes_proxy("taken"))

    def refusal() -> str | None:
        conditions = world.status("taken").get("conditions", [])
        said = [condition for condition in conditions if condition["status"] != "True"]
        messages = (item["message"] for item in said if item["reason"] == "NotOwned")
        return next(messages, None)

    message = eventually("a condition names the Deployment", refusal, seconds=30)
    assert message is not None
    assert "deployment" in message.lower()
    assert "taken" in message
    steadily("it is as it was", lambda: world.get("deployment", "taken") == before, seconds=3)
