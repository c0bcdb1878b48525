"""The Python SDK's client, which signs in by authorization code."""

import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import anyio
import httpx2
from mcp import Client
from mcp.client.auth import OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import (
    AuthorizationCodeResult,
    OAuthClientInformationFull,
    OAuthClientMetadata,
    OAuthToken,
)


@dataclass
class Storage:
    """The tokens and the registration that a client keeps, and the steps of its sign-in."""

    tokens: OAuthToken | None = None
    client: OAuthClientInformationFull | None = None
    steps: list[str] = field(default_factory=list)

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.steps.append("token")
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.steps.append("registered")
        self.client = client_info


def interactive(
    url: str, storage: Storage, browse: Callable[[str], str], redirect: str
) -> OAuthClientProvider:
    """A client of a server that sends its user to a provider.

    `browse` returns the URL to which the provider sends the user back from a URL.
    """
    opened: list[str] = []

    async def open_browser(authorization_url: str) -> None:
        storage.steps.append("browser")
        opened.append(authorization_url)

    async def returned() -> AuthorizationCodeResult:
        callback = await anyio.to_thread.run_sync(browse, opened[-1])
        query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(callback).query))
        return AuthorizationCodeResult(
            code=query["code"], state=query.get("state"), iss=query.get("iss")
        )

    metadata = OAuthClientMetadata.model_validate(
        {
            "client_name": "peers",
            "redirect_uris": [redirect],
            "token_endpoint_auth_method": "none",
        }
    )
    return OAuthClientProvider(url, metadata, storage, open_browser, returned)


async def list_tools(url: str, auth: httpx2.Auth, **options: Any) -> list[str]:
    """The names of the tools that a client sees; `options` are those of the HTTP client."""
    async with (
        httpx2.AsyncClient(auth=auth, timeout=30, **options) as http,
        Client(streamable_http_client(url, http_client=http)) as client,
    ):
        return sorted(tool.name for tool in (await client.list_tools()).tools)
