"""An identity provider that exchanges tokens of callers for ID-JAGs."""

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import jwt
from starlette.types import Receive, Scope, Send

from tests.proxy.authentication.tokens import RSA, Issuer
from tests.proxy.runtime.granting import (
    ACCESS_TOKEN,
    EXCHANGE,
    METADATA_AT,
    Demanding,
    Form,
    Grants,
    read_form,
    reply,
)
from tests.proxy.runtime.identities import Stage
from tests.proxy.runtime.issuing import IssuerServer
from tests.proxy.runtime.serving import Proxy, serving

ID_JAG = "urn:ietf:params:oauth:token-type:id-jag"
ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"
SECRET_AT_PROVIDER = "secret at the provider"


@dataclass
class Provider:
    """The token endpoint of the issuer of the callers."""

    issuer: IssuerServer
    url: str = ""
    own_metadata: bool = False
    """True if the provider is a separate issuer, whose keys another server publishes."""
    claims: dict[str, Any] = field(default_factory=dict)
    """Claims of ID-JAGs that differ from the requested ones."""
    header: dict[str, Any] = field(default_factory=dict)
    members: dict[str, Any] = field(default_factory=dict)
    """Members of responses that differ from the usual ones."""
    refusals: dict[str, str] = field(default_factory=dict)
    """Errors by subject."""
    client: Grants = field(default_factory=lambda: Grants(secret=SECRET_AT_PROVIDER))
    """The record of its client."""
    forms: list[Form] = field(default_factory=list)
    grants: list[str] = field(default_factory=list)
    """All ID-JAGs that were issued."""
    paths: list[str] = field(default_factory=list)
    status: int = 200

    @property
    def name(self) -> str:
        """The issuer identifier."""
        return self.url if self.own_metadata else self.issuer.url

    def spec(self, **more: Any) -> dict[str, Any]:
        """Return the fields of a client of this provider."""
        source = {"secretKeyRef": {"name": "idp", "key": "secret"}}
        fields = {"issuer": self.name, "insecureHttp": True, "clientId": "mcpproxy"}
        return {**fields, "clientSecretFrom": source, **more}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.paths.append(scope["path"])
        if scope["path"] == METADATA_AT and self.own_metadata:
            await reply(send, 200, {"issuer": self.url, "token_endpoint": f"{self.url}/token"})
            return
        if scope["path"] != "/token":
            await reply(send, 404, {})
            return
        form = await read_form(receive)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.forms.append(form)
        self.client.url = self.client.url or self.name
        if self.status != 200:
            await reply(send, self.status, {})
        elif not self.client.knows(form, headers):
            await reply(send, 401, {"error": "invalid_client"})
        else:
            await reply(send, *self._grant(form))

    def _grant(self, form: Form) -> tuple[int, Any]:
        known = form.get("subject_token_type") in (ACCESS_TOKEN, ID_TOKEN)
        if form["grant_type"] != EXCHANGE or form["requested_token_type"] != ID_JAG or not known:
            return 400, {"error": "invalid_request"}
        token, key = form["subject_token"], RSA.public_key()
        subject = jwt.decode(token, key, ["RS256"], options={"verify_aud": False})["sub"]
        if subject in self.refusals:
            return 400, {"error": self.refusals[subject], "error_description": "secret words"}
        claims: dict[str, Any] = {"client_id": "mcpproxy", "jti": f"jag-{len(self.grants)}"}
        if "resource" in form:
            claims["resource"] = form["resource"]
        grant = Issuer(self.name, form["audience"]).token(
            subject, {"typ": "oauth-id-jag+jwt", **self.header}, **{**claims, **self.claims}
        )
        self.grants.append(grant)
        usual = {"access_token": grant, "issued_token_type": ID_JAG, "token_type": "N_A"}
        return 200, {**usual, "expires_in": 300, "issued": time.time(), **self.members}


@asynccontextmanager
async def asserting(issuer: IssuerServer, **options: Any) -> AsyncIterator[Provider]:
    """Serve the token endpoint of an issuer."""
    provider = Provider(issuer, **options)
    async with serving(provider) as base:
        provider.url = base
        issuer.token_endpoint = provider
        issuer.metadata["token_endpoint"] = f"{issuer.url}/token"
        yield provider


class Enterprise:
    """A backend of another company, whose authorization server trusts the identity provider."""

    def __init__(self, stage: Stage, provider: Provider, stack: AsyncExitStack) -> None:
        self.stage = stage
        self.provider = provider
        self.stack = stack
        stage.mounted.write("secret/idp/secret", SECRET_AT_PROVIDER)

    async def backend(self, era: str = "dual", **options: Any) -> Demanding:
        """Start a backend whose tokens name the proxy as actor."""
        return await self.stage.backend(era, actor="mcpproxy", **options)

    async def proxy(
        self,
        backend: Demanding,
        client: dict[str, Any] | None = None,
        provider: dict[str, Any] | None = None,
        **more: Any,
    ) -> Proxy:
        """Start a proxy; `client` and `provider` are fields that differ from the usual ones."""
        fields = self.stage.grants.spec(**(client or {}))
        fields["identityProvider"] = self.provider.spec(**(provider or {}))
        return await self.stage.proxy(
            backend, {"idJag": fields}, **{**self.provider.issuer.spec(), **more}
        )
