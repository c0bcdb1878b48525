"""`kubectl mcpproxy` as a plugin of kubectl, with the permissions of its user."""

import json
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from e2e import pods
from e2e.world import World

NAME = "plugged"
PROGRAMS = Path(sys.executable).parent
"""The folder of `kubectl-mcpproxy`, which kubectl finds by its name."""
SECRET = "plugin-story-secret"


@pytest.fixture(scope="module")
def plugged(new_world: Callable[[str], World]) -> Iterator[World]:
    """A proxy that is Ready, and sends a header from a Secret."""
    world = new_world("plugin")
    pods.tellers(world, "teller")
    world.kubectl("create", "secret", "generic", "token", f"--from-literal=header={SECRET}")
    manifest = pods.proxy(NAME, "teller", replicas=1)
    reference = {"secretKeyRef": {"name": "token", "key": "header"}}
    headers = [{"name": "X-Token", "valueFrom": reference}]
    manifest["spec"]["backends"][0]["headers"] = headers
    world.apply(manifest)
    world.wait_ready(NAME)
    yield world
    world.remove()


def _plugin(world: World, *arguments: str) -> "subprocess.CompletedProcess[bytes]":
    """The result of `kubectl mcpproxy`."""
    place = ("-n", world.namespace, "--context", f"kind-{world.cluster.name}")
    env = {**os.environ, **world.cluster.env, "KUBECONFIG": str(world.cluster.kubeconfig)}
    env["PATH"] = f"{PROGRAMS}:{env['PATH']}"
    command = ["kubectl", "mcpproxy", *arguments, *place]
    return subprocess.run(command, env=env, capture_output=True, timeout=120, check=False)


def test_status_shows_the_operator_and_the_proxy(plugged: World) -> None:
    everything = _plugin(plugged, "status")
    assert everything.returncode == 0, everything.stderr
    operator = rb"Operator mcpproxy-system/mcpproxy-operator: [12] ready"
    assert re.search(operator, everything.stdout)
    single = _plugin(plugged, "status", NAME)
    assert single.returncode == 0, single.stderr
    for text in (b"teller  Healthy", b"Ready", b"Running"):
        assert text in single.stdout


def test_list_and_call_reach_the_tools_of_a_proxy(plugged: World) -> None:
    listed = _plugin(plugged, "list", NAME, "tools", "-o", "json")
    assert listed.returncode == 0, listed.stderr
    (tool,) = json.loads(listed.stdout)["tools"]
    called = _plugin(plugged, "call", NAME, tool["name"])
    assert called.returncode == 0, called.stderr
    # The tool returns the header that the proxy sent to it.
    assert called.stdout.decode().strip() == SECRET


def test_a_report_has_status_and_logs_and_no_value_of_a_secret(
    plugged: World, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle.tar.gz"
    written = _plugin(plugged, "report", NAME, "-o", str(bundle))
    assert written.returncode == 0, written.stderr
    with tarfile.open(bundle) as archive:
        files = {member.name: archive.extractfile(member) for member in archive.getmembers()}
        texts = {name: file.read() for name, file in files.items() if file is not None}
    whole = b"\n".join(texts.values())
    assert SECRET.encode() not in whole
    assert NAME.encode() in whole
    assert any("log" in name for name in texts)


def test_a_proxy_that_does_not_exist_is_named(plugged: World) -> None:
    missing = _plugin(plugged, "status", "absent")
    assert missing.returncode == 1
    assert b"absent" in missing.stderr
    assert missing.stderr.count(b"\n") == 1
