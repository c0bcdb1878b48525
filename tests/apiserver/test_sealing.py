"""The documented command that replaces a sealing key, at a real API server."""

import base64
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from mcpproxy import desired
from mcpproxy.api import constants, manifest
from mcpproxy.desired import OwnerRef
from tests.apiserver.server import ApiServer
from tests.docs.blocks import blocks, script
from tests.support.builders import a_manifest

pytestmark = pytest.mark.apiserver
OLD = bytes(range(32))


@pytest.mark.skipif(shutil.which("jq") is None, reason="the command needs jq")
def test_the_documented_command_replaces_the_key_and_nothing_else(
    apiserver: ApiServer, namespace: str, tmp_path: Path
) -> None:
    argument = a_manifest()
    argument["metadata"] = {"name": "tools", "namespace": namespace}
    created = apiserver.kubectl("create", "-o", "json", "-f", "-", input=json.dumps(argument))
    owner = OwnerRef("tools", json.loads(created.stdout)["metadata"]["uid"])
    secret = desired.sealing_secret.build(manifest.parse(argument), owner, OLD)
    assert apiserver.kubectl("create", "-f", "-", input=json.dumps(secret)).returncode == 0
    own = tmp_path / "kubeconfig"
    shutil.copy(apiserver.kubeconfig, own)
    path = f"{apiserver.kubectl_path.parent}:{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "KUBECONFIG": str(own)}
    chosen = ["kubectl", "config", "set-context", "--current", f"--namespace={namespace}"]
    subprocess.run(chosen, env=env, check=True, timeout=30, capture_output=True)
    before = _secret(apiserver, namespace, owner)
    commands = script(blocks("operations.md", "run: sealing"))
    subprocess.run(["bash", "-c", commands], env=env, check=True, timeout=30, capture_output=True)
    after = _secret(apiserver, namespace, owner)
    data = {key: base64.b64decode(value) for key, value in after.pop("data").items()}
    assert (data["previous"], len(data["current"])) == (OLD, desired.sealing_secret.KEY_BYTES)
    assert data["current"] != OLD
    for result in (before, after):
        result.pop("data", None)
        result["metadata"] = {
            key: result["metadata"][key] for key in ("name", "uid", "labels", "ownerReferences")
        }
    assert after == before


def _secret(apiserver: ApiServer, namespace: str, owner: OwnerRef) -> dict[str, dict[str, str]]:
    name = constants.sealing_secret_name(owner.name, owner.uid)
    answer = apiserver.kubectl("get", "secret", name, "-n", namespace, "-o", "json")
    assert answer.returncode == 0, answer.stderr
    document: dict[str, dict[str, str]] = json.loads(answer.stdout)
    return document
