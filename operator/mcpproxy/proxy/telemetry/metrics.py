"""Prometheus metrics of one process. Labels name backends, methods and listed components."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from mcpproxy.limits.table import OF_THE_RUNTIME
from mcpproxy.proxy.core.reports import BackendReport
from mcpproxy.proxy.telemetry.operation_durations import ListedNames, OperationDurations

if TYPE_CHECKING:
    from mcpproxy.api.v1alpha1.status import BackendStatus

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
STATES = ("Healthy", "Degraded", "Unhealthy", "Unauthorized", "RateLimited", "Unknown")
Read = Callable[[], Iterable[tuple[Sequence[str], float]]]


class LabelledCounter(Collector):
    """Counter with labels whose values are stored elsewhere."""

    def __init__(self, name: str, documentation: str, labels: Sequence[str], read: Read) -> None:
        """Create a counter. `name` omits `_total`; `read` returns the label values and counts."""
        self._description = name, documentation, labels
        self._read = read

    def collect(self) -> Iterator[Metric]:
        name, documentation, labels = self._description
        family = CounterMetricFamily(name, documentation, labels=labels)
        for values, count in self._read():
            family.add_metric(values, count)
        yield family


class RuntimeMetrics:
    """Metrics of one runtime, in a registry that other runtimes of the process do not share."""

    def __init__(self, listed: ListedNames) -> None:
        self._registry = CollectorRegistry()
        self.operations = OperationDurations(listed)
        self._registry.register(self.operations)
        self.streams = Gauge(
            "mcpproxy_client_streams",
            "Open streams of change notifications to clients",
            registry=self._registry,
        )
        self.sessions = Gauge(
            "mcpproxy_client_sessions",
            "Client sessions with state in this process",
            registry=self._registry,
        )
        self.in_flight = Gauge(
            "mcpproxy_calls_in_flight",
            "Requests to backends that are waiting for a response",
            registry=self._registry,
        )
        self.parked = Gauge(
            "mcpproxy_calls_parked",
            "Calls that are waiting for input from their clients",
            registry=self._registry,
        )
        self.upstream = Gauge(
            "mcpproxy_backend_sessions",
            "Open sessions with a backend for requests, including warm ones",
            ["backend"],
            registry=self._registry,
        )
        self.count(
            "mcpproxy_limit_reached",
            "Number of times that a peer exceeded a limit; docs/security.md lists the limits",
            ["limit"],
            lambda: (([limit.name], limit.reached) for limit in OF_THE_RUNTIME),
        )

    def count(self, name: str, documentation: str, labels: Sequence[str], read: Read) -> None:
        """Register a counter whose values are stored elsewhere; see `LabelledCounter`."""
        self._registry.register(LabelledCounter(name, documentation, labels, read))

    def gauge(self, name: str, documentation: str, labels: Sequence[str]) -> Gauge:
        """Register a gauge and return it."""
        return Gauge(name, documentation, labels, registry=self._registry)

    def families(self) -> list[Metric]:
        """Return the current values of all metrics."""
        return list(self._registry.collect())

    def render(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)


class BackendGauges:
    """Gauges of the states of the backends."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._state = Gauge(
            "mcpproxy_backend_state",
            "1 for the current state of a backend",
            ["backend", "state"],
            registry=self._registry,
        )
        self._components = Gauge(
            "mcpproxy_components",
            "Number of components of a backend",
            ["backend", "kind"],
            registry=self._registry,
        )

    def render(self, backends: "Sequence[BackendReport | BackendStatus]") -> bytes:
        """Return the gauges for the current states in Prometheus' text format."""
        self._state.clear()
        self._components.clear()
        for backend in backends:
            for state in STATES:
                self._state.labels(backend.name, state).set(backend.state == state)
            for kind, count in (
                backend.components.to_manifest() if backend.components else {}
            ).items():
                self._components.labels(backend.name, kind).set(count)
        return generate_latest(self._registry)
