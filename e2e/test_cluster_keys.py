"""The cluster signs the tokens of ServiceAccounts with a new key."""

import base64
import json
import os
import time
from collections.abc import Iterator

import pytest

from e2e import access, pods, provider
from e2e.access import AUDIENCE
from e2e.pods import PORT, long
from e2e.world import World, eventually
from scripts import machine
from scripts.cluster import Cluster
from scripts.machine import CommandFailed

NAME = "keys"
MANIFEST = "/etc/kubernetes/manifests/kube-apiserver.yaml"
PKI = "/etc/kubernetes/pki"
SIGNS, VERIFIES = "--service-account-signing-key-file", "--service-account-key-file"
REPLACED_SECONDS = 300

ADD = f"""
set -e
openssl genrsa -out {PKI}/sa-new.key 2048 2>/dev/null
openssl rsa -in {PKI}/sa-new.key -pubout -out {PKI}/sa-new.pub 2>/dev/null
sed -e 's#{SIGNS}=.*#{SIGNS}={PKI}/sa-new.key#' \\
    -e 's#\\( *- {VERIFIES}=\\).*#&\\n\\1{PKI}/sa-new.pub#' \\
    {MANIFEST} > /tmp/manifest
cp /tmp/manifest {MANIFEST}
"""
pytestmark = [long, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def world(spare: Cluster) -> Iterator[World]:
    """A namespace with a proxy of two pods that ServiceAccounts may use."""
    name = f"keys-{os.getpid()}"
    spare.kubectl("create", "namespace", name)
    result = World(spare, name)
    pods.tellers(result, "backend")
    accounts = {"serviceAccounts": {"audience": AUDIENCE}}
    hosts = [provider.node_address(result)]
    more = {"replicas": 2, "authentication": accounts, "allowedHosts": hosts}
    result.apply(pods.proxy(NAME, "backend", **more))
    result.wait_ready(NAME)
    eventually("both pods are Ready", lambda: pods.ready_pods(result, NAME) == 2)
    yield result
    result.remove()


def test_tokens_of_a_new_key_are_served_beside_those_of_the_old_one(world: World) -> None:
    # The API server, through which kubectl forwards ports, restarts.
    selector = {"app.kubernetes.io/instance": NAME}
    port = provider.node_port(world, "entrance", selector, PORT)
    url = f"http://{provider.node_address(world)}:{port}/mcp"

    def statuses(token: str) -> set[int]:
        return {access.initialize(url, token).status_code for _ in range(8)}

    before = access.token(world, "default")
    assert statuses(before) == {200}
    identities = _identities(world)
    _on_node(world, ADD)
    after = eventually("a new key signs", lambda: _newer(world, before), 180)
    begun = time.monotonic()
    eventually("the new key is known", lambda: statuses(after) == {200}, REPLACED_SECONDS)
    print(f"tokens of the new key were served after {time.monotonic() - begun:.0f} s")
    assert statuses(before) == {200}
    assert _identities(world) == identities


def _identities(world: World) -> set[str]:
    return {pod["metadata"]["uid"] for pod in pods.pods_of(world, NAME)}


def _on_node(world: World, script: str) -> None:
    """Run a script on the node; the kubelet restarts the API server if its manifest changes."""
    node = f"{world.cluster.name}-control-plane"
    machine.run(["docker", "exec", node, "bash", "-c", script], world.cluster.env)


def _newer(world: World, earlier: str) -> str:
    """A token of another key than an earlier one; empty while the API server has only that one."""
    try:
        token = access.token(world, "default")
    except CommandFailed:
        return ""
    return "" if _key_id(token) == _key_id(earlier) else token


def _key_id(token: str) -> str:
    header = token.split(".")[0]
    return str(json.loads(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4)))["kid"])
