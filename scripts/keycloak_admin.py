"""Administration of a Keycloak realm: tokens of its clients, keys, and groups of its users."""

import json
import ssl
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

NAME: Final = "agents"
"""The realm of e2e/keycloak/realm.json."""
AGENT: Final = ("agent", "secret-of-the-agent")
ELSEWHERE: Final = ("elsewhere", "secret-of-elsewhere")
"""A client whose tokens have no audience of a resource."""
ADMINISTRATOR: Final = ("admin", "password-of-the-administrator")
"""An account of instances for tests alone."""
TIMEOUT: Final = 30.0
_KEYS: Final = "org.keycloak.keys.KeyProvider"


@dataclass(frozen=True)
class Keycloak:
    """A running instance."""

    origin: str
    authorities: Path | None = None
    """Certificates of the authorities for https; None stands for those of the system."""

    @property
    def issuer(self) -> str:
        """The issuer of the realm."""
        return f"{self.origin}/realms/{NAME}"

    def tls(self) -> ssl.SSLContext:
        """Return the TLS settings of its clients."""
        return ssl.create_default_context(cafile=self.authorities)

    def grant(self, realm: str = NAME, **form: str) -> dict[str, Any]:
        """Return the response of the token endpoint."""
        url = f"{self.origin}/realms/{realm}/protocol/openid-connect/token"
        return dict(self._send(urllib.request.Request(url, urllib.parse.urlencode(form).encode())))

    def token(self, client: tuple[str, str] = AGENT, **form: str) -> str:
        """Return a token by client credentials."""
        form |= {"client_id": client[0], "client_secret": client[1]}
        return str(self.grant(grant_type="client_credentials", **form)["access_token"])

    def administrator_token(self) -> str:
        """Return a token of the realm of administrators."""
        name, password = ADMINISTRATOR
        form = {"grant_type": "password", "client_id": "admin-cli"}
        issued = self.grant("master", **form, username=name, password=password)
        return str(issued["access_token"])

    def administer(self, method: str, path: str, content: Any = None) -> Any:
        """Return the response to a request to the administration of the realm."""
        token = self.administrator_token()
        request = urllib.request.Request(
            f"{self.origin}/admin/realms/{NAME}{path}",
            None if content is None else json.dumps(content).encode(),
            {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
            method=method,
        )
        return self._send(request)

    def permit_exchange(self, client: tuple[str, str], audience: str) -> None:
        """Add a client that exchanges tokens of the agent for tokens with this audience."""
        common = {
            "protocol": "openid-connect",
            "protocolMapper": "oidc-audience-mapper",
            "name": "for exchanges",
        }
        in_tokens = {"access.token.claim": "true", "id.token.claim": "false"}
        config = {"included.custom.audience": audience, **in_tokens}
        content = {
            "clientId": client[0],
            "secret": client[1],
            "serviceAccountsEnabled": True,
            "standardFlowEnabled": False,
            "attributes": {"standard.token.exchange.enabled": "true"},
            "protocolMappers": [{**common, "config": config}],
        }
        self.administer("POST", "/clients", content)
        # Keycloak exchanges only tokens of which the client is an audience.
        [agent] = self.administer("GET", f"/clients?clientId={AGENT[0]}")
        path = f"/clients/{agent['id']}/protocol-mappers/models"
        config = {"included.client.audience": client[0], **in_tokens}
        self.administer("POST", path, {**common, "config": config})

    def rotate_keys(self) -> None:
        """Replace the keys that sign tokens with newer ones."""
        old = self.administer("GET", f"/components?type={_KEYS}")
        new = {
            "name": "rotated",
            "providerId": "rsa-generated",
            "providerType": _KEYS,
            "config": {"priority": ["1000"], "keySize": ["2048"], "algorithm": ["RS256"]},
        }
        self.administer("POST", "/components", new)
        for component in old:
            if component["providerId"] in ("rsa", "rsa-generated"):
                self.administer("DELETE", f"/components/{component['id']}")

    def join(self, username: str, group: str, *, leave: bool = False) -> None:
        """Make a user a member of a group, or let the user leave it."""
        [user] = self.administer("GET", f"/users?exact=true&username={username}")
        [result] = self.administer("GET", f"/groups?exact=true&search={group}")
        method = "DELETE" if leave else "PUT"
        self.administer(method, f"/users/{user['id']}/groups/{result['id']}")

    def log_out(self, username: str) -> None:
        """End all sessions of a user."""
        [user] = self.administer("GET", f"/users?exact=true&username={username}")
        self.administer("POST", f"/users/{user['id']}/logout")

    def _send(self, request: urllib.request.Request) -> Any:
        with urllib.request.urlopen(request, timeout=TIMEOUT, context=self.tls()) as response:
            return json.loads(response.read() or b"null")
