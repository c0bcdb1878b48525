"""MCPProxy v1alpha1: the spec. The CRD is generated from these models (`mcpproxy crd`).

No field has a default in the schema: what an absent field means is in `api.defaults`, so that
nothing is ever written into a user's object (GitOps tools would show it as drift).
"""

from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from mcpproxy.api import names
from mcpproxy.api.model import ApiModel, cel, validation
from mcpproxy.api.quantities import Duration, PositiveDuration, Quantity, parsed_quantity
from mcpproxy.api.scalars import (
    BY_NAME,
    DnsLabel,
    NamespaceName,
    ObjectName,
    Port,
    named_once,
    repeated,
)
from mcpproxy.api.values import EnvVar, Header, KeyRef, ValueFrom

__all__ = [
    "NAME_MESSAGE",
    "Backend",
    "BackendSession",
    "Cache",
    "EnvVar",
    "Header",
    "Health",
    "KeyRef",
    "LocalObjectReference",
    "MCPProxy",
    "MCPProxySpec",
    "ObjectMeta",
    "Protocol",
    "Resources",
    "ServiceRef",
    "ServiceSpec",
    "Session",
    "SessionMode",
    "Stdio",
    "Timeouts",
    "Transport",
    "ValueFrom",
]

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
_ONE_SOURCE = validation(
    "(has(self.url) ? 1 : 0) + (has(self.service) ? 1 : 0) + (has(self.stdio) ? 1 : 0) == 1",
    "a backend needs exactly one of url, service and stdio",
)


class ServiceRef(ApiModel):
    """A Kubernetes Service that serves MCP over HTTP."""

    name: DnsLabel
    """Name of the Service."""
    namespace: NamespaceName | None = None
    """Namespace of the Service. Default: that of the MCPProxy."""
    port: Port
    """Port of the Service."""
    path: Annotated[str, Field(max_length=1024, pattern=r"^/[^\s?#]*$")] | None = None
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
    """Its arguments."""
    env: (
        Annotated[
            list[EnvVar],
            Field(max_length=64, json_schema_extra=BY_NAME),
            AfterValidator(named_once),
        ]
        | None
    ) = None
    """Environment variables; of the container's own only PATH, HOME, LANG and TMPDIR are kept."""
    cwd: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    """Working directory. Default: that of the container."""


class Timeouts(ApiModel):
    """How long each wait on a backend may last."""

    connect: PositiveDuration | None = None
    """Opening a connection, or starting a process. Default: 5s."""
    initialize: PositiveDuration | None = None
    """Opening a session, listing components. Default: 10s."""
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
    """Isolated: a fresh session for every request. PerClient: one for each client session.
    Reused: one for all; refused for a backend that keeps state. Default: Isolated."""


class BackendSession(Session):
    """How client requests share sessions with this backend."""

    stateless: bool | None = None
    """Declares that the backend keeps no state in its sessions, which Reused needs where that
    can't be seen from outside. Default: false."""


_HEADERS_ONCE = validation(
    "self.all(h, self.exists_one(o, o.name.lowerAscii() == h.name.lowerAscii()))",
    "the same header is given twice (names differ in case at most)",
)


def _headers_once(headers: list[Header]) -> list[Header]:
    twice = repeated([header.name.lower() for header in headers])
    if twice:
        raise ValueError(f"the same header is given twice: {', '.join(twice)}")
    return headers


def _address(url: str) -> str:
    """The url as it is. Raises ValueError when its host or port can't be one."""
    if urlsplit(url).port == 0:
        raise ValueError("Port out of range 1-65535")
    return url


class Backend(ApiModel):
    """One MCP server behind the proxy."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            _ONE_SOURCE,
            validation(
                "!has(self.stdio) || (!has(self.headers) && !has(self.transport))",
                "headers and transport are for url and service, not for stdio",
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
                pattern=r"^https?://[^\s/?#@]+(/[^\s#]*)?$",
            ),
            AfterValidator(_address),
        ]
        | None
    ) = None
    """Address of an MCP server, http or https."""
    service: ServiceRef | None = None
    """A Service of the cluster."""
    stdio: Stdio | None = None
    """A server started as a child process."""
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
    """Headers sent with every request."""
    timeouts: Timeouts | None = None
    """How long each wait may last."""
    session: BackendSession | None = None
    """Overrides spec.session for this backend."""
    cache: Cache | None = None
    """Overrides spec.cache for this backend."""
    prefix: Annotated[str, Field(max_length=32, pattern=r"^[A-Za-z0-9_-]*$")] | None = None
    """Prefix of the names of its components; "" means none, for at most one backend.
    Default: the backend's name."""
    optional: bool | None = None
    """An optional backend never makes the proxy not Ready. Default: false."""

    @model_validator(mode="after")
    def _sources(self) -> Self:
        if sum(getattr(self, source) is not None for source in _SOURCES) != 1:
            raise ValueError("a backend needs exactly one of url, service and stdio")
        if self.stdio is not None and (self.headers or self.transport):
            raise ValueError("headers and transport are for url and service, not for stdio")
        return self


_MORE_THAN_LIMIT = "a request must not be higher than the limit of the same resource"


