"""Proxies call their backends as themselves: as a ServiceAccount, and as a client of a provider."""

import os
import time
from collections.abc import Callable, Iterator

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from mcp import Client
from mcp.shared.exceptions import MCPError

from e2e import access, pods
from e2e.clients import call
from e2e.pods import PORT, manifest
from e2e.world import Object, World, eventually

NAME = "outgoing"
AUDIENCE = "guarded.example.dev"
KEY_AT = "/etc/issuer/key.pem"
SHORT, LONG = 40, 1800
"""Seconds for which tokens of the two clients are valid; each is renewed after half of them."""
DOWN_SECONDS = 300 if os.environ.get("E2E_LONG") else 45

pytestmark = pytest.mark.timeout(DOWN_SECONDS + 600)


@pytest.fixture(scope="module")
def backends(new_world: Callable[[str], World]) -> Iterator[World]:
    """A namespace with a server that demands tokens of the cluster for its audience."""
    world = new_world("guarded")

    def own_token(pod: Object) -> None:
        pod["automountServiceAccountToken"] = True

    pods.tellers(world, "cluster", program="guarded", arguments=(AUDIENCE,), change=own_token)
    yield world
    world.remove()


@pytest.fixture(scope="module")
def world(new_world: Callable[[str], World], backends: World) -> Iterator[World]:
    """A provider, a server that demands its tokens, and a proxy in front of both servers."""
    made = new_world("outgoing")
    made.apply(_secret("issuer-key", {"key.pem": _new_key()}))
    made.apply(_secret("client", {"secret": "secret-of-the-proxy"}))
    pods.tellers(made, "issuer", program="issuer", arguments=(KEY_AT,), change=_mount_key)
    issuer = access.issuer(made)
    resource = f"http://guarded.{made.namespace}.svc:{PORT}/mcp"
    pods.tellers(made, "guarded", program="guarded", arguments=(resource, issuer))
    made.apply(_proxy(issuer, resource, backends))
    made.wait_ready(NAME)
    yield made
    made.remove()


def _new_key() -> str:
    form = serialization.PrivateFormat.PKCS8
    key = generate_private_key(SECP256R1())
    encoded = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    return encoded.decode()


def _secret(name: str, content: dict[str, str]) -> Object:
    about = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}}
    return {**about, "stringData": content}


def _mount_key(pod: Object) -> None:
    directory = KEY_AT.rpartition("/")[0]
    pod["volumes"].append({"name": "key", "secret": {"secretName": "issuer-key"}})
    pod["containers"][0]["volumeMounts"].append({"name": "key", "mountPath": directory})


def _proxy(issuer: str, resource: str, backends: World) -> Object:
    secret = {"secretKeyRef": {"name": "client", "key": "secret"}}
    client = {"issuer": issuer, "insecureHttp": True, "clientId": "proxy"}

    def entry(name: str, lifetime: int) -> Object:
        scopes = [f"lifetime:{lifetime}"]
        granted = {**client, "clientSecretFrom": secret, "scopes": scopes}
        return {"name": name, "url": resource, "auth": {"clientCredentials": granted}}

    url = f"http://cluster.{backends.namespace}.svc:{PORT}/mcp"
    account = {"serviceAccount": {"audience": AUDIENCE}}
    spec = {
        "image": pods.IMAGE,
        "health": {"interval": "5s"},
        "backends": [
            {"name": "cluster", "url": url, "auth": account},
            entry("short", SHORT),
            entry("long", LONG),
        ],
    }
    return manifest("mcpproxy.dev/v1alpha1", "MCPProxy", NAME, spec)


def _backend(world: World, name: str) -> Object:
    entries = world.status(NAME).get("backends", [])
    entry: Object = next((entry for entry in entries if entry["name"] == name), {})
    return entry


def _is_healthy(world: World, name: str) -> bool:
    return _backend(world, name).get("state") == "Healthy"


@pytest.fixture
def url(world: World) -> Iterator[str]:
    """The endpoint, as reached from this machine."""
    with world.forwarded(f"service/{NAME}") as port:
        yield f"http://127.0.0.1:{port}/mcp"


async def test_a_backend_of_another_namespace_verifies_the_service_account_of_the_proxy(
    world: World, backends: World, url: str
) -> None:
    [pod] = pods.pods_of(world, NAME)
    account = pod["spec"].get("serviceAccountName", "default")
    async with Client(url) as client:
        answer = await call(client, "cluster_whoami")
    assert answer["result"] == f"system:serviceaccount:{world.namespace}:{account}"
    # The pod itself has no token for the API server, and the proxy needs no Secret.
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert _refused(backends, "another.example.dev", world)
    assert not _refused(backends, AUDIENCE, world)


def _refused(backends: World, audience: str, world: World) -> bool:
    """Return True if the backend refuses a token of the proxy's namespace with this audience."""
    token = access.token(world, "default", audience)
    with backends.forwarded("service/cluster", PORT) as port:
        answer = access.initialize_with(
            f"http://127.0.0.1:{port}/mcp", {"Authorization": f"Bearer {token}"}
        )
    assert answer.status_code in (200, 401), answer.text
    return answer.status_code == 401


async def test_the_proxy_uses_known_tokens_and_reports_a_provider_that_is_down(
    world: World, url: str
) -> None:
    for name in ("short", "long"):
        eventually(f"{name} is Healthy", lambda name=name: _is_healthy(world, name))  # type: ignore[misc]
    world.kubectl("scale", "deployment/issuer", "--replicas=0")
    world.kubectl("wait", "--for=delete", "pods", "-l", "app=issuer", "--timeout=60s")
    begun = time.monotonic()
    async with Client(url) as client:
        assert (await call(client, "short_whoami"))["result"] == "proxy"
        while time.monotonic() - begun < DOWN_SECONDS:
            assert (await call(client, "long_whoami"))["result"] == "proxy"
        assert _is_healthy(world, "long")
        with pytest.raises(MCPError, match="token"):
            await call(client, "short_whoami")
    eventually(
        "the state of the backend says why",
        lambda: _backend(world, "short").get("reason") == "TokenUnavailable",
        60,
    )
    assert access.issuer(world) in _backend(world, "short")["message"]
    assert _is_healthy(world, "long")
    world.kubectl("scale", "deployment/issuer", "--replicas=1")
    eventually("short is Healthy again", lambda: _is_healthy(world, "short"), 90)
    async with Client(url) as client:
        assert (await call(client, "short_whoami"))["result"] == "proxy"
