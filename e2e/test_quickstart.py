"""The quick start and the way back from a bad change on a cluster, as they stand in their pages."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from e2e import pods
from e2e.world import Object, World, eventually
from scripts.machine import ROOT
from tests.docs.blocks import Block, blocks, outputs, script, shape


def test_the_quick_start_on_a_cluster_works_as_documented(
    new_world: Callable[[str], World], tmp_path: Path
) -> None:
    world = new_world("quickstart")
    value = blocks("quickstart.md", "run: cluster")
    assert len(value) == 4
    printed = _run(world, value, tmp_path, cwd=ROOT)
    for block, output in zip(value, outputs(printed), strict=True):
        # kubectl 1.34 and newer say from which namespace something was deleted.
        said = re.sub(rf' from "?{world.namespace}"? namespace', "", output)
        assert shape(said) == shape(block.printed or "")


@pytest.mark.parametrize("way", ["rollback", "undo"])
def test_a_bad_change_that_was_rolled_out_is_rolled_back_by_the_documented_commands(
    way: str, new_world: Callable[[str], World], tmp_path: Path
) -> None:
    world = new_world(way)
    pods.tellers(world, "teller")
    good, bad = pods.proxy("tools", "teller"), pods.proxy("tools", "gone")
    world.apply(good)
    world.wait_ready("tools")
    world.apply(bad)
    eventually("it fails", lambda: world.status("tools").get("summary") == "Failing")
    (apply_and_wait,) = blocks("operations.md", "run: rollback")
    if way == "rollback":
        _commit(tmp_path, good, bad)
        _run(world, [apply_and_wait], tmp_path)
    else:
        suspend, resume = blocks("operations.md", "run: undo")
        _run(world, [suspend], tmp_path)
        eventually("it serves", lambda: world.status("tools").get("summary") == "Suspended")
        (tmp_path / "proxy.yaml").write_text(json.dumps(good))
        _run(world, [Block("", "name=tools", None), resume], tmp_path)
        _commit(tmp_path, good, bad)
        _run(world, [apply_and_wait], tmp_path)
    assert world.status("tools")["summary"] == "Serving"
    (backend,) = world.status("tools")["backends"]
    assert (backend["name"], backend["state"]) == ("teller", "Healthy")


def _commit(directory: Path, *manifests: Object) -> None:
    """Write a repository whose commits change proxy.yaml."""
    git = ("git", "-c", "user.name=Reader", "-c", "user.email=reader@example.com")
    subprocess.run([*git, "init", "-q"], cwd=directory, check=True)
    for manifest in manifests:
        (directory / "proxy.yaml").write_text(json.dumps(manifest))
        subprocess.run([*git, "add", "proxy.yaml"], cwd=directory, check=True)
        subprocess.run([*git, "commit", "-qm", "change"], cwd=directory, check=True)


def _run(world: World, commands: list[Block], directory: Path, cwd: Path | None = None) -> str:
    """Run the commands of a page in one shell, by default in `directory`; return their output."""
    done = subprocess.run(
        ["bash", "-c", script(commands)],
        cwd=cwd or directory,
        env={**world.cluster.env, "KUBECONFIG": _pointing_at(world, directory)},
        capture_output=True,
        text=True,
        timeout=350,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _pointing_at(world: World, directory: Path) -> str:
    """A kubeconfig whose namespace is the world's."""
    assert world.cluster.kubeconfig is not None
    copy = shutil.copy(world.cluster.kubeconfig, directory / "kubeconfig")
    command = ["kubectl", "config", "set-context", "--current", f"--namespace={world.namespace}"]
    subprocess.run(
        command, env={**world.cluster.env, "KUBECONFIG": str(copy)}, capture_output=True, check=True
    )
    return str(copy)
