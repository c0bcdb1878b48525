"""An issuer of tokens as a real server, and proxies that accept its tokens."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from tests.proxy.authentication.tokens import RSA, Issuer, jwk, key_set
from tests.proxy.runtime.serving import serving

PUBLIC_URL = "https://mcp.example.com/tools"
METADATA_PATH = "/.well-known/oauth-protected-resource"
METADATA = f"https://mcp.example.com{METADATA_PATH}/tools"
KEYS_PATH = "/keys"


@dataclass
class IssuerServer:
    """A server with the metadata and the keys of an issuer."""

    url: str = ""
    metadata_at: str = "/.well-known/openid-configuration"
    metadata: dict[str, Any] = field(default_factory=dict)
    """Members of the metadata that differ from the usual ones."""
    keys: bytes = field(default_factory=lambda: key_set(jwk(RSA)))
    status: int = 200
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    """More headers of the key set."""
    paths: list[str] = field(default_factory=list)
    """Paths of the requests that came."""
    token_endpoint: ASGIApp | None = None

    @property
    def issuer(self) -> Issuer:
        """Issuer of tokens with the URL of this server."""
        return Issuer(self.url, PUBLIC_URL)

    def token(self, subject: str = "ann", **claims: Any) -> str:
        """A token as an Authorization header has it."""
        return f"Bearer {self.issuer.token(subject, **claims)}"

    def spec(self, **more: Any) -> dict[str, Any]:
        """Fields of a spec that accepts the tokens."""
        entry = {"issuer": self.url, "insecureHttp": True, **more}
        return {"publicUrl": PUBLIC_URL, "authentication": {"jwt": [entry]}}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        self.paths.append(path)
        if path == "/token" and self.token_endpoint is not None:
            await self.token_endpoint(scope, receive, send)
        elif path == KEYS_PATH:
            await _answer(send, self.status, self.keys, self.headers)
        elif path == self.metadata_at:
            usual = {"issuer": self.url, "jwks_uri": f"{self.url}{KEYS_PATH}"}
            await _answer(send, 200, json.dumps({**usual, **self.metadata}).encode(), [])
        else:
            await _answer(send, 404, b"{}", [])


async def _answer(send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    json_type = (b"content-type", b"application/json")
    await send({"type": "http.response.start", "status": status, "headers": [json_type, *headers]})
    await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def issuing(path: str = "", **options: Any) -> AsyncIterator[IssuerServer]:
    """Serve an issuer whose URL has this path."""
    server = IssuerServer(**options)
    async with serving(server) as base:
        server.url = f"{base}{path}"
        yield server
