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
            "leader_election_master_status", "1 if this instance is the leader, otherwise 0", "name"
        )
        self._depth = self._gauge(
            "workqueue_depth", "MCPProxies in the reconcile queue", "controller", "name"
        )
        self._pods = self._gauge(
            "mcpproxy_operator_pod_streams",
            "Running pods whose reports the operator reads, and those with a current report",
            "state",
        )
        self._ages = self._gauge(
            "mcpproxy_operator_watch_age_seconds",
            "Time since the last event of a watch",
            "resource",
        )
        self._lags = self._gauge(
            "mcpproxy_operator_watch_behind_seconds",
            "Time for which a watch has been missing objects that the API server lists",
            "resource",
        )
        by_controller = ["controller"]
        self._passes = self._counter(
            "controller_runtime_reconcile", "Reconciliations, by result", "controller", "result"
        )
        for result in _RESULTS.values():
            self._passes.labels(CONTROLLER, result)
        self._errors = self._counter(
            "controller_runtime_reconcile_errors",
            "Reconciliations that ended with an error",
            *by_controller,
        ).labels(CONTROLLER)
        self._seconds = Histogram(
            "controller_runtime_reconcile_time_seconds",
            "Duration of a reconciliation",
            by_controller,
            buckets=_PASS,
            registry=self._registry,
        ).labels(CONTROLLER)
        names = (CONTROLLER, CONTROLLER)
        queue = ("controller", "name")
        self._adds = self._counter(
            "workqueue_adds", "MCPProxies added to the reconcile queue", *queue
        ).labels(*names)
        self._retries = self._counter(
            "workqueue_retries", "MCPProxies requeued after a failed reconciliation", *queue
        ).labels(*names)
        self._waited = Histogram(
            "workqueue_queue_duration_seconds",
            "Time that an MCPProxy waits in the reconcile queue",
            queue,
            buckets=_WAIT,
            registry=self._registry,
        ).labels(*names)
        self._registry.register(_LimitsReached())
        self._writes = self._counter(
            "mcpproxy_operator_writes",
            "Write requests to the API server",
            "kind",
            "verb",
            "result",
        )
        self._reads = self._counter(
            "mcpproxy_operator_reads",
            "Read requests to the API server, except watches",
            "kind",
            "verb",
            "result",
        )
        self._unwritten = Gauge(
            "mcpproxy_operator_statuses_unwritten",
            "MCPProxies whose current status could not be written",
            registry=self._registry,
        )
        self._reversals = self._counter(
            "mcpproxy_operator_contested",
            "Objects that another client changed repeatedly and that the operator reverted",
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
        self, waiting: Callable[[], int], followed: Callable[[], int], reporting: Callable[[], int]
    ) -> None:
        """Register the gauges of the queue and of the followed pods."""
        self._depth.labels(CONTROLLER, CONTROLLER).set_function(waiting)
        self._pods.labels("followed").set_function(followed)
        self._pods.labels("reporting").set_function(reporting)

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
            "Number of times that a pod exceeded a limit; docs/security.md lists the limits",
            labels=["limit"],
        )
        for limit in PODS:
            family.add_metric([limit.name], limit.reached)
        yield family
