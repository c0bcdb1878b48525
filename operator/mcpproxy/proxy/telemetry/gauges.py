"""Metrics that are read from the gateway and its backends when they are scraped."""

import functools
import time
from collections.abc import Callable, Iterator, Mapping

from mcpproxy.proxy.telemetry.loop_delay import LoopDelay
from mcpproxy.proxy.telemetry.metrics import RuntimeMetrics
from mcpproxy.proxy.upstream.attribution import unattributed
from mcpproxy.proxy.upstream.backend import Backend


def register_gauges(
    metrics: RuntimeMetrics,
    backends: Mapping[str, Backend],
    list_requests: Mapping[tuple[str, str], int],
    in_flight: Callable[[], int],
    delay: LoopDelay,
) -> None:
    """Register the metrics of one gateway.

    `list_requests` are counts by method and cache result; `in_flight` returns the number of calls
    without a response.
    """
    metrics.in_flight.set_function(in_flight)
    metrics.count(
        "mcpproxy_list_requests",
        "List requests of clients: hit, served from the cache; miss, sent to a backend",
        ("method", "cache"),
        list_requests.items,
    )
    metrics.count(
        "mcpproxy_isolated_requests",
        "Isolated requests: warm, a session was available; cold, the proxy had to open one",
        ("backend", "session"),
        functools.partial(_isolated_requests, backends),
    )
    _register_times(metrics, backends, delay)
    metrics.count(
        "mcpproxy_unattributed_messages",
        "Messages of backends that the proxy dropped because they named no request and the"
        " session served several clients",
        ("kind",),
        lambda: (((kind,), count) for kind, count in unattributed.items()),
    )
    watches = metrics.gauge(
        "mcpproxy_backend_watches",
        "1 if this instance watches a backend for changes of lists; 0 if another one does",
        ["backend"],
    )
    for backend in backends.values():
        opened = metrics.upstream.labels(backend.name)
        opened.set_function(functools.partial(_open_sessions, backend))
        watches.labels(backend.name).set_function(functools.partial(_watches, backend))


def _register_times(
    metrics: RuntimeMetrics, backends: Mapping[str, Backend], delay: LoopDelay
) -> None:
    metrics.count(
        "mcpproxy_event_loop_delays",
        "Measurements of the delay of the event loop, once a second",
        (),
        lambda: [((), delay.measurements)],
    )
    metrics.count(
        "mcpproxy_event_loop_delay_seconds",
        "Measured delays of the event loop: the time for which requests and responses wait in the"
        " process",
        (),
        lambda: [((), delay.seconds)],
    )
    metrics.count(
        "mcpproxy_backend_steps",
        "Connections (connect) and sessions (open_session) that were opened or failed",
        ("backend", "step"),
        functools.partial(_steps, backends, 0),
    )
    metrics.count(
        "mcpproxy_backend_step_seconds",
        "Time in which connections and sessions were opened or failed; that of a session contains"
        " that of its connections",
        ("backend", "step"),
        functools.partial(_steps, backends, 1),
    )
    metrics.count(
        "mcpproxy_cpu_seconds",
        "CPU time of the process",
        (),
        lambda: [((), time.process_time())],
    )
    metrics.count(
        "mcpproxy_circuit_openings",
        "Number of times that the proxy began to refuse calls to a backend",
        ("backend",),
        lambda: [((name,), backend.circuit.openings) for name, backend in backends.items()],
    )


def _isolated_requests(
    backends: Mapping[str, Backend],
) -> Iterator[tuple[tuple[str, str], int]]:
    for backend in backends.values():
        for kind, count in backend.sessions.acquisitions.items():
            yield (backend.name, kind), count


def _steps(backends: Mapping[str, Backend], number: int) -> Iterator[tuple[tuple[str, str], float]]:
    for backend in backends.values():
        for step, amounts in backend.step_times.items():
            yield (backend.name, step), amounts[number]


def _open_sessions(backend: Backend) -> int:
    return backend.sessions.upstream.count


def _watches(backend: Backend) -> bool:
    return backend.watch.share.watches
