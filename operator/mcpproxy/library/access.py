"""Access to a server of the library: who calls, what callers may use, and what is recorded."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from pydantic import ValidationError

from mcpproxy.api.base import ApiModel
from mcpproxy.api.field_messages import problems_of
from mcpproxy.api.manifest_errors import ManifestError
from mcpproxy.api.v1alpha1 import Audit, Authentication, Authorization, MCPProxySpec
from mcpproxy.proxy.embed import (
    ANONYMOUS,
    AccessGuard,
    AuditedRequests,
    Catalog,
    ClientIdentity,
    ExternalDecisions,
    Identity,
    ProxyConfig,
    RuntimeOptions,
    build_audited_requests,
    build_guard,
    from_backends,
    with_access,
)

__all__ = ["AccessSettings", "Identity", "access_settings", "identified", "identity_of_request"]
_MODELS: Final[Mapping[str, type[ApiModel]]] = {
    "authentication": Authentication,
    "authorization": Authorization,
    "audit": Audit,
}
_PLACEHOLDER: Final[dict[str, Any]] = {"name": "backend", "url": "http://localhost/mcp"}


@dataclass(frozen=True)
class AccessSettings:
    """The fields of a spec about access; None for those that are not set."""

    public_url: str | None = None
    authentication: Authentication | None = None
    authorization: Authorization | None = None
    audit: Audit | None = None

    @property
    def is_empty(self) -> bool:
        """True if nothing is set."""
        return self == AccessSettings()

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of `access_settings` for these settings."""
        return dict(vars(self))

    def with_defaults(self, spec: MCPProxySpec) -> "AccessSettings":
        """Return these settings, and those of a manifest for fields that are not set."""
        return AccessSettings(
            self.public_url or spec.public_url,
            self.authentication or spec.authentication,
            self.authorization or spec.authorization,
            self.audit or spec.audit,
        )

    def configuration(self, base: ProxyConfig | None = None) -> ProxyConfig | None:
        """Return the configuration of a runtime for HTTP; None if nothing is set.

        `base` has the backends. Raise ManifestError if the fields do not go together.
        """
        if self.is_empty:
            return None
        fields: dict[str, Any] = {
            "publicUrl": self.public_url,
            **{
                name: None if model is None else model.to_manifest()
                for name in _MODELS
                for model in [getattr(self, name)]
            },
        }
        argument = {name: value for name, value in fields.items() if value is not None}
        return with_access(base or from_backends([_PLACEHOLDER]), argument)

    def check(self, base: ProxyConfig | None = None) -> None:
        """Raise ManifestError if the fields, or those of `base`, do not go together.

        Rules without `authentication` are for callers whose identity the program passes.
        """
        if self.authentication is not None:
            self.configuration(base)

    def guard(self, catalog: Catalog) -> tuple[AccessGuard | None, ExternalDecisions | None]:
        """Return the guard of the components in a catalog, and its external service."""
        return build_guard(self.authorization, catalog, {})

    def audited_requests(
        self, name: str, catalog: Catalog, descriptor: int
    ) -> AuditedRequests | None:
        """Return the audit log of the server `name`; lines go to this descriptor."""
        options = RuntimeOptions(audit_descriptor=descriptor)
        return build_audited_requests(self.audit, name, options, catalog)


def access_settings(
    public_url: str | None = None,
    authentication: Authentication | Mapping[str, Any] | None = None,
    authorization: Authorization | Mapping[str, Any] | None = None,
    audit: Audit | Mapping[str, Any] | None = None,
) -> AccessSettings:
    """Return settings from models, or from mappings of the form that manifests have.

    Raise ManifestError.
    """
    argument = {"authentication": authentication, "authorization": authorization, "audit": audit}
    models = {
        name: None if value is None else _validate(name, value) for name, value in argument.items()
    }
    settings = AccessSettings(public_url, **models)
    settings.check()
    return settings


def _validate(name: str, value: Any) -> Any:
    # The value of a manifest is a plain copy of a model.
    to_manifest = getattr(value, "to_manifest", None)
    content = value if to_manifest is None else to_manifest()
    try:
        return _MODELS[name].model_validate(content, strict=True, by_alias=True, by_name=False)
    except ValidationError as error:
        problems = "; ".join(map(str, problems_of(error, _MODELS[name])))
        raise ManifestError(problems, name) from None


def identified(client: ClientIdentity, identity: Identity) -> ClientIdentity:
    """Return a client with an identity that the program vouches for."""
    if identity.method == "anonymous":
        return client
    return replace(client, identity=identity, principal=identity.principal)


def identity_of_request(request: Any) -> Identity:
    """Return the identity that an SDK server has verified for an HTTP request.

    Requests without an access token, and those of other transports, are anonymous.
    """
    scope = getattr(request, "scope", None)
    user = scope.get("user") if isinstance(scope, Mapping) else None
    token = getattr(user, "access_token", None)
    if token is None:
        return ANONYMOUS
    claims = token.claims or {}
    groups = claims.get("groups")
    listed = groups if isinstance(groups, list) else ()
    issuer = claims.get("iss")
    return Identity(
        "jwt",
        issuer=issuer if isinstance(issuer, str) else "",
        subject=token.subject or token.client_id,
        client=token.client_id,
        groups=frozenset(group for group in listed if isinstance(group, str)),
        scopes=frozenset(token.scopes),
        expires=token.expires_at,
        claims=claims,
    )
