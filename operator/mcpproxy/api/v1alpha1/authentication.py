"""Models of `spec.authentication`. Import them from `api.v1alpha1`."""

from collections.abc import Iterator
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from mcpproxy.api.base import ApiModel, cel, cel_validation
from mcpproxy.api.kubernetes.scalars import BY_NAME, check_names_are_unique, find_duplicates
from mcpproxy.api.v1alpha1.access.urls import (
    Audience,
    BaseUrl,
    DocumentUrl,
    Scope,
    check_https,
    https_rule,
)
from mcpproxy.api.v1alpha1.references import KeyRef, ValueFrom
from mcpproxy.api.v1alpha1.tls import Tls

_NO_METHOD: Final = "needs at least one of jwt, serviceAccounts and apiKeys"
_ISSUER_ONCE: Final = "two entries have the issuer {}"

ClaimName = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]+$")]


class TokenClaims(ApiModel):
    """Claims in which an issuer names the caller. If the token has no claim of this name, the
    dots in the name separate the keys of nested objects, such as realm_access.roles."""

    subject: ClaimName | None = None
    """Claim that names the user or program. Sessions belong to it. Tokens without it are refused.
    Default: sub."""
    groups: ClaimName | None = None
    """Claim with the names of the subject's groups, a list or one name. Default: groups."""
    client: ClaimName | None = None
    """Claim with the OAuth client, such as azp or client_id. With it, sessions belong to the
    subject and the client together. Default: none."""
    scopes: ClaimName | None = None
    """Claim with the scopes, a list or a space-separated string. Default: scope, or scp in tokens
    without scope."""


class JwtIssuer(ApiModel):
    """An issuer of signed access tokens (JWT), such as an OpenID provider."""

    model_config = ConfigDict(json_schema_extra=cel(https_rule("issuer"), https_rule("jwksUrl")))
    issuer: BaseUrl
    """Issuer of the tokens, exactly as in their iss claim."""
    audiences: Annotated[list[Audience], Field(max_length=16)] | None = None
    """Accepted values of the aud claim, compared exactly. A token needs one of them. Default:
    publicUrl, compared as a URL; a token for another audience is never accepted."""
    jwks_url: DocumentUrl | None = None
    """URL of the key set (JWKS). Default: the jwks_uri in the issuer's metadata (RFC 8414, then
    OpenID Connect Discovery)."""
    ca_from: ValueFrom | None = None
    """CA certificates that are trusted for the issuer's servers, in PEM. Default:
    those of the system."""
    insecure_http: bool | None = None
    """true permits http for an issuer that is a Service of the cluster (a host such as
    keycloak.sso.svc) or runs on the same machine. Anyone who can change the traffic between the
    pods and that Service can then forge any identity. Default: false."""
    claims: TokenClaims | None = None
    """Claims that name the caller. Default: each field's own default."""

    @property
    def tls(self) -> Tls | None:
        """TLS settings for the issuer's servers; None for the defaults."""
        return None if self.ca_from is None else Tls(ca_from=self.ca_from)

    @property
    def claim_names(self) -> TokenClaims:
        """Claims that name the caller, without the defaults."""
        return self.claims or TokenClaims()

    @model_validator(mode="after")
    def _check_https(self) -> Self:
        for field, url in (("issuer", self.issuer), ("jwksUrl", self.jwks_url)):
            check_https(field, url, insecure_http=bool(self.insecure_http))
        return self


def _check_issuers_are_unique(issuers: list[JwtIssuer]) -> list[JwtIssuer]:
    duplicates = find_duplicates([entry.issuer for entry in issuers])
    if duplicates:
        raise ValueError(_ISSUER_ONCE.format(", ".join(duplicates)))
    return issuers


class ServiceAccountTokens(ApiModel):
    """Tokens of the cluster's ServiceAccounts, as projected volumes contain them. The operator
    gives the cluster's keys to the pods, which verify tokens without the API server."""

    audience: Audience
    """Audience of the tokens: the `audience` of the projected volume or of the TokenRequest. Use
    one that no other program accepts, such as tools.mcpproxy.dev."""


class HashFrom(ApiModel):
    """Source of the hash of an API key."""

    secret_key_ref: KeyRef
    """A key of a Secret. The kubelet mounts the Secret; the operator never reads it."""


class ApiKey(ApiModel):
    """An API key, which a client sends as `Authorization: Bearer KEY`."""

    name: Annotated[
        str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    ]
    """Unique name of the holder of the key."""
    hash_from: HashFrom
    """SHA-256 of the key, in hexadecimal. The key must be random and long, such as the output of
    `openssl rand -hex 32`, because the hash is not salted. A changed hash takes effect within about
    90 s, without a restart."""

    @property
    def reference(self) -> ValueFrom:
        """Reference to the hash."""
        return ValueFrom(secret_key_ref=self.hash_from.secret_key_ref)


class ResourceMetadata(ApiModel):
    """Additions to the published metadata of the endpoint (RFC 9728)."""

    scopes_supported: (
        Annotated[
            list[Scope], Field(max_length=64, json_schema_extra={"x-kubernetes-list-type": "set"})
        ]
        | None
    ) = None
    """Scopes that clients should request. They are also in the challenge of HTTP 401. Default:
    none."""
    documentation: DocumentUrl | None = None
    """URL of documentation for developers of clients. Default: none."""


class Authentication(ApiModel):
    """Authentication of the clients that call the proxy."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            cel_validation(
                "(has(self.jwt) && self.jwt.size() > 0) || has(self.serviceAccounts)"
                " || (has(self.apiKeys) && self.apiKeys.size() > 0)",
                _NO_METHOD,
            )
        )
    )
    mode: Literal["Required", "Optional"] | None = None
    """Required refuses requests without credentials with HTTP 401. Optional serves them as
    anonymous. Invalid credentials are refused in both modes. Default: Required."""
    jwt: (
        Annotated[
            list[JwtIssuer],
            Field(
                max_length=16,
                json_schema_extra={
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["issuer"],
                },
            ),
            AfterValidator(_check_issuers_are_unique),
        ]
        | None
    ) = None
    """Issuers whose access tokens are accepted. An entry without audiences needs publicUrl.
    Default: none."""
    service_accounts: ServiceAccountTokens | None = None
    """Accepts tokens of the cluster's ServiceAccounts. Default: none are accepted."""
    api_keys: (
        Annotated[
            list[ApiKey],
            Field(max_length=256, json_schema_extra=BY_NAME),
            AfterValidator(check_names_are_unique),
        ]
        | None
    ) = None
    """API keys that are accepted. Default: none."""
    resource_metadata: ResourceMetadata | None = None
    """Additions to the OAuth protected resource metadata. The proxy publishes it if publicUrl and
    jwt are set. Default: each field's own default."""

    @property
    def references(self) -> Iterator[ValueFrom]:
        """All referenced keys of Secrets and ConfigMaps."""
        for issuer in self.jwt or ():
            if issuer.ca_from is not None:
                yield issuer.ca_from
        for key in self.api_keys or ():
            yield key.reference

    @model_validator(mode="after")
    def _check_methods(self) -> Self:
        if not (self.jwt or self.service_accounts or self.api_keys):
            raise ValueError(_NO_METHOD)
        return self
