"""Keycloak as the issuer: `python -m scripts.keycloak install` downloads it."""

import base64
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from scripts import keycloak
from scripts.conformance_servers import MCPPROXY, manifest_of, running, sample
from scripts.demo_local import free_ports
from scripts.keycloak_admin import ELSEWHERE, Keycloak

pytestmark = [pytest.mark.peers, pytest.mark.keycloak, pytest.mark.timeout(600)]
ROTATION_SECONDS = 60.0


@dataclass(frozen=True)
class Protected:
    """A proxy that trusts the realm."""

    url: str
    keycloak: Keycloak

    async def tools(self, token: str) -> list[str]:
        """Return the names of the tools that the holder of a token sees."""
        headers = {"Authorization": f"Bearer {token}"}
        async with (
            httpx2.AsyncClient(headers=headers, timeout=30) as http,
            Client(streamable_http_client(self.url, http_client=http)) as client,
        ):
            return sorted(tool.name for tool in (await client.list_tools()).tools)

    def status(self, token: str) -> int:
        """Return the status of a request with a token; 400 is that of an accepted one."""
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        return httpx2.post(self.url, content=b"{}", headers=headers).status_code


@pytest.fixture(scope="module")
def protected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Protected]:
    """The proxy in front of one server, with the realm as the only issuer."""
    keycloak.check()
    logs = tmp_path_factory.mktemp("keycloak")
    port, admin = free_ports(2)
    url = f"http://127.0.0.1:{port}/mcp"
    with ExitStack() as stack:
        realm = stack.enter_context(keycloak.serving(url, logs / "keycloak.log"))
        spec = {
            "publicUrl": url,
            "authentication": {"jwt": [{"issuer": realm.issuer, "insecureHttp": True}]},
            "backends": [{"name": "weather", "url": stack.enter_context(sample("weather", logs))}],
        }
        serve = [MCPPROXY, "run", *manifest_of(spec, logs), "--transport", "http"]
        serve += ["--port", str(port), "--admin-port", str(admin), "--log-level", "warning"]
        stack.enter_context(running(serve, logs / "proxy.log", admin, "/readyz"))
        yield Protected(url, realm)


def _claims(token: str) -> dict[str, object]:
    payload = token.split(".")[1]
    content: dict[str, object] = json.loads(
        base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
    )
    return content


async def test_an_agent_of_the_realm_gets_tools(protected: Protected) -> None:
    token = protected.keycloak.token()
    claims = _claims(token)
    assert claims["groups"] == ["ops"]
    assert protected.url in str(claims["aud"])
    assert "weather_get_forecast" in await protected.tools(token)


def test_a_token_of_the_realm_for_another_audience_is_refused(protected: Protected) -> None:
    assert protected.status(protected.keycloak.token(ELSEWHERE)) == 401


def test_a_rotation_of_the_realms_keys_is_followed_within_a_minute(protected: Protected) -> None:
    before = protected.keycloak.token()
    assert protected.status(before) == 400
    protected.keycloak.rotate_keys()
    began = time.monotonic()
    after = protected.keycloak.token()
    _poll(lambda: protected.status(after) == 400, began)
    _poll(lambda: protected.status(before) == 401, began)


def _poll(holds: Callable[[], bool], began: float) -> None:
    while not holds():
        assert time.monotonic() - began < ROTATION_SECONDS
        time.sleep(0.5)
