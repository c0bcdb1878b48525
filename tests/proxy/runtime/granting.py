"""An authorization server that grants tokens for backends, and a backend that demands them."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote_plus

import jwt
from cryptography.hazmat.primitives import serialization
from starlette.types import ASGIApp, Receive, Scope, Send

from tests.proxy.authentication.tokens import P256, RSA, Issuer
from tests.proxy.runtime.serving import serving

CLIENT = "mcpproxy"
SECRET = "s3cret of+the client"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
METADATA_AT = "/.well-known/oauth-authorization-server"
RESOURCE_AT = "/.well-known/oauth-protected-resource"

Answer = tuple[int, Any]
Form = dict[str, str]


@dataclass
class Grants:
    """An authorization server with one client."""

    url: str = ""
    lifetime: float | None = 600
    """Seconds; None leaves it out of responses."""
    metadata: dict[str, Any] = field(default_factory=dict)
    """Members of the metadata that differ from the usual ones."""
    refusals: dict[str, str] = field(default_factory=dict)
    """Errors by grant type."""
    secret: str = SECRET
    public_key: Any = field(default_factory=P256.public_key)
    claims: dict[str, Any] = field(default_factory=dict)
    """Further claims of tokens."""
    instead: ASGIApp | None = None
    """Answers all token requests."""
    forms: list[Form] = field(default_factory=list)
    """The parameters of all token requests."""
    times: list[float] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    delay: asyncio.Event | None = None
    """Token requests wait for it."""
    serial: int = 0
    audience: str = ""
    """The audience of ID-JAGs; by default the URL."""
    used: set[str] = field(default_factory=set)
    """The ID-JAGs that were used; each is good for one token."""

    def of_type(self, grant: str) -> list[Form]:
        """Return the requests of one grant type."""
        return [form for form in self.forms if form.get("grant_type") == grant]

    def spec(self, **more: Any) -> dict[str, Any]:
        """Return the fields of a client of this server with its secret in `secret/as/secret`."""
        source = {"secretKeyRef": {"name": "as", "key": "secret"}}
        return {
            "issuer": self.url,
            "insecureHttp": True,
            "clientId": CLIENT,
            "clientSecretFrom": source,
            **more,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        self.paths.append(path)
        if path == METADATA_AT:
            usual = {"issuer": self.url, "token_endpoint": f"{self.url}/token"}
            await reply(send, 200, {**usual, **self.metadata})
        elif path != "/token":
            await reply(send, 404, {})
        else:
            form = await read_form(receive)
            headers = {name.decode(): value.decode() for name, value in scope["headers"]}
            self.forms.append(form)
            self.times.append(time.monotonic())
            if self.delay is not None:
                await self.delay.wait()
            if self.instead is not None:
                await self.instead(scope, receive, send)
            else:
                await reply(send, *self._grant(form, headers))

    def _grant(self, form: Form, headers: dict[str, str]) -> Answer:
        if not self.knows(form, headers):
            return 401, {"error": "invalid_client", "error_description": "secret words"}
        grant = form.get("grant_type", "")
        if grant in self.refusals:
            return 400, {"error": self.refusals[grant]}
        if grant == "client_credentials":
            return 200, self._issued(CLIENT, form)
        if grant == JWT_BEARER:
            return self._grant_for_assertion(form)
        if grant != EXCHANGE or form.get("subject_token_type") != ACCESS_TOKEN:
            return 400, {"error": "unsupported_grant_type"}
        try:
            subject = jwt.decode(
                form["subject_token"],
                RSA.public_key(),
                ["RS256"],
                options={"verify_aud": False},
            )
        except jwt.InvalidTokenError:
            return 400, {"error": "invalid_grant"}
        acting = form.get("actor_token")
        actor = CLIENT
        if acting is not None:
            actor = jwt.decode(acting, options={"verify_signature": False})["sub"]
        return 200, self._issued(
            subject["sub"],
            form,
            act={"sub": actor},
            rights=subject.get("scope", ""),
            issued_token_type=ACCESS_TOKEN,
        )

    def _grant_for_assertion(self, form: Form) -> Answer:
        """Judge an ID-JAG as its draft demands of an authorization server."""
        try:
            grant, key = form["assertion"], RSA.public_key()
            claims = jwt.decode(grant, key, ["RS256"], audience=self.audience or self.url)
        except jwt.InvalidTokenError:
            return 400, {"error": "invalid_grant"}
        is_grant = jwt.get_unverified_header(grant)["typ"] == "oauth-id-jag+jwt"
        if not is_grant or claims["client_id"] != CLIENT or claims["jti"] in self.used:
            return 400, {"error": "invalid_grant"}
        self.used.add(claims["jti"])
        target = {"resource": claims.get("resource", ""), **form}
        return 200, self._issued(claims["sub"], target, act={"sub": CLIENT})

    def _issued(self, subject: str, form: Form, issued_token_type: str = "", **claims: Any) -> Any:
        self.serial += 1
        token = Issuer(self.url, form.get("resource", form.get("audience", ""))).token(
            subject,
            jti=str(self.serial),
            issued=time.time(),
            scope=form.get("scope", ""),
            **{**claims, **self.claims},
        )
        answer: dict[str, Any] = {"access_token": token, "token_type": "Bearer"}
        if self.lifetime is not None:
            answer["expires_in"] = self.lifetime
        return {**answer, "issued_token_type": issued_token_type} if issued_token_type else answer

    def knows(self, form: Form, headers: dict[str, str]) -> bool:
        """Return True if a request authenticates the client."""
        if "client_assertion" in form:
            try:
                claims = jwt.decode(
                    form["client_assertion"],
                    self.public_key,
                    ["ES256", "RS256", "PS256", "EdDSA"],
                    audience=self.url,
                    options={"require": ["exp", "iat", "jti", "iss", "sub"]},
                )
            except jwt.InvalidTokenError:
                return False
            return bool(claims["iss"] == claims["sub"] == CLIENT)
        if "client_secret" in form:
            return (form["client_id"], form["client_secret"]) == (CLIENT, self.secret)
        scheme, _, pair = headers.get("authorization", "").partition(" ")
        if scheme != "Basic":
            return False
        name, _, secret = base64.b64decode(pair).decode().partition(":")
        return (unquote_plus(name), unquote_plus(secret)) == (CLIENT, self.secret)


def pem(key: Any) -> str:
    """Return a private key in PEM."""
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return str(key.private_bytes(encoding, form, serialization.NoEncryption()).decode())


async def read_form(receive: Receive) -> Form:
    """Return the parameters of a request."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return dict(parse_qsl(body.decode(), keep_blank_values=True))


