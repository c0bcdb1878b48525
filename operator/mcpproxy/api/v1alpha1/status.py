"""Models of the status, and of the pod reports that it is computed from.

An unknown count is absent; 0 means empty. A field changes only if something has changed.

Backends and pods choose these texts, lists and counts. Values that are too long or too large are
cut rather than refused, because a refused report would leave an outdated one in effect.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field

from mcpproxy.api.base import ApiModel
from mcpproxy.api.untrusted_text import clamp_count, cut_list, cut_text
from mcpproxy.limits.limit import Limit
from mcpproxy.limits.pods import (
    CONDITION_MESSAGE,
    REPORT_BACKENDS,
    REPORT_ISSUERS,
    REPORT_KINDS,
    REPORT_MESSAGE,
    REPORT_NAME,
    REPORT_NAMES,
    REPORT_WORD,
)

BackendState = Literal["Healthy", "Degraded", "Unhealthy", "Unauthorized", "RateLimited", "Unknown"]
ModeOrigin = Literal["Backend", "Proxy", "Transport"]
ConditionStatus = Literal["True", "False", "Unknown"]

NOT_SEEN: Final = -1
"""observedGeneration of an object that the operator has not seen yet."""


def _cut_text(limit: Limit) -> BeforeValidator:
    """Return a validator that cuts a text and replaces its control characters."""
    return BeforeValidator(
        lambda value: cut_text(value, limit) if isinstance(value, str) else value
    )


def _cut_list(limit: Limit) -> BeforeValidator:
    """Return a validator that keeps the first entries of a list."""
    return BeforeValidator(
        lambda value: cut_list(value, limit) if isinstance(value, list) else value
    )


def _clamp_count(count: Any) -> Any:
    """Return the count, or the nearest permitted count."""
    return clamp_count(count) if isinstance(count, int) else count


_Word = Annotated[str, _cut_text(REPORT_WORD)]
_Name = Annotated[str, _cut_text(REPORT_NAME)]
_Message = Annotated[str, _cut_text(REPORT_MESSAGE)]
_Names = Annotated[list[_Name], _cut_list(REPORT_NAMES)]
_Count = Annotated[int, BeforeValidator(_clamp_count)]

_BY_NAME = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
_BY_TYPE = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}


class ComponentCounts(ApiModel):
    """Number of components of each kind. A count is absent if it is unknown, or if the kind is not
    offered (see notOffered)."""

    tools: _Count | None = None
    """Number of tools."""
    prompts: _Count | None = None
    """Number of prompts."""
    resources: _Count | None = None
    """Number of resources."""
    resource_templates: _Count | None = None
    """Number of resource templates."""


class ServerInfo(ApiModel):
    """Name and version that a backend reports."""

    name: _Name
    """Name of the server."""
    version: _Name | None = None
    """Version of the server."""


class BackendStatus(ApiModel):
    """Observed state of one backend."""

    name: _Name
    """Name of the backend."""
    state: BackendState
    """State that most pods report: Healthy, Degraded (up to half of the pods cannot use the
    backend), Unhealthy, Unauthorized, RateLimited (components that were already listed are still
    served) or Unknown (not tried yet)."""
    reason: _Word | None = None
    """Cause of the state, in one CamelCase word."""
    message: _Message | None = None
    """Cause of the state, in a sentence."""
    protocol_version: _Word | None = None
    """MCP revision that is used with the backend."""
    transport: Literal["streamable-http", "sse", "stdio"] | None = None
    """Transport that is used with the backend."""
    server: ServerInfo | None = None
    """Name and version that the backend reports."""
    session: Literal["Stateless", "Stateful"] | None = None
    """Stateful if the backend keeps sessions, otherwise Stateless."""
    session_mode: _Word | None = None
    """Session mode in effect for the backend."""
    session_mode_from: ModeOrigin | None = None
    """Origin of the session mode: Backend (the backend's session.mode), Proxy (the mode of
    spec.session) or Transport (the default, which is PerClient for stdio and Isolated for HTTP)."""
    components: ComponentCounts | None = None
    """Number of components that the backend offers. While it is unknown, the field is absent, and
    reason and message state the cause."""
    not_offered: Annotated[list[_Word], _cut_list(REPORT_KINDS)] | None = None
    """Kinds of components that the backend does not offer and that therefore have no count."""


class DriftedComponents(ApiModel):
    """Components that differ from the approved catalog in one way."""

    count: _Count
    """Number of components."""
    names: _Names
    """The first of the components, as `kind: name`."""


class CatalogDrift(ApiModel):
    """Differences between the components that the backends offer and the approved ones."""

    new: DriftedComponents | None = None
    """Components that were not approved in any form."""
    changed: DriftedComponents | None = None
    """Components that were approved in another form."""
    gone: DriftedComponents | None = None
    """Approved components that are not offered; absent while a backend's components are unknown."""


class IssuerStatus(ApiModel):
    """State of the keys of one issuer of tokens, or of the API keys."""

    issuer: _Message
    """URL of the issuer, serviceAccounts or apiKeys."""
    keys: _Count
    """Number of known keys."""
    message: _Message | None = None
    """Cause for which keys could not be read lately; absent if they could."""
    keys_from: _Word | None = None
    """Time at which the keys were read last; present if they could not be read lately."""


