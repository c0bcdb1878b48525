"""Models of `spec.backends[].auth`. Import them from `api.v1alpha1`."""

import re
from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from mcpproxy.api import constants
from mcpproxy.api.base import ApiModel, cel, cel_validation
from mcpproxy.api.kubernetes.quantities import PositiveDuration
from mcpproxy.api.v1alpha1.access.urls import (
    Audience,
    BaseUrl,
    DocumentUrl,
    Scope,
    check_https,
    https_rule,
)
from mcpproxy.api.v1alpha1.references import ValueFrom
from mcpproxy.api.v1alpha1.tls import Tls

_ONE_SERVER: Final = "issuer and tokenUrl are mutually exclusive; remove one of them"
_NAMED_SERVER: Final = (
    "tokenExchange requires issuer or tokenUrl, because a backend must not choose who receives the"
    " tokens of callers"
)
_ONE_SECRET: Final = "requires exactly one of clientSecretFrom and privateKeyFrom"
_ONE_ACTOR: Final = "actor requires exactly one of client: true and serviceAccount"
_NAMED_PROVIDER: Final = (
    "identityProvider requires issuer or tokenUrl, because a backend must not choose who receives"
    " the tokens of callers"
)
_NAMED_AUDIENCE: Final = (
    "idJag with tokenUrl requires audience, the issuer identifier of that authorization server"
)
_ONE_IDENTITY: Final = (
    "auth permits one of passthrough, clientCredentials, tokenExchange, idJag and serviceAccount"
)
_SERVER_RULES: Final = (
    https_rule("issuer"),
    https_rule("tokenUrl"),
    cel_validation("!has(self.issuer) || !has(self.tokenUrl)", _ONE_SERVER),
    cel_validation("has(self.clientSecretFrom) != has(self.privateKeyFrom)", _ONE_SECRET),
)

SubjectTokenType = Literal["AccessToken", "IdToken"]
ClientId = Annotated[str, Field(min_length=1, max_length=1024, pattern=r"^[\x20-\x7e]+$")]


_API_SERVER: Final = re.compile(
    r"(https?://)?kubernetes(\.default(\.svc(\.[a-z0-9.-]+)?)?)?(:[0-9]+)?/?|api", re.IGNORECASE
)
"""Common audiences of API servers (`--api-audiences`, by default the issuer)."""


class ServiceAccountToken(ApiModel):
    """A token of the ServiceAccount of the pods, which the kubelet mounts and renews. There is no
    Secret, and the token is valid only for its audience."""

    audience: Audience
    """Audience of the token, which the receiver must require."""

    @field_validator("audience")
    @classmethod
    def _check_audience(cls, audience: str) -> str:
        if _API_SERVER.fullmatch(audience):
            raise ValueError(
                "is an audience of the API server, at which the backend could use the token;"
                " name the backend instead"
            )
        return audience


class OAuthClient(ApiModel):
    """The proxy as a client of an authorization server."""

    issuer: BaseUrl | None = None
    """Issuer identifier of the authorization server. Its metadata (RFC 8414, or OpenID Connect
    Discovery) names the token endpoint. Default: the server that the metadata of the backend names
    (RFC 9728), unless tokenUrl is set."""
    token_url: DocumentUrl | None = None
    """URL of the token endpoint, for a server without metadata. The secret is then sent in the
    Authorization header. Default: none."""
    ca_from: ValueFrom | None = None
    """CA certificates that are trusted for the authorization server, in PEM.
    Default: those of the system."""
    insecure_http: bool | None = None
    """true permits http for an authorization server that is a Service of the cluster (a host such
    as keycloak.sso.svc) or runs on the same machine. Anyone who can read the traffic between the
    pods and that Service gets the client's secret and the tokens. Default: false."""
    client_id: ClientId
    """Identifier of the proxy as a client."""
    client_secret_from: ValueFrom | None = None
    """Secret of the client. Exactly one of clientSecretFrom and privateKeyFrom is required.
    Default: none."""
    private_key_from: ValueFrom | None = None
    """Private key of the client, in PEM: RSA, EC on P-256, P-384 or P-521, or Ed25519. The proxy
    signs an assertion with it (private_key_jwt, RFC 7523). Exactly one of clientSecretFrom and
    privateKeyFrom is required. Default: none."""
    key_id: (
        Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[\x21-\x7e]+$")] | None
    ) = None
    """Identifier of the private key in the header of assertions (kid). Default: none."""

    @model_validator(mode="after")
    def _check_server(self) -> Self:
        insecure = bool(self.insecure_http)
        check_https("issuer", self.issuer, insecure_http=insecure)
        check_https("tokenUrl", self.token_url, insecure_http=insecure)
        if self.issuer is not None and self.token_url is not None:
            raise ValueError(_ONE_SERVER)
        if (self.client_secret_from is None) == (self.private_key_from is None):
            raise ValueError(_ONE_SECRET)
        return self

    @property
    def tls(self) -> Tls | None:
        """TLS settings for the authorization server; None for the defaults."""
        return None if self.ca_from is None else Tls(ca_from=self.ca_from)

    @property
    def references(self) -> Iterator[ValueFrom]:
        """All referenced keys of Secrets and ConfigMaps."""
        for source in (self.ca_from, self.client_secret_from, self.private_key_from):
            if source is not None:
                yield source


