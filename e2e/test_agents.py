"""Agents by ServiceAccount, with records in a log store, as the pages describe it."""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from e2e import pods
from e2e.world import World, eventually
from scripts.machine import ROOT
from tests.docs.blocks import blocks, outputs, script

COLLECTOR = "otel-collector"
WEATHER = "weather_get_forecast"


@pytest.fixture(scope="module")
def agents(new_world: Callable[[str], World]) -> Iterator[World]:
    """A namespace at the level restricted with the demo's backends and a collector."""
    world = new_world("agents")
    level = "pod-security.kubernetes.io/enforce=restricted"
    world.cluster.kubectl("label", "namespace", world.namespace, level)
    world.kubectl("apply", "-f", "samples/demo-backends.yaml")
    pods.tellers(world, COLLECTOR, program="collector", port=4318)
    yield world
    world.remove()


def test_an_agent_gets_the_tools_of_its_service_account_as_documented(
    agents: World, tmp_path: Path
) -> None:
    value = blocks("authentication.md", "run: agents")
    assert len(value) == 3
    *_, listed = _outputs(agents, script(value), tmp_path)
    assert WEATHER in listed
    assert "counter_" not in listed


def test_records_of_the_agents_calls_reach_the_log_store_as_documented(
    agents: World, tmp_path: Path
) -> None:
    value = blocks("audit.md", "run: otlp")
    assert len(value) == 1
    _outputs(agents, script(value), tmp_path)

    def records() -> list[str]:
        log = agents.kubectl("logs", f"deployment/{COLLECTOR}")
        return [line for line in log.splitlines() if WEATHER in line]

    [line] = eventually("the record is in the log store", records)
    assert f"system:serviceaccount:{agents.namespace}:reader" in line
    assert json.loads(line)


def _outputs(world: World, commands: str, directory: Path) -> list[str]:
    """Return the output of each block of commands, with the namespace as kubectl's own."""
    assert world.cluster.kubeconfig is not None
    env = {**world.cluster.env, "KUBECONFIG": str(directory / "kubeconfig")}
    shutil.copy(world.cluster.kubeconfig, env["KUBECONFIG"])
    choose = ["kubectl", "config", "set-context", "--current", f"--namespace={world.namespace}"]
    subprocess.run(choose, env=env, capture_output=True, check=True)
    done = subprocess.run(
        ["bash", "-c", commands],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return outputs(done.stdout)
