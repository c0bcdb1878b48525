"""`mcpproxy run` as an OAuth resource server: the kit in tests/resource_server finds no fault."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.conformance_servers import manifest_of, proxy, sample
from tests.resource_server import scenarios
from tests.resource_server.check import CHECKS, Outcome
from tests.resource_server.issuer_server import serving
from tests.resource_server.run import await_server, run
from tests.resource_server.target import Options, Target

pytestmark = pytest.mark.slow

PUBLIC_URL = "https://mcp.example.test/tools/mcp"
TOOL = "weather_list_cities"
BROWSER_ORIGIN = "https://pages.example"
START_SECONDS = 30.0
SCOPED_TOOL = "weather_compare_cities"
SCOPES = ("tools:read", "tools:compare")
ANYONE = {"any": True}
RULES = [
    {"name": "all", "who": ANYONE, "may": [{"tools": [TOOL], "prompts": ["*"]}]},
    {"name": "data", "who": ANYONE, "may": [{"resources": ["*"], "resourceTemplates": ["*"]}]},
    {"name": "compare", "who": ANYONE, "scopes": [*SCOPES], "may": [{"tools": [SCOPED_TOOL]}]},
]


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Target]:
    """The proxy in front of one backend; it trusts all issuers of the kit."""
    with serving(0, PUBLIC_URL) as issuers, sample("weather", tmp_path) as backend:
        scenarios.create(issuers)
        trusted = [{"issuer": url, "insecureHttp": True} for url in scenarios.trusted(issuers)]
        spec = {
            "publicUrl": PUBLIC_URL,
            "authentication": {
                "jwt": trusted,
                "resourceMetadata": {"scopesSupported": ["mcp:tools"]},
            },
            "authorization": {"rules": RULES},
            "audit": {"lists": True},
            "allowedOrigins": [BROWSER_ORIGIN],
            "backends": [{"name": "weather", "url": backend}],
        }
        with proxy(manifest_of(spec, tmp_path), tmp_path) as url:
            options = Options(
                url,
                PUBLIC_URL,
                browser_origin=BROWSER_ORIGIN,
                tool=TOOL,
                scoped_tool=SCOPED_TOOL,
                scoped_tool_scopes=SCOPES,
                slow=True,
            )
            target = Target(options, issuers)
            await_server(target, START_SECONDS)
            yield target


@pytest.mark.timeout(400)
def test_the_proxy_passes_the_checks_of_a_resource_server(target: Target) -> None:
    results = run(target, CHECKS.values())
    failed = {r.id: r.reason for r in results if r.outcome == Outcome.FAIL.value}
    assert not failed
    assert [r.id for r in results if r.outcome == Outcome.SKIP.value] == []
