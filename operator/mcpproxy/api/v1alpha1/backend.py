"""Models of `spec.backends[]`. Import them from `api.v1alpha1`."""

from typing import Annotated, Final, Literal, Self
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
from mcpproxy.api.v1alpha1.access.backend_auth import BackendAuth
from mcpproxy.api.v1alpha1.access.limits import Results
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

AUTHORIZATION: Final = "authorization"
_SOURCES = ("url", "service", "stdio")
_ONE_SOURCE = cel_validation(
    "(has(self.url) ? 1 : 0) + (has(self.service) ? 1 : 0) + (has(self.stdio) ? 1 : 0) == 1",
    "a backend requires exactly one of url, service and stdio",
)


class ServiceRef(ApiModel):
    """A Kubernetes Service that serves MCP over HTTP, or over HTTPS if the backend has tls."""

    name: DnsLabel
    """Name of the Service."""
    namespace: NamespaceName | None = None
    """Namespace of the Service. Default: the namespace of the MCPProxy."""
    port: Port
    """Port of the Service."""
    path: Annotated[str, Field(max_length=1024, pattern=r"^/[^\x00-\x20\x7f?#]*$")] | None = None
    """Path of the MCP endpoint. Default: /mcp."""


class Stdio(ApiModel):
    """An MCP server that the runtime starts as a child process and uses over standard streams.

    The process runs in the runtime's container, so spec.image must contain its program.
    """

    command: Annotated[str, Field(min_length=1, max_length=1024)]
    """Program to start."""
    args: Annotated[list[Annotated[str, Field(max_length=4096)]], Field(max_length=128)] | None = (
        None
    )
    """Arguments of the program. Default: none."""
    env: (
        Annotated[
            list[EnvVar],
            Field(max_length=64, json_schema_extra=BY_NAME),
            AfterValidator(check_names_are_unique),
        ]
        | None
    ) = None
    """Environment variables of the process. From the container, the process inherits only PATH,
    HOME, LANG and TMPDIR. Default: none."""
    cwd: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    """Working directory of the process. Default: the working directory of the container."""


class Timeouts(ApiModel):
    """Timeouts for operations on a backend."""

    connect: PositiveDuration | None = None
    """Timeout for opening a connection or starting a process. Default: 5s."""
    initialize: PositiveDuration | None = None
    """Timeout for opening a session or listing components. For a stdio server, the default is 60s.
    Default: 10s."""
    request: PositiveDuration | None = None
    """Timeout for a call, from the request to its response. Each progress notification restarts it.
    Default: 300s."""
    idle: PositiveDuration | None = None
    """Time after which an unused session is closed. Default: 30m."""


class Cache(ApiModel):
    """Caching of component lists."""

    ttl: Duration | None = None
    """Age at which a cached list is fetched again; 0s disables the cache. Default: 300s."""


class Session(ApiModel):
    """Sharing of backend sessions among client requests."""

    mode: SessionMode | None = None
    """Isolated uses a new session for each request. PerClient uses one session for each client
    session, or for each principal if clients have no sessions. Reused uses one session for all
    clients of a principal; a backend that has sessions is then Unhealthy unless stateless is
    true.
    Default: Isolated for url and service, PerClient for stdio."""


class BackendSession(Session):
    """Sharing of this backend's sessions among client requests."""

    stateless: bool | None = None
    """Declares that the sessions of the backend hold no state. Reused requires this for a backend
    that has sessions. Default: false."""


class CircuitBreaker(ApiModel):
    """Refusal of calls while the backend cannot be reached.

    The proxy does not send a refused call. The error names the cause and the time of the next check
    of the backend. The first check or call that succeeds ends the refusals. Errors of tools, HTTP
    errors and slow calls never cause refusals while checks of the backend succeed.
    """

    mode: Literal["Enabled", "Disabled"] | None = None
    """Enabled refuses calls immediately after failures. Disabled lets each call run into its own
    timeouts. Default: Enabled."""
    failures: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Number of consecutive failures to open a connection or session after which calls are refused,
    if the failures span at least a second. Default: 5."""


class BackendNames(ApiModel):
    """Names by which clients may call this backend's components."""

    bare: Literal["Accept", "Refuse"] | None = None
    """Accept lets clients also call a tool by its name at the backend, without the prefix, as apps
    do. If several backends accept the same name, a call with that name reaches none of them. Refuse
    requires the prefix. Default: Refuse."""


