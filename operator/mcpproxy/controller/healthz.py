"""Endpoints of the operator: /livez, /readyz and /metrics."""

from collections.abc import Callable

from aiohttp import web

from mcpproxy.controller.metrics import OperatorMetrics

Check = Callable[[], str | None]
"""Function that returns the problem, or None."""


def application(metrics: OperatorMetrics, alive: Check, ready: Check) -> web.Application:
    """Return the endpoints as an aiohttp application."""

    async def livez(_: web.Request) -> web.Response:
        return _probe(alive())

    async def readyz(_: web.Request) -> web.Response:
        return _probe(ready())

    async def numbers(_: web.Request) -> web.Response:
        headers = {"Content-Type": "text/plain; version=0.0.4"}
        return web.Response(body=metrics.render(), headers=headers)

    app = web.Application()
    app.router.add_get("/livez", livez)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", numbers)
    return app


def _probe(wrong: str | None) -> web.Response:
    return web.Response(status=503 if wrong else 200, text=f"{wrong or 'ok'}\n")
