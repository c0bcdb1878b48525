"""Keycloak on loopback with the realm of e2e/keycloak.

`python -m scripts.keycloak install URL` downloads it, and `… run RESOURCE` runs it.
It needs Java 17. `run` prints how to get a token and serves until it is interrupted.
"""

import hashlib
import json
import os
import shutil
import sys
import threading
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from scripts.conformance_servers import running
from scripts.demo_local import free_ports
from scripts.machine import ROOT
from scripts.npm import PEERS

VERSION: Final = "26.7.3"
_NAME: Final = f"keycloak-{VERSION}"
_SHA256: Final = "27a6535553c3cdcd083872ba40629efafb3475e3b758e0c6f691395561dd0f1f"
HOME: Final = PEERS / ".keycloak"
REALM: Final = ROOT / "e2e" / "keycloak" / "realm.json"
NAME: Final = "agents"
"""The realm."""
AGENT: Final = ("agent", "secret-of-the-agent")
ADMINISTRATOR: Final = ("admin", "password-of-the-administrator")
"""An account of this instance alone, which listens on loopback."""
TIMEOUT: Final = 30.0
START_SECONDS: Final = 400.0
"""A start takes half a minute on an idle machine."""


def available() -> bool:
    """True if Keycloak was downloaded and Java is installed."""
    return (HOME / _NAME / "bin" / "kc.sh").exists() and shutil.which("java") is not None


def install(url: str) -> None:
    """Download Keycloak from a URL, unless it is there.

    The file is `keycloak-quarkus-dist-VERSION.zip`, the artifact org.keycloak:keycloak-quarkus-dist
    of any Maven repository. Raise OSError, or ValueError for another file.
    """
    if (HOME / _NAME).exists():
        return
    HOME.mkdir(exist_ok=True)
    archive = HOME / "keycloak.zip"
    with urllib.request.urlopen(url, timeout=TIMEOUT) as response, archive.open("wb") as file:
        shutil.copyfileobj(response, file)
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != _SHA256:
        archive.unlink()
        raise ValueError(f"{url} has the SHA-256 {digest}, expected {_SHA256}")
    with zipfile.ZipFile(archive) as content:
        content.extractall(HOME)
    archive.unlink()


@dataclass(frozen=True)
class Keycloak:
    """A running instance."""

    origin: str

    @property
    def issuer(self) -> str:
        """The issuer of the realm."""
        return f"{self.origin}/realms/{NAME}"

    def token(self, client: tuple[str, str] = AGENT) -> str:
        """Return a token by client credentials."""
        form = {"grant_type": "client_credentials"}
        form |= {"client_id": client[0], "client_secret": client[1]}
        return _token(self.issuer, form)

    def _administrator(self) -> str:
        """Return a token of the administrator."""
        name, password = ADMINISTRATOR
        form = {"grant_type": "password", "client_id": "admin-cli"}
        form |= {"username": name, "password": password}
        return _token(f"{self.origin}/realms/master", form)

    def permit_exchange(self, client: tuple[str, str], audience: str) -> None:
        """Add a client that exchanges tokens of the agent for tokens with this audience."""
        token, mapper = self._administrator(), "oidc-audience-mapper"
        common = {"protocol": "openid-connect", "protocolMapper": mapper, "name": "for exchanges"}
        in_tokens = {"access.token.claim": "true", "id.token.claim": "false"}
        content = {
            "clientId": client[0],
            "secret": client[1],
            "serviceAccountsEnabled": True,
            "standardFlowEnabled": False,
            "attributes": {"standard.token.exchange.enabled": "true"},
            "protocolMappers": [
                {**common, "config": {"included.custom.audience": audience, **in_tokens}}
            ],
        }
        self._administer(token, "POST", "clients", content)
        # Keycloak exchanges only tokens of which the client is an audience.
        (agent,) = self._administer(token, "GET", f"clients?clientId={AGENT[0]}")
        path = f"clients/{agent['id']}/protocol-mappers/models"
        config = {"included.client.audience": client[0], **in_tokens}
        self._administer(token, "POST", path, {**common, "config": config})

    def rotate_keys(self) -> None:
        """Replace the keys that sign tokens with newer ones."""
        token = self._administrator()
        kind = "org.keycloak.keys.KeyProvider"
        old = self._administer(token, "GET", f"components?type={kind}")
        new = {
            "name": "rotated",
            "providerId": "rsa-generated",
            "providerType": kind,
            "config": {"priority": ["1000"], "keySize": ["2048"], "algorithm": ["RS256"]},
        }
        self._administer(token, "POST", "components", new)
        for component in old:
            if component["providerId"] == "rsa-generated":
                self._administer(token, "DELETE", f"components/{component['id']}")

    def _administer(self, token: str, method: str, path: str, content: Any = None) -> Any:
        request = urllib.request.Request(
            f"{self.origin}/admin/realms/{NAME}/{path}",
            None if content is None else json.dumps(content).encode(),
            {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            return json.loads(response.read() or b"null")


def _token(issuer: str, form: dict[str, str]) -> str:
    url = f"{issuer}/protocol/openid-connect/token"
    data = urllib.parse.urlencode(form).encode()
    with urllib.request.urlopen(url, data, timeout=TIMEOUT) as response:
        return str(json.load(response)["access_token"])


@contextmanager
def serving(resource: str, log: Path, port: int = 0) -> Iterator[Keycloak]:
    """Run Keycloak with the realm, whose tokens are for the resource. Raise NotServing.

    It keeps nothing: each instance begins with the realm as it is in the file.
    """
    free = free_ports(2)
    port, management = port or free[0], free[1]
    imported = HOME / _NAME / "data" / "import"
    imported.mkdir(parents=True, exist_ok=True)
    shutil.copy(REALM, imported / "realm.json")
    # The program of a release archive is not executable in every archive tool.
    command = ["bash", os.fspath(HOME / _NAME / "bin" / "kc.sh"), "start-dev", "--import-realm"]
    command += ["--http-host=127.0.0.1", f"--http-port={port}", "--db=dev-mem", "--cache=local"]
    command += [f"--http-management-port={management}", "--http-management-host=127.0.0.1"]
    variables = {
        "MCP_RESOURCE": resource,
        "KC_BOOTSTRAP_ADMIN_USERNAME": ADMINISTRATOR[0],
        "KC_BOOTSTRAP_ADMIN_PASSWORD": ADMINISTRATOR[1],
        "JAVA_OPTS_APPEND": "-XX:TieredStopAtLevel=1 -Xmx512m",
    }
    ready = f"/realms/{NAME}/.well-known/openid-configuration"
    with running(command, log, port, ready, patience=START_SECONDS, **variables):
        yield Keycloak(f"http://127.0.0.1:{port}")


def main(arguments: list[str]) -> int:
    """Install or run Keycloak."""
    if len(arguments) != 2 or arguments[0] not in ("install", "run"):
        sys.stderr.write("usage: python -m scripts.keycloak install URL | run RESOURCE\n")
        return 2
    if arguments[0] == "install":
        install(arguments[1])
        return 0
    with serving(arguments[1], HOME / "keycloak.log", port=8180) as keycloak:
        print(f"issuer: {keycloak.issuer}\na token of the agent: {keycloak.token()}")
        threading.Event().wait()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
