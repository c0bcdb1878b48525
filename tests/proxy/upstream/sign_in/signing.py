"""A server that needs a sign-in, its authorization server, and a user with a browser."""

import asyncio
import contextlib
import ssl
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from mcpproxy.proxy.upstream.sign_in.credentials import SignInCredentials
from mcpproxy.proxy.upstream.sign_in.settings import SignIn
from mcpproxy.proxy.upstream.sign_in.store import SignInFile

CHALLENGE = b"Bearer"


@dataclass
class Authority:
    """An authorization server at the origin of the server."""

    base: str = ""
    lifetime: int = 3600
    state: str | None = None
    """Replaces the state of the response."""
    error: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    refreshes: bool = True
    issues_refresh: bool = True
    """True if responses have a refresh token."""
    token_status: int = 200
    registered: list[dict[str, Any]] = field(default_factory=list)
    visits: list[dict[str, str]] = field(default_factory=list)
    forms: list[dict[str, str]] = field(default_factory=list)

    def app(self) -> Starlette:
        """Return the application."""
        paths = {
            "/.well-known/oauth-protected-resource/mcp": self._resource,
            "/.well-known/oauth-authorization-server": self._server,
            "/authorize": self._authorize,
        }
        posts = {"/register": self._register, "/token": self._token}
        routes = [Route(path, handler) for path, handler in paths.items()]
        return Starlette(routes=routes + [Route(p, h, methods=["POST"]) for p, h in posts.items()])

    async def _resource(self, _: Request) -> Response:
        return JSONResponse({"resource": f"{self.base}/mcp", "authorization_servers": [self.base]})

    async def _server(self, _: Request) -> Response:
        content = {
            "issuer": self.base,
            "authorization_endpoint": f"{self.base}/authorize",
            "token_endpoint": f"{self.base}/token",
            "registration_endpoint": f"{self.base}/register",
            "response_types_supported": ["code"],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["none", "client_secret_basic"],
        }
        return JSONResponse({**content, **self.metadata})

    async def _register(self, request: Request) -> Response:
        content = await request.json()
        self.registered.append(content)
        return JSONResponse({**content, "client_id": f"client-{len(self.registered)}"}, 201)

    async def _authorize(self, request: Request) -> Response:
        query = dict(request.query_params)
        self.visits.append(query)
        result = {"state": self.state or query["state"]}
        result |= {"error": self.error} if self.error else {"code": "the-code"}
        return RedirectResponse(f"{query['redirect_uri']}?{urlencode(result)}", 302)

    async def _token(self, request: Request) -> Response:
        form = dict(parse_qsl((await request.body()).decode()))
        self.forms.append(form)
        if form["grant_type"] == "refresh_token" and not self.refreshes:
            return JSONResponse({"error": "invalid_grant"}, 400)
        if self.token_status != 200:
            return JSONResponse({}, self.token_status)
        content = {"access_token": f"access-token-{len(self.forms)}", "token_type": "Bearer"}
        content |= {"refresh_token": f"r{len(self.forms)}"} if self.issues_refresh else {}
        return JSONResponse({**content, "expires_in": self.lifetime})


@dataclass
class User:
    """The user at the browser, who follows redirects at once."""

    answers: bool = True
    opened: list[str] = field(default_factory=list)

    def open(self, url: str) -> bool:
        """Stand in for `webbrowser.open`."""
        self.opened.append(url)
        if self.answers:
            # The redirect may be refused; the sign-in then goes on.
            with contextlib.suppress(OSError):
                urllib.request.urlopen(url, timeout=10).read()
        return True


def _no_tls() -> ssl.SSLContext:
    raise AssertionError("a connection over TLS")


def credentials(base: str, directory: Path, settings: SignIn | None = None) -> SignInCredentials:
    """The credentials of the user for the server."""
    settings, url = settings or SignIn(), f"{base}/mcp"
    file = SignInFile(directory, "server", url, settings.client_id)
    return SignInCredentials("server", url, settings, file, _no_tls, {})


async def signed_in(source: SignInCredentials) -> bytes:
    """The header value after a request without a token was refused."""
    assert source.challenged(401, CHALLENGE, None)
    line = await source.obtain()
    assert line is not None
    return line[1]


async def visit(port_url: str, host: str | None = None) -> bytes:
    """The response to a GET request at a URL, with a Host header."""
    parts = urlsplit(port_url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    target = f"{parts.path}?{parts.query}"
    writer.write(f"GET {target} HTTP/1.1\r\nHost: {host or parts.netloc}\r\n\r\n".encode())
    try:
        return await reader.read()
    finally:
        writer.close()
