"""The Python SDK's own OAuth client in the conformance suite's authorization scenarios.

Its results are what `mcpproxy run` with a sign-in is compared with: `scripts.conformance_identity`.
"""

import asyncio
import json
import os
import sys
import urllib.request
from contextlib import suppress
from urllib.parse import parse_qs, urlsplit

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
from mcp.shared.exceptions import MCPError
from pydantic import AnyUrl

METADATA = "https://conformance-test.local/client-metadata.json"
REDIRECT = "http://localhost:3030/callback"
SECONDS = 20.0


class Memory:
    """Storage of tokens for one run."""

    def __init__(self, client: OAuthClientInformationFull | None) -> None:
        self._client = client
        self._tokens: OAuthToken | None = None

    async def get_tokens(self) -> OAuthToken | None:
        """Return the tokens."""
        return self._tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        """Keep tokens."""
        self._tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        """Return the registered client."""
        return self._client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        """Keep a registered client."""
        self._client = client_info


class _Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        """Follow no redirect."""


class User:
    """A user whose authorization server redirects at once."""

    def __init__(self) -> None:
        self._location = ""

    async def open(self, url: str) -> None:
        """Visit the authorization endpoint."""

        def visit() -> str:
            try:
                urllib.request.build_opener(_Redirects).open(url, timeout=10)
            except urllib.error.HTTPError as error:
                return str(error.headers["location"])
            return ""

        self._location = await asyncio.to_thread(visit)

    async def result(self) -> AuthorizationCodeResult:
        """Return the parameters of the redirect."""
        query = {name: v[0] for name, v in parse_qs(urlsplit(self._location).query).items()}
        code, state = query["code"], query.get("state")
        return AuthorizationCodeResult(code=code, state=state, iss=query.get("iss"))


async def use_tools(url: str) -> None:
    """List and call tools; how a call fails is for the suite to judge."""
    context = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT") or "{}")
    client = None
    if context.get("client_id"):
        client = OAuthClientInformationFull(
            client_id=context["client_id"],
            client_secret=context.get("client_secret"),
            token_endpoint_auth_method="client_secret_basic",
            redirect_uris=[AnyUrl(REDIRECT)],
        )
    metadata = OAuthClientMetadata(client_name="sdk", redirect_uris=[AnyUrl(REDIRECT)])
    user = User()
    auth = OAuthClientProvider(url, metadata, Memory(client), user.open, user.result, METADATA)
    async with (
        httpx2.AsyncClient(auth=auth, timeout=SECONDS) as http,
        Client(streamable_http_client(url, http_client=http), mode="auto") as mcp,
    ):
        for tool in (await mcp.list_tools()).tools:
            with suppress(MCPError):
                await mcp.call_tool(tool.name, {})


if __name__ == "__main__":
    asyncio.run(asyncio.wait_for(use_tools(sys.argv[-1]), SECONDS))
