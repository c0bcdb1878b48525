"""MCPProxy v1alpha1: one backend. Import its models from `api.v1alpha1`."""

from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from mcpproxy.api.base import ApiModel, cel, cel_validation
from mcpproxy.api.kubernetes.quantities import Duration, PositiveDuration
from mcpproxy.api.kubernetes.scalars import (
    BY_NAME,
    DnsLabel,
    NamespaceName,
    Port,
    check_names_are_unique,
    find_duplicates,
)
from mcpproxy.api.v1alpha1.component_filters import Components, Forward, NamedComponents
from mcpproxy.api.v1alpha1.references import EnvVar, ForwardedHeaders, Header
from mcpproxy.api.v1alpha1.tls import Tls

SessionMode = Literal["Isolated", "PerClient", "Reused"]
Transport = Literal["auto", "streamable-http", "sse"]
Protocol = Literal[
    "auto",
    "legacy",
    "modern",
    "2024-11-05",
    "2025-03-26",
    "2025-06-18",
    "2025-11-25",
    "2026-07-28",
]

_SOURCES = ("url", "service", "stdio")
_ONE_SOURCE = cel_validation(
    "(has(self.url) ? 1 : 0) + (has(self.service) ? 1 : 0) + (has(self.stdio) ? 1 : 0) == 1",
    "a backend needs exactly one of url, service and stdio",
)


class ServiceRef(ApiModel):
    """A Kubernetes Service that serves MCP over HTTP, or over https where the backend has tls."""

    name: DnsLabel
    """Name of the Service."""
    namespace: NamespaceName | None = None
    """Namespace of the Service. Default: that of the MCPProxy."""
    port: Port
    """Port of the Service."""
    path: Annotated[str, Field(max_length=1024, pattern=r"^/[^\x00-\x20\x7f?#]*$")] | None = None
    """Path of the MCP endpoint. Default: /mcp."""


class Stdio(ApiModel):
    """A server that is started as a child process and speaks MCP on its standard streams.

    It runs in the runtime's container, so its programs come from spec.image.
    """

    command: Annotated[str, Field(min_length=1, max_length=1024)]
    """The program."""
    args: Annotated[list[Annotated[str, Field(max_length=4096)]], Field(max_length=128)] | None = (
        None
    )
    """Its arguments. Default: none."""
    env: (
        Annotated[
            list[EnvVar],
            Field(max_length=64, json_schema_extra=BY_NAME),
            AfterValidator(check_names_are_unique),
        ]
        | None
    ) = None
    """Environment variables; of the container's own only PATH, HOME, LANG and TMPDIR are kept.
    Default: none."""
    cwd: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    """Working directory. Default: that of the container."""


class Timeouts(ApiModel):
    """How long each wait on a backend may last."""

    connect: PositiveDuration | None = None
    """Opening a connection, or starting a process. Default: 5s."""
    initialize: PositiveDuration | None = None
    """Opening a session, listing components; a program (stdio) has 60s. Default: 10s."""
    request: PositiveDuration | None = None
    """A call, from the request to its answer; progress restarts it. Default: 300s."""
    idle: PositiveDuration | None = None
    """A session that nobody uses is closed after this time. Default: 30m."""


class Cache(ApiModel):
    """How long lists of components are kept."""

    ttl: Duration | None = None
    """Age at which a cached list is fetched anew; 0s turns the cache off. Default: 300s."""


class Session(ApiModel):
    """How client requests share sessions with backends."""

    mode: SessionMode | None = None
    """Isolated: a fresh session for every request. PerClient: one for each client session, or for
    each principal of clients that have no sessions. Reused: one for all; refused for a backend
    that keeps state. Default: Isolated for url and service, PerClient for stdio."""


class BackendSession(Session):
    """How client requests share sessions with this backend."""

    stateless: bool | None = None
    """Declares that the backend keeps no state in its sessions, which Reused needs where that
    can't be seen from outside. Default: false."""


class BackendNames(ApiModel):
    """How clients may name the components of this backend."""

    bare: Literal["Accept", "Refuse"] | None = None
    """Accept: a tool can also be called by the backend's own name, without the prefix, as apps
    do; where several backends accept one name, none is called. Default: Refuse."""


_HEADERS_ONCE = cel_validation(
    "self.all(h, self.exists_one(o, o.name.lowerAscii() == h.name.lowerAscii()))",
    "the same header is given twice (names differ in case at most)",
)


def _headers_once(headers: list[Header]) -> list[Header]:
    twice = find_duplicates([header.name.lower() for header in headers])
    if twice:
        raise ValueError(f"the same header is given twice: {', '.join(twice)}")
    return headers


