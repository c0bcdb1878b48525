"""Authorization servers that the metadata of a backend names."""

import ssl

import pytest

from mcpproxy.api.v1alpha1 import ClientCredentials
from mcpproxy.proxy.issuers.documents import IssuerError
from mcpproxy.proxy.upstream.credentials import token_server
from mcpproxy.proxy.upstream.credentials.token_server import TokenServerFinder, covers

URL = "https://mcp.example.com:8443/a/mcp"


@pytest.mark.parametrize(
    ("resource", "is_right"),
    [
        (URL, True),
        (f"{URL}/", True),
        ("https://MCP.example.com:8443/a", True),
        ("https://mcp.example.com:8443", True),
        ("https://mcp.example.com:8443/a/mc", False),
        ("https://mcp.example.com:8443/a/mcp/x", False),
        ("https://mcp.example.com/a/mcp", False),
        ("http://mcp.example.com:8443/a/mcp", False),
        ("https://mcp.example.com:8443@evil.example/a", False),
        ("https://u@mcp.example.com:8443/a", False),
        ("https://mcp.example.com:8443/a?x=1", False),
        ("https://mcp.example.com:x/", False),
        ("", False),
    ],
)
def test_a_resource_contains_the_urls_below_it(resource: str, is_right: bool) -> None:
    assert covers(resource, URL) is is_right


def _no_tls() -> ssl.SSLContext:
    raise AssertionError("a connection")


@pytest.mark.parametrize("address", ["169.254.169.254", "10.0.0.1", "127.0.0.1", "::1", "fd00::1"])
async def test_a_public_backend_names_no_server_with_a_private_address(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    import ipaddress

    async def lookup(host: str) -> list[token_server.Address]:
        own = host == "mcp.example.com"
        return [ipaddress.ip_address("93.184.216.34" if own else address)]

    monkeypatch.setattr(token_server, "_lookup", lookup)
    source = {"secretKeyRef": {"name": "s", "key": "k"}}
    client = ClientCredentials.model_validate({"clientId": "c", "clientSecretFrom": source})
    finder = TokenServerFinder("p", URL, client, _no_tls, _no_tls, {})
    with pytest.raises(IssuerError, match="without a public address"):
        await finder._checked(_no_tls, "https://metadata.example.com/x")
    await finder._checked(_no_tls, "https://mcp.example.com/.well-known")
