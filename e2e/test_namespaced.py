"""The operator for one namespace, from manifests/overlays/namespaced."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from e2e.world import World, eventually, notes_proxy, operator_down, steadily
from scripts.machine import ROOT

NOTHING = {"observedGeneration": -1}
USER = "system:serviceaccount:{}:mcpproxy-operator"


@pytest.fixture
def alone(new_world: Callable[[str], World], tmp_path: Path) -> Iterator[World]:
    """A namespace whose operator serves it alone, while that for all namespaces is down."""
    world = new_world("namespaced")
    overlay = os.path.relpath(ROOT / "manifests" / "overlays" / "namespaced", tmp_path)
    above = {"namespace": world.namespace, "resources": [overlay]}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(above), encoding="utf-8")
    with operator_down(world.cluster):
        world.kubectl("apply", "--server-side", "-k", str(tmp_path))
        world.kubectl("rollout", "status", "deployment/mcpproxy-operator", "--timeout=120s")
        yield world
        world.kubectl("delete", "deployment", "mcpproxy-operator", "--cascade=foreground")


def test_a_namespaced_operator_serves_its_namespace_and_no_other(
    alone: World, new_world: Callable[[str], World]
) -> None:
    elsewhere = new_world("elsewhere")
    elsewhere.apply(notes_proxy("unserved"))
    alone.apply(notes_proxy("served"))
    alone.wait_ready("served")
    eventually("the counts are there", lambda: alone.status("served")["components"]["tools"] == 2)
    steadily("the other has no status", lambda: elsewhere.status("unserved") == NOTHING, seconds=2)
    user = USER.format(alone.namespace)
    assert alone.may(user, "patch", "deployments")
    assert not elsewhere.may(user, "list", "deployments")
