"""A proxy that trusts the issuers of the resource server kit, as the kit's target."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from mcpproxy.limits.access import CREDENTIALS
from scripts.conformance_servers import manifest_of, proxy
from tests.resource_server import scenarios
from tests.resource_server.issuer_server import serving
from tests.resource_server.run import await_server
from tests.resource_server.target import Options, Target

SAMPLE: Final = "weather"
"""The demo server behind the proxy."""
START_SECONDS: Final = 30.0
_PUBLIC_URL: Final = "https://mcp.example.test/tools/mcp"
_TOOL: Final = "weather_list_cities"
_ORIGIN: Final = "https://pages.example"
_SCOPED_TOOL: Final = "weather_compare_cities"
_SCOPES: Final = ("tools:read", "tools:compare")
_ANYONE: Final = {"any": True}
_RULES: Final = [
    {"name": "all", "who": _ANYONE, "may": [{"tools": [_TOOL], "prompts": ["*"]}]},
    {"name": "data", "who": _ANYONE, "may": [{"resources": ["*"], "resourceTemplates": ["*"]}]},
    {"name": "compare", "who": _ANYONE, "scopes": [*_SCOPES], "may": [{"tools": [_SCOPED_TOOL]}]},
]


@contextmanager
def trusting_proxy(
    backend: str, directory: Path, seconds: float = START_SECONDS
) -> Iterator[Target]:
    """Run `mcpproxy` in front of the sample at a URL. Yield it as a target.

    Raise Failed if it serves no good token within these seconds of its start.
    """
    with serving(0, _PUBLIC_URL) as issuers:
        scenarios.create(issuers)
        trusted = [{"issuer": url, "insecureHttp": True} for url in scenarios.trusted(issuers)]
        spec: dict[str, Any] = {
            "publicUrl": _PUBLIC_URL,
            "authentication": {
                "jwt": trusted,
                "resourceMetadata": {"scopesSupported": ["mcp:tools"]},
            },
            "authorization": {"rules": _RULES},
            "audit": {"lists": True},
            "allowedOrigins": [_ORIGIN],
            "backends": [{"name": SAMPLE, "url": backend}],
        }
        with proxy(manifest_of(spec, directory), directory) as url:
            options = Options(
                url,
                _PUBLIC_URL,
                token_bytes=CREDENTIALS.value,
                browser_origin=_ORIGIN,
                tool=_TOOL,
                scoped_tool=_SCOPED_TOOL,
                scoped_tool_scopes=_SCOPES,
                slow=True,
            )
            target = Target(options, issuers)
            await_server(target, seconds)
            yield target
