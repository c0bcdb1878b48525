"""Defaults of absent fields. The documentation quotes these values; the schema contains none."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from mcpproxy.api import constants
from mcpproxy.api.kubernetes.durations import parse_duration

if TYPE_CHECKING:
    from mcpproxy.api.v1alpha1 import (
        Autoscaling,
        BackendSpec,
        MCPProxySpec,
        OnClash,
        Protocol,
        Results,
        SessionMode,
        Transport,
    )
    from mcpproxy.api.v1alpha1.component_filters import Components, NamedComponents
    from mcpproxy.api.v1alpha1.status import ModeOrigin

CACHE_TTL: Final = "300s"
SESSION_MODE: "Final[SessionMode]" = "Isolated"
STDIO_SESSION_MODE: "Final[SessionMode]" = "PerClient"
"""A client that starts a stdio server is its only user, so the session belongs to one client."""
ON_CLASH: "Final[OnClash]" = "First"
CONNECT: Final = "5s"
INITIALIZE: Final = "10s"
INITIALIZE_PROGRAM: Final = "60s"
"""Programs load their dependencies first; some are installed at this point."""
REQUEST: Final = "300s"
IDLE: Final = "30m"
HEALTH_INTERVAL: Final = "10s"
HEALTH_TIMEOUT: Final = "5s"
UNHEALTHY_AFTER: Final = 2
HEALTHY_AFTER: Final = 1
MIN_REPLICAS: Final = 1
UNSHARED_PODS: Final = 3
"""Pods that watch each backend themselves. With more pods, one watches a backend for all: up to
three streams for each backend cost less than the messages, and most proxies have no more pods."""
SCALE_DOWN_AFTER: Final = "5m"
REFRESH_BEFORE: Final = "60s"
CIRCUIT_FAILURES: Final = 5
_TRACE: Final = frozenset({"traceparent", "tracestate"})
_CREDENTIALS: Final = frozenset({"authorization", "cookie"})


@dataclass(frozen=True, slots=True)
class EffectiveTimeouts:
    """Timeouts for operations on a backend, in seconds."""

    connect: float
    initialize: float
    request: float
    idle: float


@dataclass(frozen=True, slots=True)
class HealthPolicy:
    """Parameters of the health checks of backends; times are in seconds."""

    interval: float
    timeout: float
    unhealthy_after: int
    healthy_after: int


@dataclass(frozen=True, slots=True)
class BackendSettings:
    """Settings of one backend, with the defaults filled in."""

    prefix: str
    transport: "Transport"
    protocol: "Protocol"
    session_mode: "SessionMode"
    session_mode_from: "ModeOrigin"
    declared_stateless: bool
    cache_ttl: float
    deadlines: EffectiveTimeouts
    optional: bool
    components: "Mapping[str, Components | NamedComponents]" = field(default_factory=dict)
    """Field of list results (tools, ...) → filters and overrides for its components."""
    withdrawn: frozenset[str] = frozenset()
    """Client features that are hidden from the backend."""
    unverified: bool = False
    """True if the backend's certificate is not verified."""
    passed: frozenset[bytes] = frozenset()
    """Names of the client headers that are forwarded to the backend, in lower case."""
    denied: frozenset[str] = frozenset()
    """Extensions that are hidden from the backend and from its clients."""
    accepts_bare_names: bool = False
    """True if the backend's tools can be called without the prefix."""
    results: "Results | None" = None
    """Limit on the size of results."""
    guarded: bool = False
    """True if only clients have the credentials that the backend may require."""
    for_callers: bool = False
    """True if the backend is called on behalf of each caller, so that callers share nothing."""
    circuit_failures: int | None = CIRCUIT_FAILURES
    """Consecutive failures after which calls are refused; None for never."""

    @property
    def distinguished(self) -> frozenset[bytes]:
        """By what the backend may distinguish callers apart from their principals: `passed`, with
        RIGHTS if it is called on behalf of callers."""
        return self.passed | {constants.RIGHTS} if self.for_callers else self.passed


