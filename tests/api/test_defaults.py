"""Defaults of absent fields."""

from mcpproxy.api import defaults, v1alpha1
from mcpproxy.api.base import field_docstrings
from tests.support.builders import a_backend, an_mcpproxy

MODES = f"{defaults.SESSION_MODE} for url and service, {defaults.STDIO_SESSION_MODE} for stdio"


def test_a_backend_without_settings_has_the_documented_defaults() -> None:
    proxy = an_mcpproxy()
    result = defaults.effective_settings(proxy.spec, proxy.spec.backends[0])
    assert result == defaults.BackendSettings(
        prefix="weather",
        transport="auto",
        protocol="auto",
        session_mode="Isolated",
        session_mode_from="Transport",
        declared_stateless=False,
        cache_ttl=300.0,
        deadlines=defaults.EffectiveTimeouts(
            connect=5.0, initialize=10.0, request=300.0, idle=1800.0
        ),
        optional=False,
    )


def test_the_proxys_own_settings_hold_unless_the_backend_has_its_own() -> None:
    proxy = an_mcpproxy(
        backends=[
            a_backend("a"),
            a_backend("b", cache={"ttl": "0s"}, session={"mode": "Isolated"}, prefix=""),
        ],
        cache={"ttl": "60s"},
        session={"mode": "PerClient"},
    )
    a, b = [defaults.effective_settings(proxy.spec, backend) for backend in proxy.spec.backends]
    assert (a.cache_ttl, a.session_mode, a.prefix) == (60.0, "PerClient", "a")
    assert (b.cache_ttl, b.session_mode, b.prefix) == (0.0, "Isolated", "")


def test_a_program_serves_its_client_alone_unless_a_mode_is_set() -> None:
    stdio = {"command": "server"}
    program, web = a_backend("program", url=None, stdio=stdio), a_backend("web")
    alone = an_mcpproxy(backends=[program, web]).spec
    assert [defaults.session_mode(alone, backend) for backend in alone.backends] == [
        ("PerClient", "Transport"),
        ("Isolated", "Transport"),
    ]
    assert defaults.session_modes(alone) == "Isolated, PerClient (stdio)"
    own = {**program, "session": {"mode": "Reused", "stateless": True}}
    named = {**own, "name": "own"}
    value = an_mcpproxy(backends=[named, program, web], session={"mode": "Isolated"}).spec
    assert [defaults.session_mode(value, backend) for backend in value.backends] == [
        ("Reused", "Backend"),
        ("Isolated", "Proxy"),
        ("Isolated", "Proxy"),
    ]
    assert defaults.session_modes(value) == "Isolated, Reused"
    silent = an_mcpproxy(backends=[{**program, "session": {"stateless": True}}], session={}).spec
    assert defaults.session_mode(silent, silent.backends[0]) == ("PerClient", "Transport")


def test_headers_of_clients_are_forwarded_in_any_case_except_a_trace_of_the_proxy() -> None:
    named = a_backend(forwardHeaders=["X-User", "TraceParent", "tracestate"])
    tracing = {"tracing": {"endpoint": "http://collector:4318"}}
    for monitoring, expected in (
        (None, {b"x-user", b"traceparent", b"tracestate"}),
        (tracing, {b"x-user"}),
    ):
        proxy = an_mcpproxy(backends=[named], monitoring=monitoring)
        assert defaults.effective_settings(proxy.spec, proxy.spec.backends[0]).passed == expected


def test_a_backend_without_configured_credentials_uses_those_of_clients() -> None:
    own = [{"name": "X-Key", "value": "k"}]
    for fields, expected in (
        ({}, False),
        ({"headers": own}, False),
        ({"forwardHeaders": ["x-user"]}, True),
        ({"headers": own, "forwardHeaders": ["x-user"]}, False),
        ({"headers": own, "forwardHeaders": ["Cookie"]}, True),
    ):
        proxy = an_mcpproxy(backends=[a_backend(**fields)])
        assert defaults.needs_client_credentials(proxy.spec.backends[0]) == expected


def test_health_is_checked_every_ten_seconds_by_default() -> None:
    plain = defaults.health_policy(an_mcpproxy().spec)
    assert plain == defaults.HealthPolicy(
        interval=10.0, timeout=5.0, unhealthy_after=2, healthy_after=1
    )
    value = defaults.health_policy(an_mcpproxy(health={"interval": "1s", "healthyAfter": 4}).spec)
    assert (value.interval, value.healthy_after, value.unhealthy_after) == (1.0, 4, 2)


def test_the_service_has_port_80_by_default() -> None:
    assert defaults.service_port(an_mcpproxy().spec) == 80
    assert defaults.service_port(an_mcpproxy(service={"port": 8000}).spec) == 8000


def test_each_default_is_quoted_in_the_description_of_its_field() -> None:
    for model, field, value in (
        ("Timeouts", "connect", defaults.CONNECT),
        ("Timeouts", "initialize", defaults.INITIALIZE),
        ("Timeouts", "request", defaults.REQUEST),
        ("Timeouts", "idle", defaults.IDLE),
        ("Cache", "ttl", defaults.CACHE_TTL),
        ("Session", "mode", MODES),
        ("Health", "interval", defaults.HEALTH_INTERVAL),
        ("Health", "timeout", defaults.HEALTH_TIMEOUT),
        ("Health", "unhealthy_after", defaults.UNHEALTHY_AFTER),
        ("Health", "healthy_after", defaults.HEALTHY_AFTER),
        ("Autoscaling", "min_replicas", defaults.MIN_REPLICAS),
        ("Autoscaling", "scale_down_after", defaults.SCALE_DOWN_AFTER),
    ):
        description = field_docstrings(getattr(v1alpha1, model))[field]
        assert f"Default: {value}." in description, (model, field)


def test_a_stdio_server_has_a_minute_to_start_by_default() -> None:
    program = {"name": "p", "stdio": {"command": "x"}}
    spec = an_mcpproxy(
        backends=[program, {**program, "name": "q", "timeouts": {"initialize": "5s"}}]
    ).spec
    value = [defaults.effective_timeouts(backend).initialize for backend in spec.backends]
    assert value == [60.0, 5.0]
    (plain,) = an_mcpproxy().spec.backends
    assert defaults.effective_timeouts(plain).initialize == 10.0