class TokenClient(OAuthClient):
    """The proxy as a client, and the parameters of its token requests."""

    scopes: (
        Annotated[
            list[Scope], Field(max_length=64, json_schema_extra={"x-kubernetes-list-type": "set"})
        ]
        | None
    ) = None
    """Scopes to request. Default: none."""
    audience: Audience | None = None
    """The audience parameter of token requests, for servers that require it. Default: none."""
    resource: (
        Annotated[str, Field(max_length=1024, pattern=r"^([a-z][a-z0-9+.-]*:[^\x00-\x20\x7f#]+)?$")]
        | None
    ) = None
    """The resource parameter of token requests (RFC 8707): the URI for which the token is valid. An
    empty string "" omits the parameter, for servers that refuse it. Default: the URL of the
    backend."""

    def with_target(self, **target: Any) -> "TokenClient":
        """Return the same client, whose token requests have other parameters."""
        own = {name: getattr(self, name) for name in TokenClient.model_fields}
        return TokenClient(**{**own, **target})


class ClientCredentials(TokenClient):
    """Tokens that the proxy requests as a client of an authorization server, for itself. The
    backend sees this one identity for all callers."""

    model_config = ConfigDict(json_schema_extra=cel(*_SERVER_RULES))


class Actor(ApiModel):
    """Identity of the proxy in exchanged tokens, which the claim act names."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            cel_validation(
                "(has(self.client) && self.client) != has(self.serviceAccount)", _ONE_ACTOR
            )
        )
    )
    client: bool | None = None
    """true sends a token that the proxy gets by client credentials. Exactly one of client: true and
    serviceAccount is required. Default: false."""
    service_account: ServiceAccountToken | None = None
    """Sends a token of the ServiceAccount of the pods. Exactly one of client: true and
    serviceAccount is required. Default: none."""

    @model_validator(mode="after")
    def _check_one_actor(self) -> Self:
        if bool(self.client) == (self.service_account is not None):
            raise ValueError(_ONE_ACTOR)
        return self


class TokenExchange(TokenClient):
    """Tokens that an authorization server issues in exchange for those of callers (RFC 8693), so
    that the backend is called on behalf of each caller. Callers need a token that
    spec.authentication accepts from an issuer or from the cluster."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            *_SERVER_RULES,
            cel_validation("has(self.issuer) || has(self.tokenUrl)", _NAMED_SERVER),
        )
    )
    actor: Actor | None = None
    """Token of the proxy that is sent as actor_token. Default: none; the server knows the proxy as
    the client that requests the exchange."""

    @model_validator(mode="after")
    def _check_server_is_named(self) -> Self:
        if self.issuer is None and self.token_url is None:
            raise ValueError(_NAMED_SERVER)
        return self

    @property
    def actor_client(self) -> TokenClient:
        """The client of the actor's tokens, which are for the server and not for the backend."""
        return self.with_target(resource="", audience=None, scopes=None)


