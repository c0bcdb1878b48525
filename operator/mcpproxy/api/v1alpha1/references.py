"""Named values of the contract: HTTP headers and environment variables, given or referred to."""

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
        "mcpproxy-principal",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers, in lower case, that HTTP, MCP and the proxy need for themselves."""

_ONE_SOURCE = "valueFrom needs exactly one of secretKeyRef and configMapKeyRef"
_ONE_VALUE = "needs exactly one of value and valueFrom"
_RESERVED = "this header belongs to HTTP or MCP itself and can't be set"


class KeyRef(ApiModel):
    """One key of a Secret or ConfigMap in the namespace of the MCPProxy."""

    name: ObjectName
    """Name of the Secret or ConfigMap."""
    key: KeyName
    """The key whose value is taken."""


class ValueFrom(ApiModel):
    """Where a value is read from. A changed value is in use within about 90 s, without a restart:
    in headers with the next request, for tls in new connections, as a variable in new processes."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            cel_validation("has(self.secretKeyRef) != has(self.configMapKeyRef)", _ONE_SOURCE)
        )
    )
    secret_key_ref: KeyRef | None = None
    """A key of a Secret. The operator never reads it: the kubelet mounts it. Default: none, as
    configMapKeyRef is given."""
    config_map_key_ref: KeyRef | None = None
    """A key of a ConfigMap. Default: none, as secretKeyRef is given."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.secret_key_ref is None) == (self.config_map_key_ref is None):
            raise ValueError(_ONE_SOURCE)
        return self


_VALUE_RULE = cel_validation("has(self.value) != has(self.valueFrom)", _ONE_VALUE)


def _free(name: str) -> str:
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
    name: Annotated[HeaderName, AfterValidator(_free)]
    """Name of the header."""
    value: HeaderValue | None = None
    """The value itself, one line. Use valueFrom for anything secret. Default: none, as valueFrom is
    given."""
    value_from: ValueFrom | None = None
    """Where the value is read from. Default: none, as value is given."""

    @model_validator(mode="after")
    def _one_value(self) -> Self:
        if (self.value is None) == (self.value_from is None):
            raise ValueError(_ONE_VALUE)
        return self


_NOT_PASSED = (
    "this header belongs to HTTP or MCP itself and is not passed on; remove it from forwardHeaders"
)
_PASSED_ONCE = "the same header is named twice (names differ in case at most)"


def _passable(name: str) -> str:
    if name.lower() in RESERVED_HEADERS or name.lower().startswith("mcp-"):
        raise ValueError(_NOT_PASSED)
    return name


def _named_once(given: list[str]) -> list[str]:
    twice = find_duplicates([name.lower() for name in given])
    if twice:
        raise ValueError(f"the same header is named twice: {', '.join(twice)}")
    return given


ForwardedHeaders = Annotated[
    list[Annotated[HeaderName, AfterValidator(_passable)]],
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
    AfterValidator(_named_once),
]
"""Names of client headers that a backend gets."""


_NO_IDENTITY = (
    "this header can't name the user: it belongs to HTTP or MCP itself, or holds credentials"
)
_NOT_NAMING = sorted(RESERVED_HEADERS | {"authorization", "cookie"})


def _naming(name: str) -> str:
    if name.lower() in _NOT_NAMING or name.lower().startswith("mcp-"):
        raise ValueError(_NO_IDENTITY)
    return name


class PrincipalFrom(ApiModel):
    """A statement of an authenticating gateway in front of the proxy about the user."""

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
    header: Annotated[HeaderName, AfterValidator(_naming)]
    """Name of the header that holds the user, such as X-Auth-Request-User. The gateway must remove
    what clients send under this name, and clients must not reach the pods without the gateway.
    Requests without the header are refused with 401."""


class EnvVar(ApiModel):
    """An environment variable of a stdio server. A process keeps the values that it was started
    with. When one changes, new processes take over, and those before end after their requests; with
    session.mode PerClient a client keeps its process, and so the old values, until its session
    ends."""

    model_config = ConfigDict(json_schema_extra=cel(_VALUE_RULE))
    name: VariableName
    """Name of the variable."""
    value: Annotated[str, Field(max_length=16384, pattern=r"^[^\x00]*$")] | None = None
    """The value itself. Use valueFrom for anything secret. Default: none, as valueFrom is given."""
    value_from: ValueFrom | None = None
    """Where the value is read from. Default: none, as value is given."""

    @model_validator(mode="after")
    def _one_value(self) -> Self:
        if (self.value is None) == (self.value_from is None):
            raise ValueError(_ONE_VALUE)
        return self
