"""The command that replaces a sealing key, as it stands in its page."""

import base64
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mcpproxy import desired
from mcpproxy.api import constants
from mcpproxy.proxy import sealing_keys
from tests.docs.blocks import blocks, script
from tests.support.builders import OWNER, an_mcpproxy
from tests.support.kubelet import Volume

OLD = bytes(range(32))
KUBECTL = """#!/bin/bash
case "$1 $2" in
  "get mcpproxies/tools") [ "$3 $4" = "-o jsonpath={.metadata.uid}" ] && echo -n UID ;;
  "get secret") [ "$3 $4 $5" = "NAME -o json" ] && cat STORED ;;
  "replace -f") cat > STORED.new && mv STORED.new STORED ;;
  *) false ;;
esac
"""
"""An API server of one MCPProxy and one Secret."""


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """The Secret as the operator creates it, and a kubectl that knows it alone."""
    for program in ("bash", "jq", "openssl"):
        if shutil.which(program) is None:
            pytest.skip(f"the command needs {program}")
    result = tmp_path / "secret.json"
    result.write_text(json.dumps(desired.sealing_secret.build(an_mcpproxy(), OWNER, OLD)))
    name = constants.sealing_secret_name(OWNER.name, OWNER.uid)
    kubectl = tmp_path / "bin" / "kubectl"
    kubectl.parent.mkdir()
    text = KUBECTL.replace("UID", OWNER.uid).replace("NAME", name)
    kubectl.write_text(text.replace("STORED", str(result)))
    kubectl.chmod(0o755)
    return result


def _run(directory: Path) -> None:
    env = {**os.environ, "PATH": f"{directory / 'bin'}:{os.environ['PATH']}"}
    commands = script(blocks("operations.md", "run: sealing"))
    subprocess.run(["bash", "-c", commands], env=env, check=True, timeout=30, capture_output=True)


def _mounted(stored: Path, directory: Path) -> list[bytes]:
    """The keys that a pod reads where this Secret is mounted."""
    secret: dict[str, Any] = json.loads(stored.read_text())
    volume = Volume(directory)
    volume.write({key: base64.b64decode(value) for key, value in secret["data"].items()})
    return sealing_keys.read_keys(directory)


def test_a_key_is_replaced_by_the_documented_command_and_the_old_one_is_kept(
    stored: Path, tmp_path: Path
) -> None:
    before = json.loads(stored.read_text())
    assert _mounted(stored, tmp_path / "first") == [OLD]
    _run(tmp_path)
    new, previous = _mounted(stored, tmp_path / "second")
    assert previous == OLD
    assert len(new) == desired.sealing_secret.KEY_BYTES
    assert new != OLD
    after = json.loads(stored.read_text())
    assert {**after, "data": {}} == {**before, "data": {}}
    _run(tmp_path)
    assert _mounted(stored, tmp_path / "third")[1] == new
