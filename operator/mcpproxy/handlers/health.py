"""The operator's own endpoints: /livez, /readyz, /metrics."""

from collections.abc import Callable

from aiohttp import web
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

from mcpproxy.reconcile.worker import Result

_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15)


class Metrics:
    """Counts of passes, in Prometheus' form."""

    def __init__(self, waiting: Callable[[], int], pods: Callable[[], int]) -> None:
        """`waiting` gives the length of the queue, `pods` how many are followed."""
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        prefix = "mcpproxy_operator"
        self._passes = Counter(
            f"{prefix}_reconciles", "Passes, by result", ["result"], registry=self.registry
        )
        self._errors = Counter(
            f"{prefix}_reconcile_errors", "Passes that failed", registry=self.registry
        )
        self._seconds = Histogram(
            f"{prefix}_reconcile_seconds",
            "Duration of passes",
            buckets=_BUCKETS,
            registry=self.registry,
        )
        Gauge(
            f"{prefix}_queue_length", "MCPProxies that wait for a pass", registry=self.registry
        ).set_function(waiting)
        Gauge(
            f"{prefix}_followed_pods", "Pods whose reports are read", registry=self.registry
        ).set_function(pods)

    def passed(self, result: Result, seconds: float) -> None:
        """One pass ended."""
        self._passes.labels(result).inc()
        self._seconds.observe(seconds)
        if result == "error":
            self._errors.inc()


def application(
    metrics: Metrics, is_alive: Callable[[], bool], is_ready: Callable[[], bool]
) -> web.Application:
    """The endpoints as an application of aiohttp."""

    async def livez(_: web.Request) -> web.Response:
        return _probe(is_alive())

    async def readyz(_: web.Request) -> web.Response:
        return _probe(is_ready())

    async def numbers(_: web.Request) -> web.Response:
        body = generate_latest(metrics.registry)
        return web.Response(body=body, headers={"Content-Type": "text/plain; version=0.0.4"})

    app = web.Application()
    app.router.add_get("/livez", livez)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", numbers)
    return app


def _probe(passes: bool) -> web.Response:
    return web.Response(status=200 if passes else 503, text="ok\n" if passes else "no\n")
