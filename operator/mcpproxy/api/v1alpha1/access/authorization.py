"""Models of `spec.authorization`. Import them from `api.v1alpha1`."""

from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from mcpproxy.api.base import ApiModel, cel, cel_validation
from mcpproxy.api.kubernetes.quantities import UpToAMinute
from mcpproxy.api.kubernetes.scalars import BY_NAME, check_names_are_unique
from mcpproxy.api.v1alpha1.access.expressions import MAX_EXPRESSION, check_expression
from mcpproxy.api.v1alpha1.component_filters import Glob
from mcpproxy.api.v1alpha1.monitoring import check_url

Default = Literal["Deny", "Allow"]

Words = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=512)]], Field(min_length=1, max_length=64)
]
"""Values of which a caller needs one; they are compared exactly."""
Patterns = Annotated[list[Glob], Field(min_length=1, max_length=64)]
RuleName = Annotated[
    str, Field(min_length=1, max_length=63, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
]
Scope = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[!#-\[\]-~]+$")]

_TOKEN: Final = ("issuers", "subjects", "groups", "clients")
_LISTS: Final = (*_TOKEN, "serviceAccounts", "apiKeys")
_NOBODY: Final = (
    "matches no caller: add issuers, subjects, groups, clients, serviceAccounts, apiKeys or"
    " anonymous: true; any: true matches every caller"
)
_EVERYBODY: Final = "any: true already matches every caller; remove the other fields"
_NOTHING: Final = (
    "selects nothing: add backends, tools, prompts, resources, resourceTemplates or annotations;"
    ' backends: ["*"] stands for all components'
)
_NO_TOOLS: Final = (
    "annotations apply only to tools: add tools, or move annotations to a separate entry of may"
)
_NO_HINT: Final = "needs at least one of readOnly, destructive, idempotent and openWorld"


class AccountPattern(ApiModel):
    """ServiceAccounts of this cluster, by patterns; `*` matches any text, and `?` matches one
    character."""

    namespace: Glob
    """Pattern of the namespace."""
    name: Glob
    """Pattern of the name."""


def _has(*fields: str) -> str:
    return " || ".join(f"has(self.{field})" for field in fields)


_ANYONE = "(has(self.anonymous) && self.anonymous)", "(has(self.any) && self.any)"


class Callers(ApiModel):
    """The callers of a rule. A caller with a token matches if the token has a listed value
    for each of issuers, subjects, groups and clients that is set. Callers in
    serviceAccounts or apiKeys match as well. With anonymous: true, so do callers without
    credentials."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            cel_validation(" || ".join((_has(*_LISTS), *_ANYONE)), _NOBODY),
            cel_validation(
                f"!has(self.any) || !self.any || !({_has(*_LISTS, 'anonymous')})", _EVERYBODY
            ),
        )
    )
    issuers: Words | None = None
    """Issuers of tokens, as in spec.authentication.jwt. Default: any issuer."""
    subjects: Words | None = None
    """Subjects of tokens. A subject is unique only within its issuer. Default: any subject."""
    groups: Words | None = None
    """Groups, of which the token must contain at least one. Default: any groups, or none."""
    clients: Words | None = None
    """OAuth clients to which tokens were issued. Default: any client."""
    service_accounts: Annotated[list[AccountPattern], Field(min_length=1, max_length=64)] | None = (
        None
    )
    """ServiceAccounts of this cluster. Default: none."""
    api_keys: Words | None = None
    """Names of entries of spec.authentication.apiKeys. Default: none."""
    anonymous: bool | None = None
    """true adds callers without credentials. Default: false."""
    any: bool | None = None
    """true matches every caller, with or without credentials. Default: false."""

    @property
    def by_token(self) -> bool:
        """True if callers with a token may match."""
        return any((self.issuers, self.subjects, self.groups, self.clients))

    @property
    def includes_anonymous(self) -> bool:
        """True if callers without credentials match."""
        return bool(self.anonymous or self.any)

    @model_validator(mode="after")
    def _check_someone_is_named(self) -> Self:
        listed = self.by_token or self.service_accounts or self.api_keys
        if not (listed or self.includes_anonymous):
            raise ValueError(_NOBODY)
        if self.any and (listed or self.anonymous is not None):
            raise ValueError(_EVERYBODY)
        return self


class ToolAnnotations(ApiModel):
    """Annotations that a tool must have. Annotations are statements of the backend, which nothing
    verifies. If a tool lacks an annotation, MCP's default applies. A read-only tool counts as
    idempotent and not as destructive."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            cel_validation(_has("readOnly", "destructive", "idempotent", "openWorld"), _NO_HINT)
        )
    )
    read_only: bool | None = None
    """readOnlyHint; false if the tool has none. Default: either."""
    destructive: bool | None = None
    """destructiveHint; true if the tool has none and is not read-only. Default: either."""
    idempotent: bool | None = None
    """idempotentHint; false if the tool has none and is not read-only. Default: either."""
    open_world: bool | None = None
    """openWorldHint; true if the tool has none. Default: either."""

    @model_validator(mode="after")
    def _check_some_hint(self) -> Self:
        if not self.to_manifest():
            raise ValueError(_NO_HINT)
        return self


