"""Models of the spec. The CRD is generated from them (`mcpproxy crd`).

The schema contains no defaults, so nothing is ever written into a user's object; GitOps tools would
show that as drift. `api.defaults` defines what absent fields mean.
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
    check_names_are_unique,
)
from mcpproxy.api.v1alpha1.access.authorization import Authorization
from mcpproxy.api.v1alpha1.access.identities import (
    AUTHENTICATION_RULES,
    check_authentication,
)
from mcpproxy.api.v1alpha1.access.limits import Limits
from mcpproxy.api.v1alpha1.access.urls import BaseUrl
from mcpproxy.api.v1alpha1.audit import Audit
from mcpproxy.api.v1alpha1.authentication import Authentication
from mcpproxy.api.v1alpha1.backend import BackendSpec, Cache, Session
from mcpproxy.api.v1alpha1.catalog import CatalogSpec
from mcpproxy.api.v1alpha1.component_filters import ComponentNames
from mcpproxy.api.v1alpha1.exposure.routes import (
    EXPOSE_RULES,
    Expose,
    ServiceSpec,
    check_policy_admits,
    check_public_url,
)
from mcpproxy.api.v1alpha1.extensions import Extensions
from mcpproxy.api.v1alpha1.monitoring import Monitoring
from mcpproxy.api.v1alpha1.pods.network_policy import NetworkPolicySpec
from mcpproxy.api.v1alpha1.pods.pod_template import PodTemplate
from mcpproxy.api.v1alpha1.pods.scaling import Autoscaling, DisruptionBudget
from mcpproxy.api.v1alpha1.references import PrincipalFrom

_MORE_THAN_LIMIT = "a request must not be greater than the limit of the same resource"


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
    """Maximum amount of each resource, such as cpu: 500m (half a core) and memory: 256Mi. Default:
    no limits."""
    requests: Annotated[dict[str, Quantity], Field(max_length=16)] | None = None
    """Reserved amount of each resource, such as cpu: 250m (a quarter of a core) and memory: 128Mi.
    Default: none, or the limits."""

    @model_validator(mode="after")
    def _check_requests_are_within_limits(self) -> Self:
        limits = self.limits or {}
        for name, request in (self.requests or {}).items():
            if name in limits and parse_quantity(request) > parse_quantity(limits[name]):
                raise ValueError(f"requests.{name}: {_MORE_THAN_LIMIT}")
        return self


class LocalObjectReference(ApiModel):
    """A reference to an object in the namespace of the MCPProxy."""

    name: ObjectName
    """Name of the object."""


class Health(ApiModel):
    """Health checks of the backends."""

    interval: PositiveDuration | None = None
    """Time between two checks of a backend. Default: 10s."""
    timeout: PositiveDuration | None = None
    """Timeout of a check. Default: 5s."""
    unhealthy_after: Annotated[int, Field(ge=1, le=100)] | None = None
    """Consecutive failed checks after which a backend is Unhealthy. Default: 2."""
    healthy_after: Annotated[int, Field(ge=1, le=100)] | None = None
    """Consecutive successful checks after which a backend is Healthy again. Default: 1."""


_BACKENDS_RULES = cel(
    cel_validation(
        "self.filter(b, has(b.prefix) && b.prefix == '').size() <= 1",
        'at most one backend can have the prefix ""',
    ),
    cel_validation(
        "self.all(b, self.exists_one(o,"
        " (has(o.prefix) ? o.prefix : o.name) == (has(b.prefix) ? b.prefix : b.name)))",
        "two backends have the same prefix; change one of them",
    ),
    **BY_NAME,
)


def _check_prefixes_are_unique(backends: list[BackendSpec]) -> list[BackendSpec]:
    backend_of_prefix: dict[str, str] = {}
    for backend in backends:
        prefix = backend.name if backend.prefix is None else backend.prefix
        if prefix in backend_of_prefix:
            both = f"{backend_of_prefix[prefix]} and {backend.name}"
            raise ValueError(f'backends {both} have the same prefix "{prefix}"; change one of them')
        backend_of_prefix[prefix] = backend.name
    return backends


_NOT_BOTH = "replicas and autoscaling are mutually exclusive; remove one of them"
_NO_REQUEST = "autoscaling by {0} requires resources.requests.{0} (or a limit)"

_NO_SCRAPERS = (
    "monitoring.podMonitor requires scrapers: the pods of the Prometheus server that scrapes the"
    " metrics"
)
_NO_IDENTITY = (
    "without authentication every caller is anonymous, and this rule never applies: add"
    " authentication, or anonymous: true or any: true in who"
)


def _resource_rule(resource: str, wanted: str) -> dict[str, str]:
    """Return the rule that the container requests, or limits, a resource by which it is scaled."""
    rule = f"has(self.resources.{{0}}) && '{resource}' in self.resources.{{0}}"
    return cel_validation(
        f"!has(self.autoscaling) || !({wanted}) || !has(self.resources)"
        f" || ({rule.format('requests')}) || ({rule.format('limits')})",
        _NO_REQUEST.format(resource),
        ".autoscaling",
    )


_SPEC_RULES = cel(
    cel_validation("!has(self.replicas) || !has(self.autoscaling)", _NOT_BOTH, ".autoscaling"),
    _resource_rule(
        "cpu",
        "has(self.autoscaling.targetCPUUtilizationPercentage)"
        " || !has(self.autoscaling.targetMemoryUtilizationPercentage)",
    ),
    _resource_rule("memory", "has(self.autoscaling.targetMemoryUtilizationPercentage)"),
    cel_validation(
        "!has(self.networkPolicy) || has(self.networkPolicy.scrapers)"
        " || !has(self.monitoring) || !has(self.monitoring.podMonitor)",
        _NO_SCRAPERS,
        ".networkPolicy",
    ),
    cel_validation(
        "!has(self.authorization) || !has(self.authorization.rules) || has(self.authentication)"
        " || self.authorization.rules.all(r, (has(r.who.anonymous) && r.who.anonymous)"
        " || (has(r.who.any) && r.who.any))",
        _NO_IDENTITY,
        ".authorization",
    ),
    *AUTHENTICATION_RULES,
    *EXPOSE_RULES,
)


class MCPProxySpec(ApiModel):
    """Desired state of the proxy."""

    model_config = ConfigDict(json_schema_extra=_SPEC_RULES)
    backends: Annotated[
        list[BackendSpec],
        Field(min_length=1, max_length=64, json_schema_extra=_BACKENDS_RULES),
        AfterValidator(check_names_are_unique),
        AfterValidator(_check_prefixes_are_unique),
    ]
    """The MCP servers behind the proxy."""
    cache: Cache | None = None
    """Caching of component lists. Default: each field's own default."""
    catalog: CatalogSpec | None = None
    """The approved catalog, and how drift from it is handled. Default: none; any catalog is
    served."""
    extensions: Extensions | None = None
    """MCP extensions that pass between clients and backends. Default: all extensions whose methods
    can be routed."""
    session: Session | None = None
    """Sharing of backend sessions among client requests. Default: each field's own default."""
    names: ComponentNames | None = None
    """Naming of components across all backends. Default: each field's own default."""
    replicas: Annotated[int, Field(ge=0, le=1000)] | None = None
    """Number of pods. Default: none, which leaves the number to other managers."""
    image: Annotated[str, Field(min_length=1, max_length=1024, pattern=r"^[!-~]+$")] | None = None
    """Image of the runtime. Default: the image that the operator was installed with."""
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    """Pull policy of the image. Default: the default of Kubernetes."""
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
    """Lets a HorizontalPodAutoscaler set the number of pods, instead of replicas. Default: none."""
    disruption_budget: DisruptionBudget | None = None
    """Lets a PodDisruptionBudget limit evictions. Default: none; evictions are not limited."""
    monitoring: Monitoring | None = None
    """Collection of metrics and traces from the pods. Default: none."""
    network_policy: NetworkPolicySpec | None = None
    """Lets a NetworkPolicy restrict the traffic of the pods to clients, the operator and the
    backends. Default: none; traffic is not restricted."""
    pod_template: PodTemplate | None = None
    """Metadata, scheduling and security of the pods. Default: each field's own default."""
    service: ServiceSpec | None = None
    """The Service that clients connect to. Default: each field's own default."""
    suspend: bool | None = None
    """true stops the operator from changing any object; it still updates the status. Default:
    false."""
    health: Health | None = None
    """Health checks of the backends. Default: each field's own default."""
    allowed_hosts: Annotated[list[AllowedHost], Field(max_length=64)] | None = None
    """Values of the Host header that are accepted in addition to the Service's own names and
    localhost. `*.example.com` matches all names below example.com, and `*` matches any host. An
    entry with a port matches only that port. Default: none."""
    allowed_origins: Annotated[list[AllowedOrigin], Field(max_length=64)] | None = None
    """Origins of web pages that may call the proxy from a browser, such as https://app.example.com.
    Scheme, host and port must match. `https://*.example.com` matches all names below example.com,
    and `*` matches any origin except null. Default: only pages from the host and port that the
    request is sent to."""
    public_url: BaseUrl | None = None
    """URL at which clients reach the proxy, such as https://mcp.example.com/tools. It is the
    resource and the default audience of tokens, and the status shows it. Its host is added to
    allowedHosts, and its path is served in addition to /mcp. The proxy never derives it from
    headers of requests. Default: none; the status shows the Service's own URL."""
    expose: Expose | None = None
    """Creates the HTTPRoute or Ingress that routes requests for publicUrl to the proxy; the
    condition Exposed reports its state. Default: none; clients reach the proxy only through its
    Service."""
    authentication: Authentication | None = None
    """Authentication of clients. Default: none; every client that reaches the Service is served."""
    authorization: Authorization | None = None
    """Permissions of callers to list and use components. Default: none; every caller may use all of
    them."""
    limits: Limits | None = None
    """Limits on the calls of each caller, to each backend, or of all callers together. Default:
    none; the number of calls is not limited."""
    audit: Audit | None = None
    """Records of calls, denied calls and failed authentications. Default: none; nothing is
    recorded."""
    principal_from: PrincipalFrom | None = None
    """Header in which an authenticating gateway in front of the proxy names the user. Sessions,
    parked calls and private lists belong to that user, even if the token changes. Default: none;
    clients are distinguished by a digest of Authorization, which is not verified."""

    @field_validator("authorization")
    @classmethod
    def _check_callers_have_an_identity(
        cls, authorization: Authorization | None, info: ValidationInfo
    ) -> Authorization | None:
        rules = authorization.rules if authorization is not None else None
        if info.data.get("authentication", ...) is None:
            for rule in rules or ():
                if not rule.who.includes_anonymous:
                    raise ValueError(f"rule {rule.name}: {_NO_IDENTITY}")
        return authorization

    @model_validator(mode="after")
    def _check_authentication(self) -> Self:
        check_authentication(
            self.authentication, self.public_url, self.principal_from, self.backends
        )
        return self

    @field_validator("expose")
    @classmethod
    def _check_exposure(cls, expose: Expose | None, info: ValidationInfo) -> Expose | None:
        if expose is not None and "public_url" in info.data:
            check_public_url(info.data["public_url"])
        policy: NetworkPolicySpec | None = info.data.get("network_policy")
        if expose is not None and policy is not None:
            check_policy_admits(policy.clients)
        return expose

    @field_validator("network_policy")
    @classmethod
    def _check_scrapers(
        cls, network_policy: NetworkPolicySpec | None, info: ValidationInfo
    ) -> NetworkPolicySpec | None:
        monitoring: Monitoring | None = info.data.get("monitoring")
        scraped = monitoring is not None and monitoring.pod_monitor is not None
        if network_policy is not None and network_policy.scrapers is None and scraped:
            raise ValueError(_NO_SCRAPERS)
        return network_policy

    @field_validator("autoscaling")
    @classmethod
    def _check_autoscaling(
        cls, autoscaling: Autoscaling | None, info: ValidationInfo
    ) -> Autoscaling | None:
        if autoscaling is None:
            return autoscaling
        if info.data.get("replicas") is not None:
            raise ValueError(_NOT_BOTH)
        resources: Resources | None = info.data.get("resources")
        for resource in autoscaling.measured if resources is not None else ():
            assert resources is not None
            if resource not in {**(resources.limits or {}), **(resources.requests or {})}:
                raise ValueError(_NO_REQUEST.format(resource))
        return autoscaling


NAME_MESSAGE = (
    "metadata.name must be a DNS label of at most 63 characters, because the operator names the"
    " proxy's Service and Deployment after it: lower case letters, digits and -, starting with a"
    " letter"
)


def _check_name(name: str) -> str:
    if not constants.is_dns_label(name):
        raise ValueError(NAME_MESSAGE)
    return name


class ObjectMeta(ApiModel):
    """The part of the object's metadata that the proxy uses."""

    model_config = ConfigDict(extra="ignore")
    name: Annotated[str, AfterValidator(_check_name)]
    namespace: NamespaceName | None = None


class MCPProxy(ApiModel):
    """An MCP endpoint that serves the components of several MCP servers."""

    model_config = ConfigDict(extra="ignore")
    api_version: Literal["mcpproxy.dev/v1alpha1"]
    kind: Literal["MCPProxy"]
    metadata: ObjectMeta
    spec: MCPProxySpec
