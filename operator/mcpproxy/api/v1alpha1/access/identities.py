"""Rules on the authentication of callers and on what backends get of it."""

from collections.abc import Sequence
from typing import Final

from mcpproxy.api.base import cel_validation
from mcpproxy.api.v1alpha1.authentication import Authentication
from mcpproxy.api.v1alpha1.backend import BackendSpec
from mcpproxy.api.v1alpha1.references import PrincipalFrom

_ONE_IDENTITY: Final = "principalFrom and authentication are mutually exclusive; remove one of them"
_NO_AUDIENCE: Final = (
    "an entry of authentication.jwt without audiences needs publicUrl, which is then the audience"
)
_UNPUBLISHED: Final = (
    "authentication.resourceMetadata is published only with publicUrl and jwt; add them"
)
_TOKEN_PASSED_ON: Final = (
    "with authentication, forwardHeaders must not name Authorization, as a token for the proxy is"
    " not one for the backend; remove it, or set auth: {passthrough: true} on that backend"
)
_NOTHING_TO_EXCHANGE: Final = (
    "auth.tokenExchange requires authentication.jwt or authentication.serviceAccounts, because"
    " only verified tokens of callers are exchanged"
)
_NO_ASSERTION: Final = (
    "auth.idJag requires authentication.jwt, because only verified tokens of the callers' identity"
    " provider are exchanged"
)

AUTHENTICATION_RULES: Final = (
    cel_validation(
        "!has(self.principalFrom) || !has(self.authentication)", _ONE_IDENTITY, ".principalFrom"
    ),
    cel_validation(
        "has(self.publicUrl) || !has(self.authentication) || !has(self.authentication.jwt)"
        " || self.authentication.jwt.all(i, has(i.audiences) && i.audiences.size() > 0)",
        _NO_AUDIENCE,
        ".authentication",
    ),
    cel_validation(
        "!has(self.authentication) || !has(self.authentication.resourceMetadata)"
        " || (has(self.publicUrl) && has(self.authentication.jwt)"
        " && self.authentication.jwt.size() > 0)",
        _UNPUBLISHED,
        ".authentication",
    ),
    cel_validation(
        "!has(self.authentication) || self.backends.all(b, !has(b.forwardHeaders)"
        " || !b.forwardHeaders.exists(h, h.lowerAscii() == 'authorization')"
        " || (has(b.auth) && has(b.auth.passthrough) && b.auth.passthrough))",
        _TOKEN_PASSED_ON,
        ".authentication",
    ),
    cel_validation(
        "(has(self.authentication) && (has(self.authentication.serviceAccounts)"
        " || (has(self.authentication.jwt) && self.authentication.jwt.size() > 0)))"
        " || self.backends.all(b, !has(b.auth) || !has(b.auth.tokenExchange))",
        _NOTHING_TO_EXCHANGE,
        ".backends",
    ),
    cel_validation(
        "(has(self.authentication) && has(self.authentication.jwt)"
        " && self.authentication.jwt.size() > 0)"
        " || self.backends.all(b, !has(b.auth) || !has(b.auth.idJag))",
        _NO_ASSERTION,
        ".backends",
    ),
)


def check_authentication(
    authentication: Authentication | None,
    public_url: str | None,
    principal_from: PrincipalFrom | None,
    backends: Sequence[BackendSpec],
) -> None:
    """Raise ValueError if fields of a spec contradict its authentication."""
    accepts_tokens = authentication is not None and bool(
        authentication.jwt or authentication.service_accounts
    )
    accepts_assertions = authentication is not None and bool(authentication.jwt)
    for backend in backends:
        needs_assertion = backend.auth is not None and backend.auth.id_jag is not None
        if needs_assertion and not accepts_assertions:
            raise ValueError(f"backend {backend.name}: {_NO_ASSERTION}")
        if backend.is_called_for_callers and not accepts_tokens:
            raise ValueError(f"backend {backend.name}: {_NOTHING_TO_EXCHANGE}")
    if authentication is None:
        return
    issuers = authentication.jwt or []
    if principal_from is not None:
        raise ValueError(f"principalFrom: {_ONE_IDENTITY}")
    if public_url is None and not all(issuer.audiences for issuer in issuers):
        raise ValueError(f"authentication: {_NO_AUDIENCE}")
    if authentication.resource_metadata and not (public_url and issuers):
        raise ValueError(f"authentication: {_UNPUBLISHED}")
    for backend in backends:
        if backend.forwards_credentials and not backend.passes_credentials:
            raise ValueError(f"backend {backend.name}: {_TOKEN_PASSED_ON}")
