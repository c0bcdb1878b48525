"""A proxy that trusts the certified OpenID Connect provider of npm's `oidc-provider`."""

import base64
import json
import os
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx2

from scripts import npm
from scripts.conformance_servers import MCPPROXY, manifest_of, running, sample
from scripts.demo_local import free_ports
from tests.peers.world import NODE

AGENT: Final = ("agent", "secret-of-the-agent")
SCOPE: Final = "mcp:tools"
TOOLS: Final = [
    "weather_compare_cities",
    "weather_convert_temperature",
    "weather_get_forecast",
    "weather_list_cities",
    "weather_survey",
]


@dataclass(frozen=True)
class Protected:
    """A proxy that trusts a provider."""

    url: str
    issuer: str

    def token(self, **parameters: str) -> str:
        """A token of the agent by client credentials."""
        form = {"grant_type": "client_credentials", "scope": SCOPE, **parameters}
        basic = base64.b64encode(":".join(AGENT).encode()).decode()
        request = urllib.request.Request(
            f"{self.issuer}/token",
            urllib.parse.urlencode(form).encode(),
            {"Authorization": f"Basic {basic}"},
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            return str(json.load(response)["access_token"])

    async def status(self, token: str) -> int:
        """The status of a first request with a token."""
        params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": _INFO}
        message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
        headers = {
            "Accept": "application/json, text/event-stream",
            "Authorization": f"Bearer {token}",
        }
        async with httpx2.AsyncClient() as client:
            response = await client.post(self.url, json=message, headers=headers)
            return response.status_code


_INFO: Final = {"name": "peers", "version": "1"}


@contextmanager
def serving_protected(logs: Path) -> Iterator[Protected]:
    """The proxy in front of one server; its clients need tokens of the provider."""
    npm.install()
    provider, port, admin = free_ports(3)
    url, issuer = f"http://127.0.0.1:{port}/mcp", f"http://127.0.0.1:{provider}"
    with ExitStack() as stack:
        script = os.fspath(npm.PEERS / "provider.mjs")
        ready = "/.well-known/openid-configuration"
        command = [NODE, script, str(provider), url]
        stack.enter_context(running(command, logs / "provider.log", provider, ready))
        spec = {
            "publicUrl": url,
            "authentication": {
                "jwt": [{"issuer": issuer, "insecureHttp": True}],
                "resourceMetadata": {"scopesSupported": [SCOPE]},
            },
            "backends": [{"name": "weather", "url": stack.enter_context(sample("weather", logs))}],
        }
        serve = [MCPPROXY, "run", *manifest_of(spec, logs), "--transport", "http"]
        serve += ["--port", str(port), "--admin-port", str(admin), "--log-level", "warning"]
        stack.enter_context(running(serve, logs / "proxy.log", admin, "/readyz"))
        yield Protected(url, issuer)