async def reply(
    send: Send, status: int, content: Any, *headers: tuple[bytes, bytes], kind: bytes = b""
) -> None:
    """Send a response with JSON, or with bytes of another type."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    lines = [(b"content-type", kind or b"application/json"), *headers]
    await send({"type": "http.response.start", "status": status, "headers": lines})
    await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def granting(**options: Any) -> AsyncIterator[Grants]:
    """Serve an authorization server."""
    grants = Grants(**options)
    async with serving(grants) as base:
        grants.url = base
        yield grants


@dataclass
class Demanding:
    """A backend that checks the token of each request, and whose it is."""

    app: ASGIApp
    grants: Grants
    url: str = ""
    resource: str = ""
    """Resource in the published metadata; by default the URL."""
    publishes: bool = True
    actor: str = ""
    """Required actor of tokens; empty for tokens of the proxy itself."""
    accepts: Callable[[dict[str, Any]], bool] = lambda claims: True
    key_of: Callable[[str], Any] = lambda token: RSA.public_key()
    """Returns the public key for a token."""
    calls: list[tuple[str, str]] = field(default_factory=list)
    """Subject of the token and argument `who` of each call."""
    refused: list[str] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    """All credentials that came, also those that were refused."""
    paths: list[str] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        self.paths.append(scope["path"])
        if scope["path"].startswith(RESOURCE_AT):
            known = scope["path"].removeprefix(RESOURCE_AT) == "/mcp" and self.publishes
            servers = {"authorization_servers": [self.grants.url]}
            content = {"resource": self.resource or self.url, **servers}
            await reply(send, 200 if known else 404, content)
            return
        value = dict(scope["headers"]).get(b"authorization", b"").decode()
        subject = self._subject(value.removeprefix("Bearer ")) if value else None
        self.tokens.add(value)
        if subject is None:
            self.refused.append(value)
            challenge = b'Bearer error="invalid_token"'
            await reply(send, 401, {}, (b"www-authenticate", challenge))
            return
        named = {**scope, "subject": subject}
        await self.app(named, self._observed(receive, subject), send)

    def _subject(self, token: str) -> str | None:
        try:
            claims = jwt.decode(
                token,
                self.key_of(token),
                ["RS256"],
                audience=self.url,
                issuer=self.grants.url,
                leeway=5,
            )
        except jwt.PyJWTError:
            return None
        actor = claims.get("act", {}).get("sub", "")
        allowed = actor == self.actor and self.accepts(claims)
        return str(claims["sub"]) if allowed else None

    def _observed(self, receive: Receive, subject: str) -> Callable[[], Awaitable[Any]]:
        body = b""

        async def observed() -> Any:
            nonlocal body
            message = await receive()
            body += message.get("body", b"")
            if message["type"] == "http.request" and not message.get("more_body") and body:
                content = json.loads(body)
                if content.get("method") == "tools/call":
                    who = content["params"].get("arguments", {}).get("who", "")
                    self.calls.append((subject, who))
                body = b""
            return message

        return observed


@asynccontextmanager
async def demanding(app: ASGIApp, grants: Grants, **options: Any) -> AsyncIterator[Demanding]:
    """Serve a backend that demands tokens of an authorization server."""
    backend = Demanding(app, grants, **options)
    async with serving(backend) as base:
        backend.url = f"{base}/mcp"
        yield backend
