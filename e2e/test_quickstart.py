"""The quick start on a cluster, as it stands in its page."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from e2e.world import World
from scripts.machine import ROOT
from tests.docs.blocks import blocks, outputs, script, shape


def test_the_quick_start_on_a_cluster_works_as_documented(
    new_world: Callable[[str], World], tmp_path: Path
) -> None:
    world = new_world("quickstart")
    value = blocks("quickstart.md", "run: cluster")
    assert len(value) == 4
    shell = subprocess.run(
        ["bash", "-c", script(value)],
        cwd=ROOT,
        env={**world.cluster.env, "KUBECONFIG": _pointing_at(world, tmp_path)},
        capture_output=True,
        text=True,
        timeout=350,
        check=False,
    )
    assert shell.returncode == 0, shell.stderr
    for block, output in zip(value, outputs(shell.stdout), strict=True):
        # kubectl 1.34 and newer say from which namespace something was deleted.
        said = re.sub(rf' from "?{world.namespace}"? namespace', "", output)
        assert shape(said) == shape(block.printed or "")


def _pointing_at(world: World, directory: Path) -> str:
    """A kubeconfig whose namespace is the world's."""
    assert world.cluster.kubeconfig is not None
    copy = shutil.copy(world.cluster.kubeconfig, directory / "kubeconfig")
    command = ["kubectl", "config", "set-context", "--current", f"--namespace={world.namespace}"]
    subprocess.run(
        command, env={**world.cluster.env, "KUBECONFIG": str(copy)}, capture_output=True, check=True
    )
    return str(copy)
