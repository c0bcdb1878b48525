"""A reference server with the issuers that it trusts."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tests.resource_server import scenarios
from tests.resource_server.issuer_server import serving
from tests.resource_server.reference.credentials import TOKEN_BYTES
from tests.resource_server.reference.endpoint import SCOPED_TOOL, SCOPES
from tests.resource_server.reference.rules import Rules
from tests.resource_server.reference.server import Configuration, running
from tests.resource_server.target import Options, Target

PUBLIC_URL: Final = "https://mcp.example.test/tools/mcp"
"""Differs from the address in scheme, host, port and path, as behind an ingress."""
REFETCH_SECONDS: Final = 1.0
TIMEOUT: Final = 5.0
SLOW_SECONDS: Final = 7.0
"""More than a client waits, and than the reference server does."""


@contextmanager
def reference(*broken: str) -> Iterator[Target]:
    """Run a server of which these rules are broken. Yield it as a target."""
    with serving(0, PUBLIC_URL, "mcp") as issuers:
        scenarios.create(issuers)
        issuers.slow_seconds = SLOW_SECONDS
        trusted = tuple(scenarios.trusted(issuers))
        configuration = Configuration(
            PUBLIC_URL, trusted, Rules.without(broken), refetch_seconds=REFETCH_SECONDS
        )
        with running(configuration) as url:
            options = Options(
                url,
                PUBLIC_URL,
                refetch_seconds=REFETCH_SECONDS,
                revocation_seconds=REFETCH_SECONDS,
                timeout=TIMEOUT,
                scoped_tool=SCOPED_TOOL,
                scoped_tool_scopes=SCOPES,
                token_bytes=TOKEN_BYTES,
                browser_origin="https://pages.example",
                slow=True,
            )
            yield Target(options, issuers)
