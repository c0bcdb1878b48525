"""A user changes an MCPProxy: what matters rolls out once, what does not rolls nothing."""

from typing import Any

import pytest

from e2e.audit import AuditLog
from e2e.world import PROXIES, SERVICE_ACCOUNT, World, eventually, steadily

NAME = "changing"
WEATHER: dict[str, Any] = {"name": "weather", "service": {"name": "weather", "port": 8080}}


@pytest.fixture
def changing(demo: World) -> World:
    """A proxy in front of the weather server, Ready and with nothing left to prune."""
    demo.apply(
        {
            "apiVersion": "mcpproxy.dev/v1alpha1",
            "kind": "MCPProxy",
            "metadata": {"name": NAME},
            "spec": {"image": "mcpproxy/demo:0.1.0", "replicas": 1, "backends": [WEATHER]},
        }
    )
    demo.wait_ready(NAME)
    _are_pruned(demo)
    return demo


def test_each_change_is_one_rolling_update_and_keeps_the_rollback_objects(
    changing: World,
) -> None:
    header = {"name": "X-Team", "value": "platform"}
    counter = {"name": "counter", "service": {"name": "counter", "port": 8080}}
    changes: tuple[dict[str, Any], ...] = (
        {"cache": {"ttl": "60s"}},
        {"backends": [{**WEATHER, "headers": [header]}]},
        {"backends": [{**WEATHER, "headers": [header]}, counter]},
    )
    for done, change in enumerate(changes, start=1):
        before = _configurations(changing)
        assert len(before) == done
        changing.patch(NAME, change)
        changing.wait_ready(NAME)
        assert _revision(changing) == 1 + done
        _are_pruned(changing)
        assert len(_configurations(changing) - before) == 1
    assert changing.status(NAME)["backendsHealthy"] == "2/2"


def test_a_label_causes_no_rollout_and_no_write(changing: World, audit: AuditLog) -> None:
    deployment = changing.get("deployment", NAME)
    configurations = _configurations(changing)
    position = audit.position()
    changing.kubectl("label", "--overwrite", PROXIES, NAME, "team=platform")
    steadily(
        "the Deployment is as it was",
        lambda: changing.get("deployment", NAME)["spec"] == deployment["spec"],
        seconds=5,
    )
    assert _configurations(changing) == configurations
    written = audit.writes(position, lambda write: write.user == SERVICE_ACCOUNT)
    assert [str(write) for write in written] == []


def _revision(world: World) -> int:
    annotations = world.get("deployment", NAME)["metadata"]["annotations"]
    return int(annotations["deployment.kubernetes.io/revision"])


def _are_pruned(world: World) -> None:
    """Wait until there are the configurations alone that a ReplicaSet mounts."""
    eventually("no other configuration is left", lambda: _configurations(world) == _mounted(world))


def _mounted(world: World) -> set[str]:
    uid = world.get("deployment", NAME)["metadata"]["uid"]
    volumes = [
        volume
        for item in world.all("replicasets")
        if uid in [owner["uid"] for owner in item["metadata"].get("ownerReferences", [])]
        for volume in item["spec"]["template"]["spec"]["volumes"]
    ]
    names = {volume["configMap"]["name"] for volume in volumes if "configMap" in volume}
    return {name for name in names if name.startswith(f"{NAME}-")}


def _configurations(world: World) -> set[str]:
    uid = world.get(PROXIES, NAME)["metadata"]["uid"]
    return {item["metadata"]["name"] for item in world.owned(uid) if item["kind"] == "ConfigMap"}
