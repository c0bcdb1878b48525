"""MCPProxy v1alpha1: the spec. The CRD is generated from these models (`mcpproxy crd`).

No field has a default in the schema: what an absent field means is in `api.defaults`, so that
nothing is ever written into a user's object (GitOps tools would show it as drift).
"""

from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from mcpproxy.api import constants
from mcpproxy.api.base import ApiModel, cel, cel_validation
from mcpproxy.api.kubernetes.quantities import PositiveDuration, Quantity, parse_quantity
from mcpproxy.api.kubernetes.scalars import (
    BY_NAME,
    AllowedHost,
    AllowedOrigin,
    NamespaceName,
    ObjectName,
    Port,
    check_names_are_unique,
)
from mcpproxy.api.v1alpha1.backend import BackendSpec, Cache, Session
from mcpproxy.api.v1alpha1.catalog import CatalogSpec
from mcpproxy.api.v1alpha1.component_names import ComponentNames
from mcpproxy.api.v1alpha1.extensions import Extensions
from mcpproxy.api.v1alpha1.monitoring import Monitoring
from mcpproxy.api.v1alpha1.network_policy import NetworkPolicySpec
from mcpproxy.api.v1alpha1.pod_template import PodTemplate
from mcpproxy.api.v1alpha1.references import PrincipalFrom
from mcpproxy.api.v1alpha1.scaling import Autoscaling, DisruptionBudget

_MORE_THAN_LIMIT = "a request must not be higher than the limit of the same resource"


