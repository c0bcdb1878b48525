"""A proxy whose callers sign in with Keycloak, set up as docs/keycloak.md describes it."""

import base64
import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcp.shared.auth import OAuthClientInformationFull

from e2e import access, provider
from e2e.desktop import CLIENT, PASSWORD, USER, Desktop
from e2e.world import Object, World
from scripts.keycloak_admin import ADMINISTRATOR, Keycloak
from scripts.machine import ROOT
from tests.docs.blocks import blocks, outputs, script
from tests.peers.sdk_sign_in import Storage

PAGE = "keycloak.md"
NAME = "tools"
CALLBACK = "http://127.0.0.1:33418/callback"
HASTY = ("hasty", "secret-of-the-hasty")
"""A client whose tokens expire after 5 seconds."""
COMMAND_SECONDS = 200


@dataclass(frozen=True)
class Realm:
    """The namespace of Keycloak and the proxy, and the URL at which people reach the proxy."""

    world: World
    keycloak: Keycloak
    url: str
    directory: Path
    desktop: Desktop

    def condition(self, kind: str, name: str = NAME) -> Object:
        """A condition of an MCPProxy; empty while it is absent."""
        conditions = self.world.status(name).get("conditions", [])
        return next((item for item in conditions if item["type"] == kind), {})

    def statuses(self, token: str, requests: int = 8) -> set[int]:
        """The HTTP statuses of first requests with a token, over connections of their own."""
        return {access.initialize(self.url, token).status_code for _ in range(requests)}

    def refusal(self, token: str, url: str = "") -> str:
        """The challenge of the response to a token that is refused with 401."""
        response = access.initialize(url or self.url, token)
        assert response.status_code == 401, response.text
        return str(response.headers["WWW-Authenticate"])

    def grant_password(self) -> Object:
        """The tokens of a user who entrusts the password to a client."""
        form = {"grant_type": "password", "username": USER, "password": PASSWORD}
        client = {"client_id": HASTY[0], "client_secret": HASTY[1]}
        return self.keycloak.grant(**form, **client, scope="openid")

    def follow(self, kind: str, page: str = PAGE) -> list[str]:
        """Run the commands of one kind in a page; return the output of each block."""
        value = blocks(page, kind)
        assert value, kind
        done = subprocess.run(
            ["bash", "-c", _kcadm(self.world) + script(value)],
            cwd=ROOT,
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return outputs(done.stdout)

    def _environment(self) -> dict[str, str]:
        variables = {
            "KEYCLOAK": self.keycloak.origin,
            "MCP": self.url,
            "KUBECONFIG": str(self.directory / "kubeconfig"),
            "CURL_CA_BUNDLE": str(self.keycloak.authorities),
        }
        return {**self.world.cluster.env, **variables}

    def client(self) -> Storage:
        """The client of the page, as a program keeps it."""
        registered = {
            "client_id": CLIENT,
            "redirect_uris": [CALLBACK],
            "token_endpoint_auth_method": "none",
            "issuer": self.keycloak.issuer,
        }
        return Storage(client=OAuthClientInformationFull.model_validate(registered))


def _kcadm(world: World) -> str:
    """The administration's program, which runs in Keycloak's pod, already signed in."""
    name, password = ADMINISTRATOR
    inside = f"kubectl exec -i deploy/{provider.NAME} -- bash bin/kcadm.sh"
    sign_in = f"--server http://localhost:{provider.HTTP} --realm master --user {name}"
    return (
        f'kcadm.sh() {{ {inside} "$@"; }}\n'
        f"kcadm.sh config credentials {sign_in} --password {password} 2>/dev/null\n"
    )


def point_kubectl(world: World, directory: Path) -> None:
    """Write a kubeconfig whose namespace is the world's."""
    assert world.cluster.kubeconfig is not None
    target = directory / "kubeconfig"
    target.write_text(world.cluster.kubeconfig.read_text(encoding="utf-8"), encoding="utf-8")
    command = ["kubectl", "config", "set-context", "--current", f"--namespace={world.namespace}"]
    env = {**world.cluster.env, "KUBECONFIG": str(target)}
    subprocess.run(command, env=env, capture_output=True, check=True)


def create(make: Callable[[str], World], directory: Path) -> Realm:
    """Create a namespace at the level restricted with Keycloak and a URL for the proxy.

    The backends and Keycloak start together.
    """
    world = make("keycloak")
    world.cluster.kubectl(
        "label", "namespace", world.namespace, "pod-security.kubernetes.io/enforce=restricted"
    )
    point_kubectl(world, directory)
    world.kubectl("apply", "-f", "samples/demo-backends.yaml")
    selector = {"app.kubernetes.io/instance": NAME}
    port = provider.node_port(world, "entrance", selector, 8080)
    url = f"http://{provider.node_address(world)}:{port}/mcp"
    keycloak = provider.start(world, url, directory)
    return Realm(world, keycloak, url, directory, Desktop(directory / "home", keycloak))


def claims(token: str) -> Any:
    """The claims of a token, unverified."""
    payload = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
