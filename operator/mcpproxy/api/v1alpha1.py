"""MCPProxy v1alpha1: the spec. The CRD is generated from these models (`mcpproxy crd`).

No field has a default in the schema: what an absent field means is in `api.defaults`, so that
nothing is ever written into a user's object (GitOps tools would show it as drift).
"""

from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, model_validator

from mcpproxy.api import names
from mcpproxy.api.model import ApiModel, cel, validation
from mcpproxy.api.quantities import Duration, PositiveDuration, Quantity

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

Name = Annotated[str, Field(min_length=1, max_length=253)]
DnsLabel = Annotated[str, Field(min_length=1, max_length=63, pattern=names.DNS_LABEL)]
HeaderName = Annotated[
    str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")
]
ObjectName = Annotated[
    str, Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
]
KeyName = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")]
Port = Annotated[int, Field(ge=1, le=65535)]

_SOURCES = ("url", "service", "stdio")
_ONE_SOURCE = validation(
    "(has(self.url) ? 1 : 0) + (has(self.service) ? 1 : 0) + (has(self.stdio) ? 1 : 0) == 1",
    "a backend needs exactly one of url, service and stdio",
)


class KeyRef(ApiModel):
    """One key of a Secret or ConfigMap in the namespace of the MCPProxy."""

    name: ObjectName
    """Name of the Secret or ConfigMap."""
    key: KeyName
    """The key whose value is taken."""


class ValueFrom(ApiModel):
    """Where a value is read from; a changed value is picked up without a restart."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            validation(
                "has(self.secretKeyRef) != has(self.configMapKeyRef)",
                "valueFrom needs exactly one of secretKeyRef and configMapKeyRef",
            )
        )
    )
    secret_key_ref: KeyRef | None = None
    """A key of a Secret. The operator never reads it: the kubelet mounts it."""
    config_map_key_ref: KeyRef | None = None
    """A key of a ConfigMap."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.secret_key_ref is None) == (self.config_map_key_ref is None):
            raise ValueError("valueFrom needs exactly one of secretKeyRef and configMapKeyRef")
        return self


class _Value(ApiModel):
    model_config = ConfigDict(
        json_schema_extra=cel(
            validation(
                "has(self.value) != has(self.valueFrom)", "needs exactly one of value and valueFrom"
            )
        )
    )
    value: Annotated[str, Field(max_length=16384)] | None = None
    """The value itself. Use valueFrom for anything secret."""
    value_from: ValueFrom | None = None
    """Where the value is read from."""

    @model_validator(mode="after")
    def _one_value(self) -> Self:
        if (self.value is None) == (self.value_from is None):
            raise ValueError("needs exactly one of value and valueFrom")
        return self


class Header(_Value):
    """An HTTP header that is sent to a backend with every request."""

    name: HeaderName
    """Name of the header."""

    @model_validator(mode="after")
    def _one_line(self) -> Self:
        if self.value is not None and any(c in self.value for c in "\r\n\0"):
            raise ValueError("a header's value must be one line")
        return self


class EnvVar(_Value):
    """An environment variable of a stdio server."""

    name: Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
    """Name of the variable."""


class ServiceRef(ApiModel):
    """A Kubernetes Service that serves MCP over HTTP."""

    name: DnsLabel
    """Name of the Service."""
    namespace: DnsLabel | None = None
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
            Field(
                max_length=64,
                json_schema_extra={
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["name"],
                },
            ),
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
            Field(
                max_length=32,
                json_schema_extra={
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["name"],
                },
            ),
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
        if self.url is not None:
            try:
                _ = urlsplit(self.url).port
            except ValueError as error:
                raise ValueError(f"url: {error}") from error
        return self


class Resources(ApiModel):
    """Compute resources of the runtime's container."""

    limits: Annotated[dict[str, Quantity], Field(max_length=16)] | None = None
    """The most it may use."""
    requests: Annotated[dict[str, Quantity], Field(max_length=16)] | None = None
    """What is reserved for it."""


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
        "two backends have the same prefix; give one of them another",
    ),
    **{"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
)


class MCPProxySpec(ApiModel):
    """What the proxy serves and how it runs."""

    backends: Annotated[
        list[Backend], Field(min_length=1, max_length=64, json_schema_extra=_BACKENDS_RULES)
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
            Field(
                max_length=16,
                json_schema_extra={
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["name"],
                },
            ),
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

    @model_validator(mode="after")
    def _backends_differ(self) -> Self:
        found: dict[str, str] = {}
        for backend in self.backends:
            prefix = backend.name if backend.prefix is None else backend.prefix
            if prefix in found:
                what = f'the prefix "{prefix}"'
                raise ValueError(
                    f"backends {found[prefix]} and {backend.name} both have {what};"
                    " give one of them another"
                )
            found[prefix] = backend.name
        if len({backend.name for backend in self.backends}) < len(self.backends):
            raise ValueError("backends: two have the same name")
        return self


class ObjectMeta(ApiModel):
    """The part of an object's metadata that matters here."""

    model_config = ConfigDict(extra="ignore")
    name: Name
    namespace: Name | None = None


class MCPProxy(ApiModel):
    """One MCP endpoint that serves the components of many MCP servers."""

    model_config = ConfigDict(extra="ignore")
    api_version: Literal["mcpproxy.dev/v1alpha1"]
    kind: Literal["MCPProxy"]
    metadata: ObjectMeta
    spec: MCPProxySpec
