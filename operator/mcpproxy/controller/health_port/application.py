"""Endpoints of the operator: /livez, /readyz, /metrics, and a page with all MCPProxies."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from aiohttp import web

from mcpproxy.cluster.cached_reads import ObjectCache
from mcpproxy.controller.metrics import OperatorMetrics

if TYPE_CHECKING:
    # Most operators are never visited by a browser, and need no memory for the page.
    from mcpproxy.controller.page.routes import OperatorPage

Check = Callable[[], str | None]
"""Function that returns the problem, or None."""


def application(
    metrics: OperatorMetrics,
    alive: Check,
    ready: Check,
    store: ObjectCache,
    namespaces: tuple[str, ...] = (),
) -> web.Application:
    """Return the endpoints as an aiohttp application.

    `store` has the MCPProxies of the page, and `namespaces` those that the operator serves.
    """
    pages: list[OperatorPage] = []

    async def livez(_: web.Request) -> web.Response:
        return _probe(alive())

    async def readyz(_: web.Request) -> web.Response:
        return _probe(ready())

    async def numbers(_: web.Request) -> web.Response:
        headers = {"Content-Type": "text/plain; version=0.0.4"}
        return web.Response(body=metrics.render(), headers=headers)

    async def visit(request: web.Request) -> web.Response:
        if not pages:
            from mcpproxy.controller.page.routes import OperatorPage

            pages.append(OperatorPage(store, namespaces))
        return await pages[0].answer(request)

    app = web.Application()
    app.router.add_get("/livez", livez)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", numbers)
    app.router.add_get("/", visit)
    app.router.add_get("/page/{part}", visit)
    return app


def _probe(wrong: str | None) -> web.Response:
    return web.Response(status=503 if wrong else 200, text=f"{wrong or 'ok'}\n")