_HEADERS_ONCE = cel_validation(
    "self.all(h, self.exists_one(o, o.name.lowerAscii() == h.name.lowerAscii()))",
    "a header is set twice (names are case-insensitive); remove one of the two",
)


def _check_headers_are_unique(headers: list[Header]) -> list[Header]:
    twice = find_duplicates([header.name.lower() for header in headers])
    if twice:
        raise ValueError(f"a header is set twice: {', '.join(twice)}; remove one of the two")
    return headers


def _check_url(url: str) -> str:
    """Return the URL unchanged. Raise ValueError if its host or port is invalid."""
    if urlsplit(url).port == 0:
        raise ValueError("Port out of range 1-65535")
    return url


_IDLE_PASSTHROUGH = (
    "auth.passthrough has no effect unless forwardHeaders names Authorization; add it there or"
    " remove auth.passthrough"
)
_AUTHORIZES_TWICE = (
    "auth sets the header Authorization; remove it from headers and forwardHeaders, or remove auth"
)
_UNAUTHENTICATED_STDIO = "auth requires url or service and is not allowed with stdio"
_NO_EXCHANGE_OVER_SSE = (
    "auth.tokenExchange and auth.idJag require Streamable HTTP, because a session of transport sse"
    " cannot follow the tokens of its caller; remove transport"
)
_OWN_TOKENS = (
    "has(self.auth) && (has(self.auth.clientCredentials) || has(self.auth.tokenExchange)"
    " || has(self.auth.idJag) || has(self.auth.serviceAccount))"
)
_NOT_STDIO = (
    "headers, forwardHeaders and transport require url or service and are not allowed with stdio"
)
_ONE_OR_OTHER = "a header cannot be in both headers and forwardHeaders; remove it from one of them"
_TLS_NEEDS = "tls requires a service or an https url; use an https:// url or remove tls"


