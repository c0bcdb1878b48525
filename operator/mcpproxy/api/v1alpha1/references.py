"""Models of HTTP headers and environment variables whose values are literals or references."""

from typing import Annotated, Final, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from mcpproxy.api.base import ApiModel, cel, cel_validation
from mcpproxy.api.kubernetes.scalars import (
    HeaderName,
    HeaderValue,
    KeyName,
    ObjectName,
    VariableName,
    find_duplicates,
)

RESERVED_HEADERS: Final = frozenset(
    {
        "accept",
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "keep-alive",
        "last-event-id",
        "mcp-method",
        "mcp-name",
        "mcp-protocol-version",
        "mcp-session-id",
        "mcpproxy-identity",
        "mcpproxy-principal",
        "mcpproxy-readiness",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Names, in lower case, of the headers that HTTP, MCP and the proxy reserve."""

_ONE_SOURCE = "valueFrom requires exactly one of secretKeyRef and configMapKeyRef"
_ONE_VALUE = "requires exactly one of value and valueFrom"
_RESERVED = "this header is reserved for HTTP or MCP and cannot be set; remove it"


class KeyRef(ApiModel):
    """A key of a Secret or ConfigMap in the namespace of the MCPProxy."""

    name: ObjectName
    """Name of the Secret or ConfigMap."""
    key: KeyName
    """Key of the value."""


class ValueFrom(ApiModel):
    """Source of a value. A changed value takes effect within about 90 s, without a restart: for
    headers with the next request, for TLS with new connections, for variables with new
    processes."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            cel_validation("has(self.secretKeyRef) != has(self.configMapKeyRef)", _ONE_SOURCE)
        )
    )
    secret_key_ref: KeyRef | None = None
    """A key of a Secret in the namespace of the MCPProxy. The kubelet mounts the Secret; the
    operator never reads it. Exactly one of secretKeyRef and configMapKeyRef is required. Default:
    none."""
    config_map_key_ref: KeyRef | None = None
    """A key of a ConfigMap in the namespace of the MCPProxy. Exactly one of secretKeyRef and
    configMapKeyRef is required. Default: none."""

    @model_validator(mode="after")
    def _check_one_source(self) -> Self:
        if (self.secret_key_ref is None) == (self.config_map_key_ref is None):
            raise ValueError(_ONE_SOURCE)
        return self


_VALUE_RULE = cel_validation("has(self.value) != has(self.valueFrom)", _ONE_VALUE)


def _check_header_is_not_reserved(name: str) -> str:
    if name.lower() in RESERVED_HEADERS:
        raise ValueError(_RESERVED)
    return name


class Header(ApiModel):
    """An HTTP header that is sent to a backend with every request."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            _VALUE_RULE,
            cel_validation(
                f"!(self.name.lowerAscii() in {sorted(RESERVED_HEADERS)})", _RESERVED, ".name"
            ),
        )
    )
    name: Annotated[HeaderName, AfterValidator(_check_header_is_not_reserved)]
    """Name of the header."""
    value: HeaderValue | None = None
    """Literal value, on one line. Use valueFrom for secrets. Exactly one of value and valueFrom is
    required. Default: none."""
    value_from: ValueFrom | None = None
    """Source of the value. Exactly one of value and valueFrom is required. Default: none."""

    @model_validator(mode="after")
    def _check_one_value(self) -> Self:
        if (self.value is None) == (self.value_from is None):
            raise ValueError(_ONE_VALUE)
        return self


_NOT_PASSED = (
    "this header is reserved for HTTP or MCP and cannot be forwarded; remove it from forwardHeaders"
)
_PASSED_ONCE = "a header is listed twice (names are case-insensitive); remove one of the two"


def _check_header_is_forwardable(name: str) -> str:
    if name.lower() in RESERVED_HEADERS or name.lower().startswith("mcp-"):
        raise ValueError(_NOT_PASSED)
    return name


def _check_names_are_unique(names: list[str]) -> list[str]:
    duplicates = find_duplicates([name.lower() for name in names])
    if duplicates:
        raise ValueError(
            f"a header is listed twice: {', '.join(duplicates)}; remove one of the two"
        )
    return names


ForwardedHeaders = Annotated[
    list[Annotated[HeaderName, AfterValidator(_check_header_is_forwardable)]],
    Field(
        max_length=32,
        json_schema_extra=cel(
            cel_validation(
                "self.all(h, self.exists_one(o, o.lowerAscii() == h.lowerAscii()))", _PASSED_ONCE
            ),
            cel_validation(
                f"self.all(h, !(h.lowerAscii() in {sorted(RESERVED_HEADERS)})"
                " && !h.lowerAscii().startsWith('mcp-'))",
                _NOT_PASSED,
            ),
            **{"x-kubernetes-list-type": "set"},
        ),
    ),
    AfterValidator(_check_names_are_unique),
]
"""Names of client request headers that are forwarded to a backend."""


_NO_IDENTITY = (
    "this header cannot identify users: it is reserved for HTTP or MCP, or contains credentials;"
    " use another header"
)
_NOT_NAMING = sorted(RESERVED_HEADERS | {"authorization", "cookie"})


def _check_header_can_name_the_user(name: str) -> str:
    if name.lower() in _NOT_NAMING or name.lower().startswith("mcp-"):
        raise ValueError(_NO_IDENTITY)
    return name


class PrincipalFrom(ApiModel):
    """Identification of the user by an authenticating gateway in front of the proxy."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            cel_validation(
                f"!(self.header.lowerAscii() in {_NOT_NAMING})"
                " && !self.header.lowerAscii().startsWith('mcp-')",
                _NO_IDENTITY,
                ".header",
            )
        )
    )
    header: Annotated[HeaderName, AfterValidator(_check_header_can_name_the_user)]
    """Name of the header in which the gateway names the user, such as X-Auth-Request-User. The
    gateway must remove this header from the requests of clients, and clients must not be able to
    reach the pods without the gateway. The proxy refuses requests without the header with HTTP
    401."""


class EnvVar(ApiModel):
    """An environment variable of a stdio server. A process keeps the values that it was started
    with. If a value changes, new processes take over, and the earlier ones end after their
    requests. With session.mode PerClient, a client keeps its process, and therefore the old values,
    until its session ends."""

    model_config = ConfigDict(json_schema_extra=cel(_VALUE_RULE))
    name: VariableName
    """Name of the variable."""
    value: Annotated[str, Field(max_length=16384, pattern=r"^[^\x00]*$")] | None = None
    """Literal value. Use valueFrom for secrets. Exactly one of value and valueFrom is required.
    Default: none."""
    value_from: ValueFrom | None = None
    """Source of the value. Exactly one of value and valueFrom is required. Default: none."""

    @model_validator(mode="after")
    def _check_one_value(self) -> Self:
        if (self.value is None) == (self.value_from is None):
            raise ValueError(_ONE_VALUE)
        return self
