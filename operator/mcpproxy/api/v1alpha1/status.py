"""MCPProxy v1alpha1: the status, and the report of one pod that it is made from.

A count that is not known is absent; 0 means empty. No field changes while nothing changes.

Backends and pods choose these texts, lists and counts: whatever is too long or too large is cut,
and never refused, as one report that is refused would leave an old one in force.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field

from mcpproxy.api.base import ApiModel
from mcpproxy.api.untrusted_text import clean_text
from mcpproxy.limits.limit import Limit
from mcpproxy.limits.pods import (
    CONDITION_MESSAGE,
    REPORT_BACKENDS,
    REPORT_COUNT,
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
NOT_LISTED: Final = "NotListed"
"""Reason of a backend that is RateLimited before all that it offers was listed."""
LIST_FAILED: Final = "ListFailed"
"""Reason of a backend that is Healthy but for some of its lists."""
CHANGES_UNHEARD: Final = "ChangesUnheard"
"""Reason of a backend that is Healthy, and whose announcements can't be received."""


def _text(limit: Limit) -> BeforeValidator:
    """Cut a text and replace its control characters."""

    def cut(given: Any) -> Any:
        if not isinstance(given, str):
            return given
        if len(given) > limit.value:
            limit.record()
        return clean_text(given, limit.value)

    return BeforeValidator(cut)


def _list(limit: Limit) -> BeforeValidator:
    """Keep the first entries of a list."""

    def cut(given: Any) -> Any:
        if not isinstance(given, list) or len(given) <= limit.value:
            return given
        limit.record()
        return given[: limit.value]

    return BeforeValidator(cut)


def _within(given: Any) -> Any:
    """The count, or the nearest one that is permitted."""
    if not isinstance(given, int) or 0 <= given <= REPORT_COUNT.value:
        return given
    REPORT_COUNT.record()
    return min(max(given, 0), REPORT_COUNT.value)


_Word = Annotated[str, _text(REPORT_WORD)]
_Name = Annotated[str, _text(REPORT_NAME)]
_Message = Annotated[str, _text(REPORT_MESSAGE)]
_Names = Annotated[list[_Name], _list(REPORT_NAMES)]
_Count = Annotated[int, BeforeValidator(_within)]

_BY_NAME = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
_BY_TYPE = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}


class ComponentCounts(ApiModel):
    """How many components there are; absent means not known, or not offered: see notOffered."""

    tools: _Count | None = None
    """Tools."""
    prompts: _Count | None = None
    """Prompts."""
    resources: _Count | None = None
    """Resources."""
    resource_templates: _Count | None = None
    """Resource templates."""


class ServerInfo(ApiModel):
    """How a backend introduces itself."""

    name: _Name
    """Name of the server."""
    version: _Name | None = None
    """Version of the server."""


class BackendStatus(ApiModel):
    """What is known of one backend."""

    name: _Name
    """Name of the backend."""
    state: BackendState
    """What most pods see: Healthy, Degraded (up to half of the pods don't reach it), Unhealthy,
    Unauthorized, RateLimited (what was listed is served on) or Unknown (not tried yet)."""
    reason: _Word | None = None
    """Why it is not Healthy, in one CamelCase word."""
    message: _Message | None = None
    """Why it is not Healthy, in a sentence."""
    protocol_version: _Word | None = None
    """Revision of MCP that is spoken to it."""
    transport: Literal["streamable-http", "sse", "stdio"] | None = None
    """How it is reached."""
    server: ServerInfo | None = None
    """How it introduces itself."""
    session: Literal["Stateless", "Stateful"] | None = None
    """Whether it keeps sessions."""
    session_mode: _Word | None = None
    """Session mode in force for it."""
    session_mode_from: ModeOrigin | None = None
    """Where that comes from: Backend, its own session.mode; Proxy, that of spec.session;
    Transport, the default, which is PerClient for stdio and Isolated for HTTP."""
    components: ComponentCounts | None = None
    """How many components it offers; absent while that is not known, for which reason and message
    say why."""
    not_offered: Annotated[list[_Word], _list(REPORT_KINDS)] | None = None
    """Kinds of components that it does not offer at all, which is why they have no count."""


