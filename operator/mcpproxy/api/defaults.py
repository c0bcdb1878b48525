"""What an absent field means. The docs quote these values; the schema carries none of them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from mcpproxy.api import constants
from mcpproxy.api.kubernetes.quantities import parse_duration
from mcpproxy.api.v1alpha1 import (
    Autoscaling,
    BackendSpec,
    MCPProxySpec,
    OnClash,
    Protocol,
    SessionMode,
    Transport,
)
from mcpproxy.api.v1alpha1.component_filters import Components, NamedComponents
from mcpproxy.api.v1alpha1.status import ModeOrigin

CACHE_TTL: Final = "300s"
SESSION_MODE: Final[SessionMode] = "Isolated"
STDIO_SESSION_MODE: Final[SessionMode] = "PerClient"
"""A program on standard streams is launched by its client, to be used by that client alone."""
ON_CLASH: Final[OnClash] = "First"
CONNECT: Final = "5s"
INITIALIZE: Final = "10s"
INITIALIZE_PROGRAM: Final = "60s"
"""Programs load what they need first; some are installed only now."""
REQUEST: Final = "300s"
IDLE: Final = "30m"
HEALTH_INTERVAL: Final = "10s"
HEALTH_TIMEOUT: Final = "5s"
UNHEALTHY_AFTER: Final = 2
HEALTHY_AFTER: Final = 1
MIN_REPLICAS: Final = 1
SCALE_DOWN_AFTER: Final = "5m"
_TRACE: Final = frozenset({"traceparent", "tracestate"})
_CREDENTIALS: Final = frozenset({"authorization", "cookie"})


@dataclass(frozen=True, slots=True)
class EffectiveTimeouts:
    """How long each wait on a backend may last, in seconds."""

    connect: float
    initialize: float
    request: float
    idle: float


@dataclass(frozen=True, slots=True)
class HealthPolicy:
    """How the state of backends is found out; times in seconds."""

    interval: float
    timeout: float
    unhealthy_after: int
    healthy_after: int


@dataclass(frozen=True, slots=True)
class BackendSettings:
    """What holds for one backend once the defaults are filled in."""

    prefix: str
    transport: Transport
    protocol: Protocol
    session_mode: SessionMode
    session_mode_from: ModeOrigin
    declared_stateless: bool
    cache_ttl: float
    deadlines: EffectiveTimeouts
    optional: bool
    components: Mapping[str, Components | NamedComponents] = field(default_factory=dict)
    """Member of list results (tools, ...) → what is shown of them."""
    withdrawn: frozenset[str] = frozenset()
    """Features of clients that the backend gets to see nothing of."""
    unverified: bool = False
    """Any certificate of it is taken."""
    passed: frozenset[bytes] = frozenset()
    """Headers of clients that it gets, in lower case."""
    denied: frozenset[str] = frozenset()
    """Extensions that neither the backend nor its clients get to see."""
    accepts_bare_names: bool = False
    """Whether its tools can be called without the prefix."""
    guarded: bool = False
    """Whether only clients have the credentials that it may ask for."""


def effective_timeouts(backend: BackendSpec) -> EffectiveTimeouts:
    """The backend's timeouts in seconds."""
    given = backend.timeouts
    initialize = INITIALIZE if backend.stdio is None else INITIALIZE_PROGRAM
    return EffectiveTimeouts(
        connect=parse_duration((given and given.connect) or CONNECT),
        initialize=parse_duration((given and given.initialize) or initialize),
        request=parse_duration((given and given.request) or REQUEST),
        idle=parse_duration((given and given.idle) or IDLE),
    )


def name_prefix(backend: BackendSpec) -> str:
    """The prefix of the backend's components; never depends on other backends."""
    return backend.name if backend.prefix is None else backend.prefix


def session_mode(spec: MCPProxySpec, backend: BackendSpec) -> tuple[SessionMode, ModeOrigin]:
    """The session mode in force for a backend, and where it comes from."""
    if backend.session is not None and backend.session.mode is not None:
        return backend.session.mode, "Backend"
    if spec.session is not None and spec.session.mode is not None:
        return spec.session.mode, "Proxy"
    return SESSION_MODE if backend.stdio is None else STDIO_SESSION_MODE, "Transport"