def effective_timeouts(backend: "BackendSpec") -> EffectiveTimeouts:
    """Return the backend's timeouts in seconds."""
    timeouts = backend.timeouts
    initialize = INITIALIZE if backend.stdio is None else INITIALIZE_PROGRAM
    return EffectiveTimeouts(
        connect=parse_duration((timeouts and timeouts.connect) or CONNECT),
        initialize=parse_duration((timeouts and timeouts.initialize) or initialize),
        request=parse_duration((timeouts and timeouts.request) or REQUEST),
        idle=parse_duration((timeouts and timeouts.idle) or IDLE),
    )


def name_prefix(backend: "BackendSpec") -> str:
    """Return the prefix of the backend's components. It never depends on other backends."""
    return backend.name if backend.prefix is None else backend.prefix


def session_mode(spec: "MCPProxySpec", backend: "BackendSpec") -> "tuple[SessionMode, ModeOrigin]":
    """Return the session mode in effect for a backend, and its origin."""
    if backend.session is not None and backend.session.mode is not None:
        return backend.session.mode, "Backend"
    if spec.session is not None and spec.session.mode is not None:
        return spec.session.mode, "Proxy"
    return SESSION_MODE if backend.stdio is None else STDIO_SESSION_MODE, "Transport"


def session_modes(spec: "MCPProxySpec") -> str:
    """Return the session modes in effect, such as `Isolated, PerClient (stdio)`."""
    origins_by_mode: dict[SessionMode, set[str]] = {}
    for backend in spec.backends:
        mode, origin = session_mode(spec, backend)
        of_stdio = origin == "Transport" and backend.stdio is not None
        origins_by_mode.setdefault(mode, set()).add(" (stdio)" if of_stdio else "")
    # Only a default that no manifest states needs an explanation.
    return ", ".join(mode + min(origins) for mode, origins in sorted(origins_by_mode.items()))


def clash_policy(spec: "MCPProxySpec") -> "OnClash":
    """Return the handling of a name that two backends list."""
    return (spec.names and spec.names.on_clash) or ON_CLASH


def effective_settings(spec: "MCPProxySpec", backend: "BackendSpec") -> BackendSettings:
    """Return the settings of `backend`, from its own fields, those of `spec` and the defaults."""
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
        components=_component_filters(backend),
        withdrawn=disabled_features(backend),
        unverified=bool(backend.tls and backend.tls.insecure_skip_verify),
        passed=forwarded_headers(spec, backend),
        guarded=needs_client_credentials(backend),
        for_callers=backend.is_called_for_callers,
        denied=denied_extensions(spec),
        accepts_bare_names=bool(backend.names and backend.names.bare == "Accept"),
        results=backend.results,
        circuit_failures=circuit_failures(backend),
    )


def default_settings() -> BackendSettings:
    """Return the settings of a backend over HTTP whose fields are absent, with an empty prefix."""
    return BackendSettings(
        prefix="",
        transport="auto",
        protocol="auto",
        session_mode=SESSION_MODE,
        session_mode_from="Transport",
        declared_stateless=False,
        cache_ttl=parse_duration(CACHE_TTL),
        deadlines=EffectiveTimeouts(
            connect=parse_duration(CONNECT),
            initialize=parse_duration(INITIALIZE),
            request=parse_duration(REQUEST),
            idle=parse_duration(IDLE),
        ),
        optional=False,
    )


def denied_extensions(spec: "MCPProxySpec") -> frozenset[str]:
    """Return the extensions that are neither advertised nor routed."""
    return frozenset((spec.extensions and spec.extensions.deny) or ())