class AuthorizationReport(ApiModel):
    """Rules of one pod, and their relation to its catalog."""

    rules: _Count
    """Number of rules."""
    classes: _Count
    """Number of sets of rules that applied to callers lately."""
    unused: _Names | None = None
    """Entries of rules that cover no component; absent while some components are unknown."""


class LimitsReport(ApiModel):
    """Limits on calls in one pod."""

    rules: _Count
    """Number of rules."""
    unused: _Names | None = None
    """Rules that cover no tool; absent while some tools are unknown."""
    failure: _Message | None = None
    """Cause for which calls can't be counted together with other pods at present."""


class PodReport(ApiModel):
    """Report of one pod's runtime, as served at `/status`."""

    config_hash: _Word
    """SHA-256 of the manifest that the pod runs with, in hexadecimal."""
    version: _Name
    """Version of the runtime."""
    backends: Annotated[list[BackendStatus], _cut_list(REPORT_BACKENDS)]
    """State of every backend as seen from this pod, in the order of their names."""
    catalog_hash: _Word | None = None
    """SHA-256 of all offered components; absent while some are unknown."""
    drift: CatalogDrift | None = None
    """Differences from the approved components; absent if none are approved."""
    clashes: Annotated[_Names, Field(default_factory=list)]
    """Names that two backends claim; the backend whose name sorts first serves them."""
    authentication: Annotated[list[IssuerStatus], _cut_list(REPORT_ISSUERS)] | None = None
    """State of the keys of every issuer; absent without spec.authentication."""
    authorization: AuthorizationReport | None = None
    """State of the rules; absent without spec.authorization."""
    limits: LimitsReport | None = None
    """State of the limits on calls; absent without spec.limits."""


class Condition(ApiModel):
    """A condition, as in metav1.Condition of Kubernetes."""

    type: Annotated[str, Field(max_length=316)]
    """Type of the condition."""
    status: ConditionStatus
    """Status of the condition: True, False or Unknown."""
    observed_generation: int | None = None
    """Generation of the spec that the condition describes."""
    last_transition_time: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    """Time at which the status of the condition last changed."""
    reason: Annotated[str, Field(max_length=1024, min_length=1)]
    """Cause of the status, in one CamelCase word."""
    message: Annotated[str, Field(max_length=32768), _cut_text(CONDITION_MESSAGE)]
    """Cause of the status, in a sentence."""


class Address(ApiModel):
    """A URL at which clients reach the proxy."""

    type: Literal["Public", "InCluster"]
    """Public for publicUrl, or InCluster for the Service."""
    url: str
    """The URL."""


class MCPProxyStatus(ApiModel):
    """Observed state of the proxy. Only the operator writes it."""

    observed_generation: int | None = None
    """Generation of the spec that this status describes."""
    conditions: Annotated[list[Condition], Field(json_schema_extra=_BY_TYPE)] | None = None
    """Accepted, Available, BackendsHealthy and Ready. Reconciling and Stalled are present only
    while abnormal, Suspended only while suspended, Autoscaled only with autoscaling, Monitored only
    with a PodMonitor, CatalogDrift only with an approved catalog, AuthenticationReady only with
    authentication, RulesUnused only with authorization rules, Exposed only with expose, and
    LimitsEnforced only with limits."""
    summary: str | None = None
    """State of the proxy in short: Serving, Degraded, Updating, Paused, Pending, Stalled, Failing,
    Unknown, Scaled to 0, Suspended or Terminating."""
    pods: str | None = None
    """Number of ready pods out of the desired pods, such as 2/3."""
    url: str | None = None
    """URL that clients connect to: publicUrl or, without it, that of the Service; absent until the
    proxy has been Ready once."""
    addresses: Annotated[list[Address], Field(json_schema_extra=_BY_TYPE)] | None = None
    """URLs that clients connect to: publicUrl, if it is set, and that of the Service; absent until
    the proxy has been Ready once."""
    replicas: int | None = None
    """Number of pods."""
    ready_replicas: int | None = None
    """Number of ready pods."""
    selector: str | None = None
    """Label selector of the pods, for autoscalers."""
    session_mode: str | None = None
    """Session modes in effect, such as `Isolated, PerClient (stdio)`; (stdio) marks the default of
    stdio servers. The mode of each backend is in backends."""
    backends_healthy: str | None = None
    """Number of Healthy backends out of all backends, such as 2/3."""
    backends: Annotated[list[BackendStatus], Field(json_schema_extra=_BY_NAME)] | None = None
    """Observed state of each backend."""
    components: ComponentCounts | None = None
    """Totals over the backends whose counts are known; see backendsCounted."""
    backends_counted: str | None = None
    """Number of backends whose components are all included in the totals, such as 2/3; absent while
    there are no totals."""
    catalog_hash: str | None = None
    """SHA-256 of all components that the backends offer, as clients would see them if none were
    withheld; absent while a backend's components are unknown or pods differ."""