class DriftedComponents(ApiModel):
    """Components that differ in one way from what was approved."""

    count: _Count
    """How many there are."""
    names: _Names
    """The first of them, as `kind: name`."""


class CatalogDrift(ApiModel):
    """How what the backends offer differs from what was approved."""

    new: DriftedComponents | None = None
    """Those that were not approved under any form."""
    changed: DriftedComponents | None = None
    """Those of which another form was approved."""
    gone: DriftedComponents | None = None
    """Those that were approved and are not offered; absent while a backend is not known."""


class PodReport(ApiModel):
    """What the runtime of one pod says at `/status`."""

    config_hash: _Word
    """Which configuration it runs: the SHA-256 of the manifest's bytes, hexadecimal."""
    version: _Name
    """Version of the runtime."""
    backends: Annotated[list[BackendStatus], _list(REPORT_BACKENDS)]
    """Its view of every backend, in the order of their names."""
    catalog_hash: _Word | None = None
    """SHA-256 over all that is offered; absent while a part is not known."""
    drift: CatalogDrift | None = None
    """What differs from the components that were approved; absent where none were."""
    clashes: Annotated[_Names, Field(default_factory=list)]
    """Names that two backends claim; the first backend by name serves them."""


class Condition(ApiModel):
    """One condition, as in Kubernetes' metav1.Condition."""

    type: Annotated[str, Field(max_length=316)]
    """Its name."""
    status: ConditionStatus
    """True, False or Unknown."""
    observed_generation: int | None = None
    """The generation of the spec that it speaks of."""
    last_transition_time: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    """When the status last changed."""
    reason: Annotated[str, Field(max_length=1024, min_length=1)]
    """Why, in one CamelCase word."""
    message: Annotated[str, Field(max_length=32768), _text(CONDITION_MESSAGE)]
    """Why, in a sentence."""


class MCPProxyStatus(ApiModel):
    """What is known of the proxy; written by the operator alone."""

    observed_generation: int | None = None
    """The generation of the spec that this status speaks of."""
    conditions: Annotated[list[Condition], Field(json_schema_extra=_BY_TYPE)] | None = None
    """Accepted, Available, BackendsHealthy and Ready; Reconciling and Stalled
    only while abnormal; Suspended only while suspended, Autoscaled and Monitored only with
    autoscaling and a PodMonitor, CatalogDrift only with an approved catalog."""
    summary: str | None = None
    """How the proxy does, in a word or two: Serving, Degraded, Updating, Paused, Pending, Stalled,
    NotReady, Unknown, Scaled to 0, Suspended or Terminating."""
    pods: str | None = None
    """Ready pods of those that are asked for, such as 2/3."""
    url: str | None = None
    """Where agents connect; absent until the proxy was Ready once."""
    replicas: int | None = None
    """Number of pods."""
    ready_replicas: int | None = None
    """Number of ready pods."""
    selector: str | None = None
    """Label selector of the pods, for autoscalers."""
    session_mode: str | None = None
    """Session modes in force, such as `Isolated, PerClient (stdio)`: the latter is the default of
    backends on standard streams. That of each backend is in backends."""
    backends_healthy: str | None = None
    """How many backends are Healthy, such as 2/3."""
    backends: Annotated[list[BackendStatus], Field(json_schema_extra=_BY_NAME)] | None = None
    """What is known of each backend."""
    components: ComponentCounts | None = None
    """Totals over the backends whose counts are known: see backendsCounted."""
    backends_counted: str | None = None
    """How many backends are in the totals with all that they offer, such as 2/3; absent while there
    are no totals."""
    catalog_hash: str | None = None
    """SHA-256 over all that the backends offer, as clients would see it and before anything is
    withheld; absent while a backend is not known or pods differ."""