def forwarded_headers(spec: "MCPProxySpec", backend: "BackendSpec") -> frozenset[bytes]:
    """Return the names of the client headers that the backend gets.

    With tracing, the trace headers are excluded, because they name the spans of the proxy.
    """
    own = _TRACE if spec.monitoring and spec.monitoring.tracing else frozenset()
    names = (name.lower() for name in backend.forward_headers or ())
    return frozenset(name.encode("ascii") for name in names if name not in own)


def needs_client_credentials(backend: "BackendSpec") -> bool:
    """True if the backend may accept a client's request although it refuses ours with HTTP 401."""
    if backend.is_called_for_callers:
        return True
    names = {name.lower() for name in backend.forward_headers or ()}
    has_token = backend.auth is not None and backend.auth.sets_authorization
    has_own = bool(backend.headers) or has_token
    return bool(names) and (not has_own or not names.isdisjoint(_CREDENTIALS))


def circuit_failures(backend: "BackendSpec") -> int | None:
    """Return the consecutive failures after which calls are refused; None for never."""
    breaker = backend.circuit_breaker
    if breaker is not None and breaker.mode == "Disabled":
        return None
    return (breaker and breaker.failures) or CIRCUIT_FAILURES


def refresh_before(backend: "BackendSpec") -> float:
    """Return the seconds before the expiration of a token at which the next one is requested."""
    return parse_duration((backend.auth and backend.auth.refresh_before) or REFRESH_BEFORE)


def _component_filters(backend: "BackendSpec") -> "dict[str, Components | NamedComponents]":
    components = {
        "tools": backend.tools,
        "prompts": backend.prompts,
        "resources": backend.resources,
        "resourceTemplates": backend.resource_templates,
    }
    return {member: filters for member, filters in components.items() if filters is not None}


def disabled_features(backend: "BackendSpec") -> frozenset[str]:
    """Return the client features that are hidden from the backend."""
    if backend.forward is None:
        return frozenset()
    return frozenset(
        feature for feature, enabled in backend.forward.to_manifest().items() if enabled is False
    )


def health_policy(spec: "MCPProxySpec") -> HealthPolicy:
    """Return the health policy of the proxy."""
    health = spec.health
    return HealthPolicy(
        interval=parse_duration((health and health.interval) or HEALTH_INTERVAL),
        timeout=parse_duration((health and health.timeout) or HEALTH_TIMEOUT),
        unhealthy_after=(health and health.unhealthy_after) or UNHEALTHY_AFTER,
        healthy_after=(health and health.healthy_after) or HEALTHY_AFTER,
    )


def profiles_are_enabled(spec: "MCPProxySpec") -> bool:
    """Return True if the admin port takes profiles."""
    return spec.monitoring is not None and spec.monitoring.profiling == "Enabled"


def service_port(spec: "MCPProxySpec") -> int:
    """Return the port of the Service."""
    return (spec.service and spec.service.port) or constants.PORT_SERVICE


def scale_down_seconds(autoscaling: "Autoscaling") -> int:
    """Return the time before scaling down, in whole seconds as Kubernetes requires."""
    return math.ceil(parse_duration(autoscaling.scale_down_after or SCALE_DOWN_AFTER))


def pods_count_together(spec: "MCPProxySpec") -> bool:
    """Return True if pods ask each other for calls that spec.limits admits."""
    limits = spec.limits
    if limits is None or not any(rule.calls is not None for rule in limits.rules):
        return False
    return limits.shared is None or limits.shared.mode == "Owner"


def pods_share_watches(spec: "MCPProxySpec") -> bool:
    """Return True if one pod may watch a backend for all: there may be many pods, and a backend is
    not a program in each of them."""
    most = (spec.autoscaling and spec.autoscaling.max_replicas) or spec.replicas or 0
    return most > UNSHARED_PODS and any(backend.stdio is None for backend in spec.backends)


def pods_find_each_other(spec: "MCPProxySpec") -> bool:
    """Return True if a name in the DNS has the addresses of all pods."""
    return pods_count_together(spec) or pods_share_watches(spec)
