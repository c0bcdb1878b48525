"""A user compares a manifest with what the cluster's proxy serves, before it is applied."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from e2e.world import World, notes_proxy
from scripts.machine import ROOT

COMMAND = Path(sys.executable).with_name("mcpproxy")
NAME = "plan"


@dataclass(frozen=True)
class Planner:
    """Somebody with a manifest, kubectl and the command."""

    world: World
    directory: Path

    def plan(self, manifest: dict[str, Any], *options: str) -> subprocess.CompletedProcess[str]:
        """Run `mcpproxy plan` of a manifest; its programs run here."""
        file = self.directory / "mcpproxy.yaml"
        file.write_text(json.dumps(manifest))
        assert self.world.cluster.kubeconfig is not None
        env = {**self.world.cluster.env, "KUBECONFIG": str(self.world.cluster.kubeconfig)}
        env["PATH"] = f"{COMMAND.parent}:{env['PATH']}"
        return subprocess.run(
            [COMMAND, "plan", "-f", file, "-n", self.world.namespace, *options],
            cwd=ROOT,
            env=env,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )


@pytest.fixture(scope="module")
def planner(new_world: Callable[[str], World], tmp_path_factory: pytest.TempPathFactory) -> Planner:
    """Somebody whose proxy is Ready on the cluster."""
    world = new_world("plan")
    world.apply(notes_proxy(NAME))
    world.wait_ready(NAME)
    return Planner(world, tmp_path_factory.mktemp("plan"))


def test_an_applied_manifest_has_no_difference_and_the_hash_of_the_status(
    planner: Planner,
) -> None:
    result = planner.plan(notes_proxy(NAME), "--against", f"mcpproxy/{NAME}", "-o", "json")
    assert (result.returncode, result.stderr) == (0, "")
    (plan,) = json.loads(result.stdout)["proxies"]
    assert plan["catalogHash"] == planner.world.status(NAME)["catalogHash"]
    assert len(plan["tools"]) == planner.world.status(NAME)["components"]["tools"]


def test_a_change_is_shown_before_it_is_applied_and_is_gone_afterwards(planner: Planner) -> None:
    changed = notes_proxy(NAME)
    rename = {"overrides": [{"name": "add_note", "rename": "write"}]}
    changed["spec"]["backends"][0]["tools"] = rename
    result = planner.plan(changed, "--against", f"mcpproxy/{NAME}")
    assert result.returncode == 2, result.stderr
    assert "  + tools: notes_write\n  - tools: notes_add_note\n" in result.stdout
    planner.world.apply(changed)
    planner.world.wait_ready(NAME)
    try:
        same = planner.plan(changed, "--against", f"mcpproxy/{NAME}")
        assert (same.returncode, same.stderr) == (0, "")
        assert "no differences" in same.stdout
    finally:
        planner.world.apply(notes_proxy(NAME))
        planner.world.wait_ready(NAME)


def test_a_proxy_that_does_not_exist_in_the_cluster_is_reported(planner: Planner) -> None:
    result = planner.plan(notes_proxy(NAME), "--against", "mcpproxy/elsewhere")
    assert result.returncode == 1
    assert 'services "elsewhere" not found' in result.stderr