_KINDS: Final = ("tools", "prompts", "resources", "resourceTemplates")


class Grant(ApiModel):
    """Components that a rule allows. In patterns, `*` matches any text, and `?` matches one
    character. With none of tools, prompts, resources, resourceTemplates and annotations, the
    rule allows all components of the backends."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            cel_validation(_has("backends", *_KINDS, "annotations"), _NOTHING),
            cel_validation(
                f"!has(self.annotations) || has(self.tools) || !({_has(*_KINDS[1:])})", _NO_TOOLS
            ),
        )
    )
    backends: Patterns | None = None
    """Patterns of the backends. Default: all backends."""
    tools: Patterns | None = None
    """Patterns of the names of tools, as clients see them, with the backend's prefix. Default:
    none; all tools if annotations are given."""
    prompts: Patterns | None = None
    """Patterns of the names of prompts, as clients see them. Default: none."""
    resources: Patterns | None = None
    """Patterns of the URIs of resources, as clients see them. Default: none."""
    resource_templates: Patterns | None = None
    """Patterns of URI templates, as clients see them. A caller who may use a template may use all
    resources whose URIs the template can produce. Default: none."""
    annotations: ToolAnnotations | None = None
    """Annotations that tools must have. Default: any."""

    @model_validator(mode="after")
    def _check_something_is_selected(self) -> Self:
        others = any((self.prompts, self.resources, self.resource_templates))
        if not (self.backends or self.tools or others or self.annotations):
            raise ValueError(_NOTHING)
        if self.annotations is not None and others and not self.tools:
            raise ValueError(_NO_TOOLS)
        return self


class AuthorizationRule(ApiModel):
    """Permission for some callers to use some components."""

    name: Annotated[
        str, Field(min_length=1, max_length=63, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    ]
    """Name of the rule, in messages and audit records."""
    who: Callers
    """The callers to which the rule applies."""
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=32)] | None = None
    """OAuth scopes that the caller's token must have. If one is missing, the caller gets HTTP 403
    with the error insufficient_scope, which names all of them. Default: none."""
    may: Annotated[list[Grant], Field(min_length=1, max_length=32)]
    """The components that the callers may list and use."""
    when: (
        Annotated[
            str, Field(min_length=1, max_length=MAX_EXPRESSION), AfterValidator(check_expression)
        ]
        | None
    ) = None
    """Condition in CEL that each call must meet, such as args.repo.startsWith("acme/"). The
    variables are args (the arguments of a tool or prompt, or the uri of a resource), claims (of the
    token) and tool (name, backend and annotations). If its evaluation fails, the call is denied.
    Lists show the components whether or not calls to them would meet the condition. Default: none;
    every call is allowed."""


class ExternalDecision(ApiModel):
    """A service that decides, in addition to the rules, on each call that they allow."""

    url: Annotated[
        str,
        Field(max_length=2048, pattern=r"^https?://[^\x00-\x20\x7f/?#@]+(/[^\x00-\x20\x7f?#]*)?$"),
        AfterValidator(check_url),
    ]
    """URL to which the proxy posts {"input": {...}}, in the format of Open Policy Agent, such as
    http://opa.policy/v1/data/mcp/allow. The response allows the call if its result is true, or
    an object in which allow is true."""
    timeout: UpToAMinute | None = None
    """Time to wait for the decision. Default: 1s."""
    on_failure: Default | None = None
    """Decision if the service does not respond in time, or if the proxy does not understand the
    response. Default: Deny."""


class Authorization(ApiModel):
    """Permissions of callers to list and use components. A component that a caller may not use is
    missing from the caller's lists, and its use returns the same error as an unknown name."""

    default: Default | None = None
    """Deny allows only what a rule allows. Allow also allows everyone to use the components that
    the rules do not mention. Default: Deny."""
    rules: (
        Annotated[
            list[AuthorizationRule],
            Field(max_length=64, json_schema_extra=BY_NAME),
            AfterValidator(check_names_are_unique),
        ]
        | None
    ) = None
    """Rules; a caller may use every component that at least one of them allows. Default: none."""
    external: ExternalDecision | None = None
    """A service that decides on each call that the rules allow. Default: none."""