def _address(url: str) -> str:
    """The url as it is. Raises ValueError when its host or port can't be one."""
    if urlsplit(url).port == 0:
        raise ValueError("Port out of range 1-65535")
    return url


_NOT_STDIO = "headers, forwardHeaders and transport are for url and service, not for stdio"
_ONE_OR_OTHER = "a header is either in headers or in forwardHeaders; remove it from one of them"
_TLS_NEEDS = "tls is for a service or an https url; give url: https://... or remove tls"


class BackendSpec(ApiModel):
    """One MCP server behind the proxy."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            _ONE_SOURCE,
            cel_validation(
                "!has(self.stdio) || (!has(self.headers) && !has(self.forwardHeaders)"
                " && !has(self.transport))",
                _NOT_STDIO,
            ),
            cel_validation(
                "!has(self.headers) || !has(self.forwardHeaders) || self.forwardHeaders.all(f,"
                " !self.headers.exists(h, h.name.lowerAscii() == f.lowerAscii()))",
                _ONE_OR_OTHER,
            ),
            cel_validation(
                "!has(self.tls) || has(self.service)"
                " || (has(self.url) && self.url.startsWith('https:'))",
                _TLS_NEEDS,
            ),
        )
    )
    name: DnsLabel
    """Unique name of the backend, a DNS label; it is also the prefix of its components."""
    url: (
        Annotated[
            str,
            Field(
                max_length=2048,
                pattern=r"^https?://[^\x00-\x20\x7f/?#@]+([/?][^\x00-\x20\x7f#]*)?$",
            ),
            AfterValidator(_address),
        ]
        | None
    ) = None
    """Address of an MCP server, http or https. Default: none, as service or stdio is given."""
    service: ServiceRef | None = None
    """A Service of the cluster. Default: none, as url or stdio is given."""
    stdio: Stdio | None = None
    """A server started as a child process. Default: none, as url or service is given."""
    transport: Transport | None = None
    """auto tries streamable HTTP, then HTTP+SSE. Default: auto."""
    protocol: Protocol | None = None
    """Protocol era or revision spoken to the backend; auto probes it. Default: auto."""
    headers: (
        Annotated[
            list[Header],
            Field(max_length=32, json_schema_extra=cel(_HEADERS_ONCE, **BY_NAME)),
            AfterValidator(_headers_once),
        ]
        | None
    ) = None
    """Headers sent with every request. Default: none."""
    forward_headers: ForwardedHeaders | None = None
    """Names of headers of a client's request that are passed on with it. Clients that differ in
    their values share no session and no list. Default: none."""
    tls: Tls | None = None
    """How the connection to an https url is secured; a service that has it, even an empty one, is
    spoken to with https. Default: the system's authorities, and no certificate of our own."""
    timeouts: Timeouts | None = None
    """How long each wait may last. Default: those of its fields."""
    session: BackendSession | None = None
    """Overrides spec.session for this backend. Default: that of spec.session."""
    cache: Cache | None = None
    """Overrides spec.cache for this backend. Default: that of spec.cache."""
    prefix: Annotated[str, Field(max_length=32, pattern=r"^[A-Za-z0-9_-]*$")] | None = None
    """Prefix of the names of its components; "" means none, for at most one backend.
    Default: the backend's name."""
    names: BackendNames | None = None
    """How clients may name its components. Default: those of its fields."""
    tools: NamedComponents | None = None
    """Which of its tools are shown, and how. Default: all, as they are."""
    prompts: NamedComponents | None = None
    """Which of its prompts are shown, and how. Default: all, as they are."""
    resources: Components | None = None
    """Which of its resources are shown, and how. Default: all, as they are."""
    resource_templates: Components | None = None
    """Which of its resource templates are shown, and how. Default: all, as they are."""
    forward: Forward | None = None
    """What passes between clients and the backend. Default: everything."""
    optional: bool | None = None
    """An optional backend never makes the proxy not Ready. Default: false."""

    @model_validator(mode="after")
    def _sources(self) -> Self:
        if sum(getattr(self, source) is not None for source in _SOURCES) != 1:
            raise ValueError("a backend needs exactly one of url, service and stdio")
        other = self.headers is not None or self.forward_headers is not None
        if self.stdio is not None and (other or self.transport is not None):
            raise ValueError(_NOT_STDIO)
        passed = {name.lower() for name in self.forward_headers or ()}
        if any(header.name.lower() in passed for header in self.headers or ()):
            raise ValueError(_ONE_OR_OTHER)
        secure = self.service is not None or (self.url or "").startswith("https:")
        if self.tls is not None and not secure:
            raise ValueError(_TLS_NEEDS)
        return self