class Resources(ApiModel):
    """Compute resources of the runtime's container."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            cel_validation(
                "!has(self.limits) || !has(self.requests) || self.requests.all(r,"
                " !(r in self.limits) || quantity(string(self.requests[r]))"
                ".compareTo(quantity(string(self.limits[r]))) <= 0)",
                _MORE_THAN_LIMIT,
                ".requests",
            )
        )
    )
    limits: Annotated[dict[str, Quantity], Field(max_length=16)] | None = None
    """The most it may use, such as cpu: 500m (half a core) and memory: 256Mi. Default: no
    limits."""
    requests: Annotated[dict[str, Quantity], Field(max_length=16)] | None = None
    """What is reserved for it, such as cpu: 250m (a quarter of a core) and memory: 128Mi. Default:
    none, or the limits."""

    @model_validator(mode="after")
    def _within_limits(self) -> Self:
        limits = self.limits or {}
        for name, request in (self.requests or {}).items():
            if name in limits and parse_quantity(request) > parse_quantity(limits[name]):
                raise ValueError(f"requests.{name}: {_MORE_THAN_LIMIT}")
        return self


class ServiceSpec(ApiModel):
    """The Service that agents connect to."""

    type: Literal["ClusterIP", "NodePort", "LoadBalancer"] | None = None
    """Kind of the Service. Default: ClusterIP."""
    port: Port | None = None
    """Its port. Default: 80."""
    annotations: Annotated[dict[str, str], Field(max_length=64)] | None = None
    """Annotations of the Service, such as those that configure a load balancer. Default: none."""


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
    cel_validation(
        "self.filter(b, has(b.prefix) && b.prefix == '').size() <= 1",
        'at most one backend may have the prefix ""',
    ),
    cel_validation(
        "self.all(b, self.exists_one(o,"
        " (has(o.prefix) ? o.prefix : o.name) == (has(b.prefix) ? b.prefix : b.name)))",
        "two backends have the same prefix, give one of them another",
    ),
    **BY_NAME,
)


def _prefixes_differ(backends: list[BackendSpec]) -> list[BackendSpec]:
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


_NOT_BOTH = "replicas and autoscaling exclude each other, remove one of them"
_NO_REQUEST = "autoscaling by {0} needs resources.requests.{0} (or a limit)"

_NO_SCRAPERS = "monitoring.podMonitor needs scrapers here: the Prometheus that may read metrics"


def _requests(resource: str, wanted: str) -> dict[str, str]:
    """The rule that a container whose use of a resource is measured requests some of it."""
    given = f"has(self.resources.{{0}}) && '{resource}' in self.resources.{{0}}"
    return cel_validation(
        f"!has(self.autoscaling) || !({wanted}) || !has(self.resources)"
        f" || ({given.format('requests')}) || ({given.format('limits')})",
        _NO_REQUEST.format(resource),
        ".autoscaling",
    )


_SPEC_RULES = cel(
    cel_validation("!has(self.replicas) || !has(self.autoscaling)", _NOT_BOTH, ".autoscaling"),
    _requests(
        "cpu",
        "has(self.autoscaling.targetCPUUtilizationPercentage)"
        " || !has(self.autoscaling.targetMemoryUtilizationPercentage)",
    ),
    _requests("memory", "has(self.autoscaling.targetMemoryUtilizationPercentage)"),
    cel_validation(
        "!has(self.networkPolicy) || has(self.networkPolicy.scrapers)"
        " || !has(self.monitoring) || !has(self.monitoring.podMonitor)",
        _NO_SCRAPERS,
        ".networkPolicy",
    ),
)


class MCPProxySpec(ApiModel):
    """What the proxy serves and how it runs."""

    model_config = ConfigDict(json_schema_extra=_SPEC_RULES)
    backends: Annotated[
        list[BackendSpec],
        Field(min_length=1, max_length=64, json_schema_extra=_BACKENDS_RULES),
        AfterValidator(check_names_are_unique),
        AfterValidator(_prefixes_differ),
    ]
    """The MCP servers behind the proxy."""
    cache: Cache | None = None
    """How long lists of components are kept. Default: those of its fields."""
    catalog: CatalogSpec | None = None
    """The catalog that was approved, and what becomes of another one. Default: any is served."""
    extensions: Extensions | None = None
    """Which extensions of MCP pass. Default: all whose methods can be routed."""
    session: Session | None = None
    """How client requests share sessions with backends. Default: those of its fields."""
    names: ComponentNames | None = None
    """How components are named. Default: those of its fields."""
    replicas: Annotated[int, Field(ge=0, le=1000)] | None = None
    """Number of pods. Default: none, which leaves the number to others."""
    image: Annotated[str, Field(min_length=1, max_length=1024, pattern=r"^[!-~]+$")] | None = None
    """Image of the runtime. Default: the one the operator was installed with."""
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    """When the image is pulled. Default: Kubernetes' own."""
    image_pull_secrets: (
        Annotated[
            list[LocalObjectReference],
            Field(max_length=16, json_schema_extra=BY_NAME),
            AfterValidator(check_names_are_unique),
        ]
        | None
    ) = None
    """Secrets for pulling the image. Default: none."""
    resources: Resources | None = None
    """Compute resources of the runtime's container.
    Default: requests of 50m CPU and 128Mi memory, no limits."""
    autoscaling: Autoscaling | None = None
    """Lets a HorizontalPodAutoscaler set the number of pods, in place of replicas. Default:
    none."""
    disruption_budget: DisruptionBudget | None = None
    """Lets a PodDisruptionBudget limit evictions. Default: none, so that nothing does."""
    monitoring: Monitoring | None = None
    """How metrics of the pods are collected. Default: not at all."""
    network_policy: NetworkPolicySpec | None = None
    """Lets a NetworkPolicy close the pods to all but clients, the operator and the backends.
    Default: none, so that they are open."""
    pod_template: PodTemplate | None = None
    """Places the pods. Default: those of its fields."""
    service: ServiceSpec | None = None
    """The Service that agents connect to. Default: those of its fields."""
    suspend: bool | None = None
    """true makes the operator leave everything as it is; the status goes on. Default: false."""
    health: Health | None = None
    """How the state of backends is found out. Default: those of its fields."""
    allowed_hosts: Annotated[list[AllowedHost], Field(max_length=64)] | None = None
    """Values of the Host header that are served besides the Service's own names and localhost;
    `*.example.com` stands for all names below example.com, `*` for any. An entry with a port admits
    that port alone. Default: none."""
    allowed_origins: Annotated[list[AllowedOrigin], Field(max_length=64)] | None = None
    """Origins of pages that may call from browsers, such as https://app.example.com: scheme, host
    and port must be the same. `https://*.example.com` stands for all names below example.com, `*`
    for any but null. Default: none but pages of the host and port that the request is sent to."""
    principal_from: PrincipalFrom | None = None
    """The header in which an authenticating gateway in front names the user. Sessions, parked calls
    and private lists belong to that user, also when the token changes. Default: none; clients are
    told apart by a digest of Authorization, which is not verified."""

    @field_validator("network_policy")
    @classmethod
    def _scrapable(
        cls, given: NetworkPolicySpec | None, info: ValidationInfo
    ) -> NetworkPolicySpec | None:
        monitoring: Monitoring | None = info.data.get("monitoring")
        scraped = monitoring is not None and monitoring.pod_monitor is not None
        if given is not None and given.scrapers is None and scraped:
            raise ValueError(_NO_SCRAPERS)
        return given

    @field_validator("autoscaling")
    @classmethod
    def _scalable(cls, given: Autoscaling | None, info: ValidationInfo) -> Autoscaling | None:
        if given is None:
            return given
        if info.data.get("replicas") is not None:
            raise ValueError(_NOT_BOTH)
        resources: Resources | None = info.data.get("resources")
        for resource in given.measured if resources is not None else ():
            assert resources is not None
            if resource not in {**(resources.limits or {}), **(resources.requests or {})}:
                raise ValueError(_NO_REQUEST.format(resource))
        return given


NAME_MESSAGE = (
    "metadata.name must be a DNS label of at most 63 characters, since the proxy's Service and"
    " Deployment carry it: lower case letters, digits and -, beginning with a letter"
)


def _child_name(name: str) -> str:
    if not constants.is_dns_label(name):
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