class IdentityProvider(OAuthClient):
    """The proxy as a client of the identity provider of the callers."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            *_SERVER_RULES,
            cel_validation("has(self.issuer) || has(self.tokenUrl)", _NAMED_PROVIDER),
        )
    )
    subject_token_type: SubjectTokenType | None = None
    """Type of the tokens of callers. AccessToken is for identity providers that exchange access
    tokens for ID-JAGs. IdToken is the type in the draft: callers send an ID token whose audience is
    clientId, so list clientId in authentication.jwt[].audiences. Only with issuer, the proxy
    accepts ID tokens with nonce, at_hash, c_hash or typ ID, if clientId is their only audience.
    Default: AccessToken."""

    @model_validator(mode="after")
    def _check_provider_is_named(self) -> Self:
        if self.issuer is None and self.token_url is None:
            raise ValueError(_NAMED_PROVIDER)
        return self


class IdJag(TokenClient):
    """Tokens that the authorization server of the backend issues on behalf of each caller, because
    the identity provider of the callers permits it. The provider exchanges the token of a caller
    for an Identity Assertion JWT Authorization Grant (ID-JAG), and the server issues a token for
    that grant. In MCP, this is enterprise-managed authorization. Callers need a token of the
    identity provider that spec.authentication accepts."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            *_SERVER_RULES,
            cel_validation("!has(self.tokenUrl) || has(self.audience)", _NAMED_AUDIENCE),
        )
    )
    audience: Audience | None = None
    """Audience of the ID-JAG: the issuer identifier of the authorization server of the backend.
    Default: the issuer of that server; required with tokenUrl."""
    identity_provider: IdentityProvider
    """Identity provider of the callers, and the proxy as its client."""

    @model_validator(mode="after")
    def _check_audience_is_known(self) -> Self:
        if self.token_url is not None and self.audience is None:
            raise ValueError(_NAMED_AUDIENCE)
        return self

    @property
    def own_client(self) -> TokenClient:
        """The client of the proxy's own tokens, which need no grant and therefore no audience."""
        return self.with_target(audience=None)

    @property
    def references(self) -> Iterator[ValueFrom]:
        yield from super().references
        yield from self.identity_provider.references


class BackendAuth(ApiModel):
    """The identity with which the proxy calls the backend."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            cel_validation(
                "(has(self.passthrough) && self.passthrough ? 1 : 0)"
                " + (has(self.clientCredentials) ? 1 : 0) + (has(self.tokenExchange) ? 1 : 0)"
                " + (has(self.idJag) ? 1 : 0) + (has(self.serviceAccount) ? 1 : 0) <= 1",
                _ONE_IDENTITY,
            )
        )
    )
    passthrough: bool | None = None
    """true permits forwardHeaders to send the client's Authorization to the backend although the
    proxy authenticates clients (spec.authentication). MCP forbids servers from accepting or
    forwarding tokens that were not issued for them. A backend that gets a user's token can use it
    as that user, at the proxy and at every other server that accepts the token. Use it only if the
    tokens are issued for the backend as well. Default: false."""
    client_credentials: ClientCredentials | None = None
    """Tokens that the proxy requests as a client of an authorization server. Default: none."""
    token_exchange: TokenExchange | None = None
    """Tokens that the proxy gets on behalf of each caller. Default: none."""
    id_jag: IdJag | None = None
    """Tokens that the proxy gets on behalf of each caller by an ID-JAG of their identity provider.
    Default: none."""
    service_account: ServiceAccountToken | None = None
    """Tokens of the ServiceAccount of the pods. Default: none."""
    refresh_before: PositiveDuration | None = None
    """Time before the expiration of a token at which the next one is requested, while the token is
    still in use. It is at most half the lifetime of the token. Default: 60s."""

    @model_validator(mode="after")
    def _check_one_identity(self) -> Self:
        own = (self.client_credentials, self.service_account)
        identities = (*own, self.token_exchange, self.id_jag)
        if sum(map(bool, (self.passthrough, *identities))) > 1:
            raise ValueError(_ONE_IDENTITY)
        return self

    @property
    def token_client(self) -> TokenClient | None:
        """The proxy as a client of an authorization server, if the backend's tokens need one."""
        return self.client_credentials or self.token_exchange or self.id_jag

    @property
    def clients(self) -> list[OAuthClient]:
        """The proxy as a client of each authorization server that is asked for tokens."""
        provider = None if self.id_jag is None else self.id_jag.identity_provider
        return [client for client in (self.token_client, provider) if client is not None]

    @property
    def is_for_callers(self) -> bool:
        """True if the backend is called on behalf of each caller."""
        return self.token_exchange is not None or self.id_jag is not None

    @property
    def sets_authorization(self) -> bool:
        """True if the proxy sends its own tokens, or tokens that it obtained for callers."""
        return self.token_client is not None or self.service_account is not None

    @property
    def references(self) -> Iterator[ValueFrom]:
        """All referenced keys of Secrets and ConfigMaps."""
        if self.token_client is not None:
            yield from self.token_client.references

    @property
    def mounted_tokens(self) -> dict[str, str]:
        """Audiences of the mounted tokens of the ServiceAccount, by the names of their files."""
        tokens = {}
        if self.service_account is not None:
            tokens[constants.TOKEN_FILE] = self.service_account.audience
        actor = self.token_exchange.actor if self.token_exchange is not None else None
        if actor is not None and actor.service_account is not None:
            tokens[constants.ACTOR_FILE] = actor.service_account.audience
        return tokens