class BackendSpec(ApiModel):
    """An MCP server behind the proxy."""

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
            cel_validation(
                "!has(self.auth) || !has(self.auth.passthrough) || !self.auth.passthrough"
                " || (has(self.forwardHeaders)"
                " && self.forwardHeaders.exists(h, h.lowerAscii() == 'authorization'))",
                _IDLE_PASSTHROUGH,
            ),
            cel_validation(f"!({_OWN_TOKENS}) || !has(self.stdio)", _UNAUTHENTICATED_STDIO),
            cel_validation(
                f"!({_OWN_TOKENS}) || ((!has(self.headers)"
                " || !self.headers.exists(h, h.name.lowerAscii() == 'authorization'))"
                " && (!has(self.forwardHeaders)"
                " || !self.forwardHeaders.exists(h, h.lowerAscii() == 'authorization')))",
                _AUTHORIZES_TWICE,
            ),
            cel_validation(
                "!has(self.auth) || !(has(self.auth.tokenExchange) || has(self.auth.idJag))"
                " || !has(self.transport) || self.transport != 'sse'",
                _NO_EXCHANGE_OVER_SSE,
            ),
        )
    )
    name: DnsLabel
    """Unique name of the backend, a DNS label. It is also the default prefix of the backend's
    components."""
    url: (
        Annotated[
            str,
            Field(
                max_length=2048,
                pattern=r"^https?://[^\x00-\x20\x7f/?#@]+([/?][^\x00-\x20\x7f#]*)?$",
            ),
            AfterValidator(_check_url),
        ]
        | None
    ) = None
    """URL of an MCP server, http or https. Exactly one of url, service and stdio is required.
    Default: none."""
    service: ServiceRef | None = None
    """Service of an MCP server in the cluster. Exactly one of url, service and stdio is required.
    Default: none."""
    stdio: Stdio | None = None
    """MCP server that the runtime starts as a child process. Exactly one of url, service and stdio
    is required. Default: none."""
    transport: Transport | None = None
    """HTTP transport of the backend; auto tries Streamable HTTP, then HTTP+SSE. Default: auto."""
    protocol: Protocol | None = None
    """Protocol era or revision to use with the backend; auto probes the backend. Default: auto."""
    headers: (
        Annotated[
            list[Header],
            Field(max_length=32, json_schema_extra=cel(_HEADERS_ONCE, **BY_NAME)),
            AfterValidator(_check_headers_are_unique),
        ]
        | None
    ) = None
    """Headers that are sent to the backend with every request. Default: none."""
    forward_headers: ForwardedHeaders | None = None
    """Names of client request headers that are forwarded to the backend. Clients that send
    different values share no session and no list. Default: none."""
    auth: BackendAuth | None = None
    """Identity with which the proxy calls the backend. Default: each field's own default; headers
    and forwardHeaders alone decide which credentials the backend gets."""
    tls: Tls | None = None
    """TLS settings for an https url or a service. A service with this field is reached over HTTPS,
    even if the field is empty. Default: the system's certificate authorities, and no client
    certificate."""
    timeouts: Timeouts | None = None
    """Timeouts for operations on this backend. Default: each field's own default."""
    circuit_breaker: CircuitBreaker | None = None
    """Refusal of calls while the backend cannot be reached. Default: each field's own default."""
    session: BackendSession | None = None
    """Overrides spec.session for this backend. Default: the value of spec.session."""
    cache: Cache | None = None
    """Overrides spec.cache for this backend. Default: the value of spec.cache."""
    prefix: Annotated[str, Field(max_length=32, pattern=r"^[A-Za-z0-9_-]*$")] | None = None
    """Prefix of the names of the backend's components. An empty prefix "" leaves the names
    unchanged; at most one backend may use it. Default: the backend's name."""
    names: BackendNames | None = None
    """Names by which clients may call this backend's components. Default: each field's own
    default."""
    tools: NamedComponents | None = None
    """Filters and overrides for the backend's tools. Default: all tools, unchanged."""
    prompts: NamedComponents | None = None
    """Filters and overrides for the backend's prompts. Default: all prompts, unchanged."""
    resources: Components | None = None
    """Filters and overrides for the backend's resources. Default: all resources, unchanged."""
    resource_templates: Components | None = None
    """Filters and overrides for the backend's resource templates. Default: all resource templates,
    unchanged."""
    results: Results | None = None
    """Limit on the size of results of the backend's tools and resources. Default: none; results are
    forwarded up to the limits of the proxy."""
    forward: Forward | None = None
    """Features that pass between clients and the backend. Default: all features."""
    optional: bool | None = None
    """true means that the proxy can be Ready while this backend is not healthy. Default: false."""

    @model_validator(mode="after")
    def _check_sources(self) -> Self:
        if sum(getattr(self, source) is not None for source in _SOURCES) != 1:
            raise ValueError("a backend requires exactly one of url, service and stdio")
        other = self.headers is not None or self.forward_headers is not None
        if self.stdio is not None and (other or self.transport is not None):
            raise ValueError(_NOT_STDIO)
        forwarded = {name.lower() for name in self.forward_headers or ()}
        if any(header.name.lower() in forwarded for header in self.headers or ()):
            raise ValueError(_ONE_OR_OTHER)
        secure = self.service is not None or (self.url or "").startswith("https:")
        if self.tls is not None and not secure:
            raise ValueError(_TLS_NEEDS)
        if self.passes_credentials and AUTHORIZATION not in forwarded:
            raise ValueError(_IDLE_PASSTHROUGH)
        if self.auth is not None and self.auth.sets_authorization:
            self._check_own_tokens(forwarded)
        return self

    def _check_own_tokens(self, forwarded: set[str]) -> None:
        if self.stdio is not None:
            raise ValueError(_UNAUTHENTICATED_STDIO)
        if AUTHORIZATION in forwarded | {header.name.lower() for header in self.headers or ()}:
            raise ValueError(_AUTHORIZES_TWICE)
        if self.is_called_for_callers and self.transport == "sse":
            raise ValueError(_NO_EXCHANGE_OVER_SSE)

    @property
    def is_called_for_callers(self) -> bool:
        """True if the backend is called on behalf of each caller."""
        return self.auth is not None and self.auth.is_for_callers

    @property
    def passes_credentials(self) -> bool:
        """True if the spec permits that the backend gets the credentials of clients."""
        return bool(self.auth and self.auth.passthrough)

    @property
    def forwards_credentials(self) -> bool:
        """True if the backend gets the header Authorization of clients."""
        return AUTHORIZATION in {name.lower() for name in self.forward_headers or ()}
