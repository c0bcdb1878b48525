"""An authenticator whose clock and keys a test sets."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from mcpproxy.api.v1alpha1 import JwtIssuer
from mcpproxy.proxy.authentication.admissions import Admission
from mcpproxy.proxy.authentication.authenticator import Authenticator
from mcpproxy.proxy.authentication.mounted_keys import ApiKeyHashes
from mcpproxy.proxy.authentication.refusals import Challenges
from mcpproxy.proxy.authentication.remote_keys import RemoteKeys
from mcpproxy.proxy.authentication.token_rules import AudienceRule, JwtIdentities, TokenIssuer
from mcpproxy.proxy.authentication.tokens import NO_ID_TOKENS, IdTokens
from mcpproxy.proxy.authentication.verification_keys import KeyListener
from mcpproxy.proxy.core.identity import Identity
from mcpproxy.proxy.http1.errors import HttpError
from mcpproxy.proxy.http1.server.request import RequestHead
from mcpproxy.proxy.issuers.documents import IssuerError
from tests.proxy.authentication.tokens import (
    ISSUER,
    NOW,
    PUBLIC_URL,
    RSA,
    Issuer,
    jwk,
    key_set,
)

METADATA = "https://mcp.example.com/.well-known/oauth-protected-resource/tools"


def head(*authorizations: str) -> RequestHead:
    """The head of a request with these Authorization headers."""
    lines = [(b"host", b"localhost")]
    lines += [(b"authorization", text.encode()) for text in authorizations]
    return RequestHead("POST", "/mcp", lines)


@dataclass
class Stage:
    """An authenticator of the tokens of one issuer."""

    audiences: tuple[str, ...] = ()
    claims: dict[str, str] | None = None
    anonymous: bool = False
    api_keys: ApiKeyHashes | None = None
    id_tokens: IdTokens = NO_ID_TOKENS
    now: float = NOW
    document: bytes | None = field(default_factory=lambda: key_set(jwk(RSA)))
    """The key set that the issuer publishes; None while it can't be reached."""
    fetches: int = 0
    gate: asyncio.Event | None = None
    """An issuer that answers only once this is set."""
    changes: int = 0
    revoked: list[tuple[str, str | None]] = field(default_factory=list)
    issuer: Issuer = field(default_factory=lambda: Issuer(now=NOW))

    def __post_init__(self) -> None:
        entry: dict[str, Any] = {"issuer": ISSUER}
        if self.claims is not None:
            entry["claims"] = self.claims
        self.listener = KeyListener(self._changed, lambda *of: self.revoked.append(of))
        self.keys = RemoteKeys(ISSUER, self._fetch, lambda: self.now, self.listener)
        issuer = TokenIssuer(
            lambda: ISSUER,
            self.keys,
            AudienceRule(self.audiences, PUBLIC_URL),
            JwtIdentities(JwtIssuer.model_validate(entry)),
        )
        self.authenticator = Authenticator(
            [issuer],
            self.api_keys,
            Challenges(METADATA, ["mcp:tools"]),
            allows_anonymous=self.anonymous,
            id_tokens=self.id_tokens,
            now=lambda: self.now,
        )

    def _changed(self) -> None:
        self.changes += 1

    async def _fetch(self) -> bytes:
        self.fetches += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.document is None:
            raise IssuerError("no connection")
        return self.document

    async def admit(self, token: str, network: str = "net") -> Admission:
        """Authenticate a request with this token, with newly fetched keys if necessary."""
        return await self.authenticator.admit_later(head(f"Bearer {token}"), network)

    async def identify(self, token: str) -> Identity:
        """The identity that a token stands for."""
        return (await self.admit(token)).identity

    async def refusal(self, token: str, network: str = "net") -> tuple[int, str]:
        """Status and message of the response to a token that is refused."""
        try:
            await self.admit(token, network)
        except HttpError as error:
            return error.status, str(error)
        raise AssertionError("the token is accepted")

    def result(self, name: str) -> int:
        """Return the number of authentications with this result."""
        return sum(count for (_, result), count in self.authenticator.results() if result == name)
