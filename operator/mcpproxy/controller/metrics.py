"""Metrics of the operator in Prometheus' format.

Metrics that controller-runtime has as well use its names and labels, so that its dashboards work.
"""

from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from mcpproxy.cluster.resources import DEPLOYMENT
from mcpproxy.controller.worker import Result
from mcpproxy.limits.table import PODS

CONTROLLER: Final = "mcpproxy"
_RESULTS: Final[Mapping[Result, str]] = {
    "ok": "success",
    "conflict": "requeue",
    "refused": "requeue",
    "error": "error",
}
_PASS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 30)
_WAIT: Final = (0.001, 0.01, 0.1, 0.5, 1, 5, 10, 30, 60)


class OperatorMetrics:
    """Metrics in a separate registry, so that one process can run several operators."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._gauge("mcpproxy_operator_build_info", "Always 1", "version").labels(
            version("mcpproxy-operator")
        ).set(1)
        self._leader = self._gauge(
            "leader_election_master_status", "1 for the leader, else 0", "name"
        )
        self._depth = self._gauge(
            "workqueue_depth", "MCPProxies that wait for a pass", "controller", "name"
        )
        self._pods = self._gauge(
            "mcpproxy_operator_pod_streams",
            "Running pods that are followed, and those whose reports are heard",
            "state",
        )
        self._ages = self._gauge(
            "mcpproxy_operator_watch_age_seconds", "Time since the last event", "resource"
        )
        self._lags = self._gauge(
            "mcpproxy_operator_watch_behind_seconds",
            "For how long a watch has been missing what is listed",
            "resource",
        )
        by_controller = ["controller"]
        self._passes = self._counter(
            "controller_runtime_reconcile", "Passes, by result", "controller", "result"
        )
        for result in _RESULTS.values():
            self._passes.labels(CONTROLLER, result)
        self._errors = self._counter(
            "controller_runtime_reconcile_errors", "Passes that failed", *by_controller
        ).labels(CONTROLLER)
        self._seconds = Histogram(
            "controller_runtime_reconcile_time_seconds",
            "Duration of passes",
            by_controller,
            buckets=_PASS,
            registry=self._registry,
        ).labels(CONTROLLER)
        names = (CONTROLLER, CONTROLLER)
        queue = ("controller", "name")
        self._adds = self._counter(
            "workqueue_adds", "MCPProxies that began to wait for a pass", *queue
        ).labels(*names)
        self._retries = self._counter(
            "workqueue_retries", "MCPProxies that come again after a failed pass", *queue
        ).labels(*names)
        self._waited = Histogram(
            "workqueue_queue_duration_seconds",
            "How long MCPProxies waited for their pass",
            queue,
            buckets=_WAIT,
            registry=self._registry,
        ).labels(*names)
        self._registry.register(_LimitsReached())
        self._writes = self._counter(
            "mcpproxy_operator_writes",
            "Requests to the API server that change something",
            "kind",
            "verb",
            "result",
        )
        self._reads = self._counter(
            "mcpproxy_operator_reads",
            "Requests to the API server that read, other than those of watches",
            "kind",
            "verb",
            "result",
        )
        self._unwritten = Gauge(
            "mcpproxy_operator_statuses_unwritten",
            "MCPProxies whose newest status could not be written",
            registry=self._registry,
        )
        self._reversals = self._counter(
            "mcpproxy_operator_contested",
            "Objects that others keep changing and that were changed back",
            "kind",
        )
        # Without this series, the alert on it can't be tested before the first conflict.
        self._reversals.labels(DEPLOYMENT.name)

    def passed(self, result: Result, seconds: float) -> None:
        """Count a pass and its duration."""
        self._passes.labels(CONTROLLER, _RESULTS[result]).inc()
        self._seconds.observe(seconds)
        if result == "error":
            self._errors.inc()

    def added(self) -> None:
        """Count a key that was added to the queue."""
        self._adds.inc()

    def waited(self, seconds: float) -> None:
        """Record the seconds that a key waited for a worker."""
        self._waited.observe(seconds)

    def retried(self) -> None:
        """Count a retry after a failure."""
        self._retries.inc()

    def wrote(self, kind: str, verb: str, result: str) -> None:
        """Count a write to the API server; `result` is `ok` or the name of the error."""
        self._writes.labels(kind, verb, result).inc()

    def reverted(self, kind: str) -> None:
        """Count a child that another manager changed and that was changed back."""
        self._reversals.labels(kind).inc()

    def read(self, kind: str, verb: str, result: str) -> None:
        """Count a read of the API server; `result` is `ok` or the name of the error."""
        self._reads.labels(kind, verb, result).inc()

    def statuses(self, unwritten: Callable[[], int]) -> None:
        """Register the gauge of MCPProxies whose status can't be written."""
        self._unwritten.set_function(unwritten)

    def leadership(self, lease: str, leads: Callable[[], bool]) -> None:
        """Register the gauge that is 1 if this operator leads."""
        self._leader.labels(lease).set_function(lambda: float(leads()))

    def work(
        self, waiting: Callable[[], int], followed: Callable[[], int], heard: Callable[[], int]
    ) -> None:
        """Register the gauges of the queue and of the followed pods."""
        self._depth.labels(CONTROLLER, CONTROLLER).set_function(waiting)
        self._pods.labels("followed").set_function(followed)
        self._pods.labels("heard").set_function(heard)

    def watch(self, resource: str, age: Callable[[], float], behind: Callable[[], float]) -> None:
        """Register the gauges of one watch."""
        self._ages.labels(resource).set_function(age)
        self._lags.labels(resource).set_function(behind)

    def render(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self._registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, registry=self._registry)


class _LimitsReached(Collector):
    """Collector of the counts that the limits keep."""

    def collect(self) -> Iterator[CounterMetricFamily]:
        family = CounterMetricFamily(
            "mcpproxy_operator_limit_reached",
            "Times that a pod has exceeded a limit; docs/security.md lists the limits",
            labels=["limit"],
        )
        for limit in PODS:
            family.add_metric([limit.name], limit.reached)
        yield family
