"""Identity Assertion JWT Authorization Grants (ID-JAG, draft-ietf-oauth-identity-assertion-authz-
grant): a grant of the callers' identity provider, and the token of the backend for it."""

import base64
import binascii
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from mcpproxy.limits.tokens import TOKEN_SIZE
from mcpproxy.proxy.core.errors import NoCallerToken
from mcpproxy.proxy.core.identity import CLOCK_SKEW, Identity
from mcpproxy.proxy.issuers.documents import IssuerResponse
from mcpproxy.proxy.upstream.credentials.access_tokens import (
    AccessToken,
    json_content,
    refusal,
    unavailable,
    unusable,
)
from mcpproxy.proxy.upstream.credentials.client_proof import Form
from mcpproxy.proxy.upstream.credentials.token_endpoint import TokenEndpoint
from mcpproxy.proxy.upstream.credentials.token_requests import (
    ACCESS_TOKEN,
    EXCHANGE,
    TYPE,
    lifetime_of,
    resource_of,
    scope_form,
)
from mcpproxy.proxy.upstream.credentials.token_server import TokenServer

if TYPE_CHECKING:
    from mcpproxy.api.v1alpha1 import IdJag

ID_JAG: Final = f"{TYPE}id-jag"
ID_TOKEN: Final = f"{TYPE}id_token"
JWT_BEARER: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
MEDIA_TYPE: Final = "oauth-id-jag+jwt"
_REFUSED: Final = "the identity provider refused an ID-JAG"
_NOT_OF_PROVIDER: Final = (
    "the backend is called on behalf of the caller, whose credentials are not a token of"
    " auth.idJag.identityProvider; use a token of that identity provider"
)


class AssertionGrants:
    """Tokens of one backend for the callers whose identity provider permits it.

    Grants are not kept: each is used for one token, of the caller whose token was exchanged.
    """

    def __init__(
        self,
        client: "IdJag",
        url: str,
        provider: TokenEndpoint,
        server: TokenEndpoint,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`url` is that of the backend. `provider` issues grants and `server` tokens for them.
        `now` returns the seconds since the epoch."""
        self._client = client
        self._url = url
        self._provider = provider
        self._server = server
        self._now = now

    async def exchange(self, subject: Identity) -> AccessToken:
        """Return the token for a caller. Raise BackendError."""
        self._check_subject(subject)
        server = await self._server.server()
        wanted = self._target(server)
        audience = self._client.audience or server.issuer

        def grant_form(provider: TokenServer) -> Form:
            return {
                "grant_type": EXCHANGE,
                "requested_token_type": ID_JAG,
                "subject_token": subject.token,
                "subject_token_type": self._subject_type,
                "audience": audience,
                **wanted,
            }

        def parse(response: IssuerResponse, sent: float, provider: TokenServer) -> str:
            return self._parse(response, audience, wanted.get("resource"), provider.issuer)

        grant = await self._provider.request_as(grant_form, parse)
        form = {"grant_type": JWT_BEARER, "assertion": grant, **wanted}
        return await self._server.request(lambda server: form, lifetime_of(subject))

    @property
    def _subject_type(self) -> str:
        kind = self._client.identity_provider.subject_token_type
        return ID_TOKEN if kind == "IdToken" else ACCESS_TOKEN

    def _check_subject(self, subject: Identity) -> None:
        """Raise NoCallerToken for a token of another issuer, which is none of the provider's
        business."""
        issuer = self._client.identity_provider.issuer
        if subject.method != "jwt" or issuer not in (None, subject.issuer):
            raise NoCallerToken(_NOT_OF_PROVIDER).unsent()

    def _target(self, server: TokenServer) -> Form:
        resource = resource_of(self._client, self._url, server)
        return {**({"resource": resource} if resource else {}), **scope_form(self._client)}

    def _parse(
        self, response: IssuerResponse, audience: str, resource: str | None, issuer: str
    ) -> str:
        """Return the ID-JAG in a response. Raise BackendError, or ServerFailed."""
        if response.status != 200:
            raise refusal(response, _REFUSED)
        content = json_content(response)
        grant = content.get("access_token")
        if content.get("issued_token_type") != ID_JAG or not isinstance(grant, str):
            raise unusable(response, f"the response has no token of the type {ID_JAG}")
        # A fault of one grant concerns its caller alone.
        if len(grant) > TOKEN_SIZE.value:
            TOKEN_SIZE.record()
            raise unavailable(
                f"{response.url}: the ID-JAG has more than {TOKEN_SIZE.value} characters"
            )
        problem = find_problem(
            grant,
            audience=audience,
            client=self._client.client_id,
            resource=resource,
            issuer=issuer,
            now=self._now(),
        )
        if problem is not None:
            raise unavailable(f"{response.url}: the ID-JAG {problem}")
        return grant


def find_problem(
    grant: str, *, audience: str, client: str, resource: str | None, issuer: str, now: float
) -> str | None:
    """Return why a grant is not the one that was requested; None if it is.

    The signature is for the authorization server to verify. `issuer` is empty if it is not known,
    and `resource` is None if none was requested.
    """
    parts = grant.split(".")
    header, claims = (_decode(part) for part in parts[:2]) if len(parts) == 3 else (None, None)
    if header is None or claims is None:
        return "is not a signed JWT"
    kind = header.get("typ")
    if not isinstance(kind, str) or kind.lower().removeprefix("application/") != MEDIA_TYPE:
        return f"does not have the type {MEDIA_TYPE} in its header"
    expires = claims.get("exp")
    if isinstance(expires, bool) or not isinstance(expires, int | float):
        return "has no time of expiration"
    if expires <= now - CLOCK_SKEW:
        return "has expired"
    if claims.get("aud") not in (audience, [audience]):
        return f"is not for the audience {audience} alone"
    if claims.get("client_id") != client:
        return f"is not for the client {client} of the backend's authorization server"
    if resource is not None and claims.get("resource", resource) not in (resource, [resource]):
        return f"is not for the resource {resource} alone"
    return f"is not one of the issuer {issuer}" if issuer and claims.get("iss") != issuer else None


def _decode(part: str) -> dict[str, Any] | None:
    """Return the object in a part of a JWT; None if there is none."""
    try:
        text = base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
        content = msgspec.json.decode(text)
    except (binascii.Error, ValueError, msgspec.DecodeError, RecursionError):
        return None
    return content if isinstance(content, dict) else None