class Resources(ApiModel):
    """Compute resources of the runtime's container."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            validation(
                "!has(self.limits) || !has(self.requests) || self.requests.all(r,"
                " !(r in self.limits) || quantity(string(self.requests[r]))"
                ".compareTo(quantity(string(self.limits[r]))) <= 0)",
                _MORE_THAN_LIMIT,
                ".requests",
            )
        )
    )
    limits: Annotated[dict[str, Quantity], Field(max_length=16)] | None = None
    """The most it may use."""
    requests: Annotated[dict[str, Quantity], Field(max_length=16)] | None = None
    """What is reserved for it."""

    @model_validator(mode="after")
    def _within_limits(self) -> Self:
        limits = self.limits or {}
        for name, request in (self.requests or {}).items():
            if name in limits and parsed_quantity(request) > parsed_quantity(limits[name]):
                raise ValueError(f"requests.{name}: {_MORE_THAN_LIMIT}")
        return self


class ServiceSpec(ApiModel):
    """The Service that agents connect to."""

    type: Literal["ClusterIP", "NodePort", "LoadBalancer"] | None = None
    """Kind of the Service. Default: ClusterIP."""
    port: Port | None = None
    """Its port. Default: 80."""
    annotations: Annotated[dict[str, str], Field(max_length=64)] | None = None
    """Annotations of the Service, such as those that configure a load balancer."""


class LocalObjectReference(ApiModel):
    """An object in the namespace of the MCPProxy."""

    name: ObjectName
    """Its name."""


class Health(ApiModel):
    """How the state of backends is found out."""

    interval: PositiveDuration | None = None
    """Time between two checks of a backend. Default: 10s."""
    timeout: PositiveDuration | None = None
    """How long a check may last. Default: 5s."""
    unhealthy_after: Annotated[int, Field(ge=1, le=100)] | None = None
    """Failed checks in a row after which a backend is Unhealthy. Default: 2."""
    healthy_after: Annotated[int, Field(ge=1, le=100)] | None = None
    """Good checks in a row after which a backend is Healthy again. Default: 1."""


_BACKENDS_RULES = cel(
    validation(
        "self.filter(b, has(b.prefix) && b.prefix == '').size() <= 1",
        'at most one backend may have the prefix ""',
    ),
    validation(
        "self.all(b, self.exists_one(o,"
        " (has(o.prefix) ? o.prefix : o.name) == (has(b.prefix) ? b.prefix : b.name)))",
        "two backends have the same prefix, give one of them another",
    ),
    **BY_NAME,
)


def _prefixes_differ(backends: list[Backend]) -> list[Backend]:
    found: dict[str, str] = {}
    for backend in backends:
        prefix = backend.name if backend.prefix is None else backend.prefix
        if prefix in found:
            both = f"{found[prefix]} and {backend.name}"
            raise ValueError(
                f'backends {both} both have the prefix "{prefix}", give one of them another'
            )
        found[prefix] = backend.name
    return backends


class MCPProxySpec(ApiModel):
    """What the proxy serves and how it runs."""

    backends: Annotated[
        list[Backend],
        Field(min_length=1, max_length=64, json_schema_extra=_BACKENDS_RULES),
        AfterValidator(named_once),
        AfterValidator(_prefixes_differ),
    ]
    """The MCP servers behind the proxy."""
    cache: Cache | None = None
    """How long lists of components are kept."""
    session: Session | None = None
    """How client requests share sessions with backends."""
    replicas: Annotated[int, Field(ge=0, le=1000)] | None = None
    """Number of pods; absent leaves the number to others, such as an autoscaler."""
    image: Annotated[str, Field(min_length=1, max_length=1024, pattern=r"^\S+$")] | None = None
    """Image of the runtime. Default: the one the operator was installed with."""
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    """When the image is pulled. Default: Kubernetes' own."""
    image_pull_secrets: (
        Annotated[
            list[LocalObjectReference],
            Field(max_length=16, json_schema_extra=BY_NAME),
            AfterValidator(named_once),
        ]
        | None
    ) = None
    """Secrets for pulling the image."""
    resources: Resources | None = None
    """Compute resources of the runtime's container."""
    service: ServiceSpec | None = None
    """The Service that agents connect to."""
    health: Health | None = None
    """How the state of backends is found out."""
    allowed_hosts: (
        Annotated[list[Annotated[str, Field(min_length=1, max_length=253)]], Field(max_length=64)]
        | None
    ) = None
    """Values of the Host header that are served besides the Service's own names and localhost;
    `*.example.com` stands for all names below example.com."""
    allowed_origins: (
        Annotated[list[Annotated[str, Field(min_length=1, max_length=253)]], Field(max_length=64)]
        | None
    ) = None
    """Values of the Origin header that are served besides those of allowed hosts,
    such as https://app.example.com."""


NAME_MESSAGE = (
    "metadata.name must be a DNS label of at most 63 characters, since the proxy's Service and"
    " Deployment carry it: lower case letters, digits and -, beginning with a letter"
)


def _child_name(name: str) -> str:
    if not names.is_dns_label(name):
        raise ValueError(NAME_MESSAGE)
    return name


class ObjectMeta(ApiModel):
    """The part of an object's metadata that matters here."""

    model_config = ConfigDict(extra="ignore")
    name: Annotated[str, AfterValidator(_child_name)]
    namespace: NamespaceName | None = None


class MCPProxy(ApiModel):
    """One MCP endpoint that serves the components of many MCP servers."""

    model_config = ConfigDict(extra="ignore")
    api_version: Literal["mcpproxy.dev/v1alpha1"]
    kind: Literal["MCPProxy"]
    metadata: ObjectMeta
    spec: MCPProxySpec