def session_modes(spec: MCPProxySpec) -> str:
    """The session modes in force, such as `Isolated, PerClient (stdio)`."""
    found: dict[SessionMode, set[str]] = {}
    for backend in spec.backends:
        mode, origin = session_mode(spec, backend)
        of_stdio = origin == "Transport" and backend.stdio is not None
        found.setdefault(mode, set()).add(" (stdio)" if of_stdio else "")
    # Named is what stands in no manifest.
    return ", ".join(mode + min(why) for mode, why in sorted(found.items()))


def clash_policy(spec: MCPProxySpec) -> OnClash:
    """What becomes of a name that two backends list."""
    return (spec.names and spec.names.on_clash) or ON_CLASH


def effective_settings(spec: MCPProxySpec, backend: BackendSpec) -> BackendSettings:
    """What holds for `backend`, from its own fields, those of `spec` and the defaults."""
    mode, mode_from = session_mode(spec, backend)
    own, cache = backend.session, backend.cache
    ttl = (cache and cache.ttl) or (spec.cache and spec.cache.ttl) or CACHE_TTL
    return BackendSettings(
        prefix=name_prefix(backend),
        transport=backend.transport or "auto",
        protocol=backend.protocol or "auto",
        session_mode=mode,
        session_mode_from=mode_from,
        declared_stateless=bool(own and own.stateless),
        cache_ttl=parse_duration(ttl),
        deadlines=effective_timeouts(backend),
        optional=bool(backend.optional),
        components=_chosen(backend),
        withdrawn=disabled_features(backend),
        unverified=bool(backend.tls and backend.tls.insecure_skip_verify),
        passed=forwarded_headers(spec, backend),
        guarded=needs_client_credentials(backend),
        denied=denied_extensions(spec),
        accepts_bare_names=bool(backend.names and backend.names.bare == "Accept"),
    )


def denied_extensions(spec: MCPProxySpec) -> frozenset[str]:
    """The extensions that are neither advertised nor routed."""
    return frozenset((spec.extensions and spec.extensions.deny) or ())


def forwarded_headers(spec: MCPProxySpec, backend: BackendSpec) -> frozenset[bytes]:
    """The headers of clients that the backend gets; our own spans say of which trace they are."""
    own = _TRACE if spec.monitoring and spec.monitoring.tracing else frozenset()
    named = (name.lower() for name in backend.forward_headers or ())
    return frozenset(name.encode("ascii") for name in named if name not in own)


def needs_client_credentials(backend: BackendSpec) -> bool:
    """Whether a request of our own that the backend refuses (HTTP 401) may be fit for a client."""
    named = {name.lower() for name in backend.forward_headers or ()}
    return bool(named) and (not backend.headers or not named.isdisjoint(_CREDENTIALS))


def _chosen(backend: BackendSpec) -> dict[str, Components | NamedComponents]:
    found = {
        "tools": backend.tools,
        "prompts": backend.prompts,
        "resources": backend.resources,
        "resourceTemplates": backend.resource_templates,
    }
    return {member: chosen for member, chosen in found.items() if chosen is not None}


def disabled_features(backend: BackendSpec) -> frozenset[str]:
    """Features of clients that the backend gets to see nothing of."""
    if backend.forward is None:
        return frozenset()
    return frozenset(k for k, passes in backend.forward.model_dump().items() if passes is False)


def health_policy(spec: MCPProxySpec) -> HealthPolicy:
    """The health policy of the proxy."""
    given = spec.health
    return HealthPolicy(
        interval=parse_duration((given and given.interval) or HEALTH_INTERVAL),
        timeout=parse_duration((given and given.timeout) or HEALTH_TIMEOUT),
        unhealthy_after=(given and given.unhealthy_after) or UNHEALTHY_AFTER,
        healthy_after=(given and given.healthy_after) or HEALTHY_AFTER,
    )


def service_port(spec: MCPProxySpec) -> int:
    """The Service's port."""
    return (spec.service and spec.service.port) or constants.PORT_SERVICE


def scale_down_seconds(autoscaling: Autoscaling) -> int:
    """How long fewer pods must have been enough, in whole seconds as Kubernetes has it."""
    return math.ceil(parse_duration(autoscaling.scale_down_after or SCALE_DOWN_AFTER))
