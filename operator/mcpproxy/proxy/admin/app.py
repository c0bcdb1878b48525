"""Admin port: livez, readyz, metrics, status, profiles, and a page. Never part of the Service."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from mcpproxy.api.authority import FOREIGN_HOST, is_rebound
from mcpproxy.proxy.admin.watchers import StatusWatchers
from mcpproxy.proxy.config.options import AdminPage
from mcpproxy.proxy.telemetry.metrics import CONTENT_TYPE

if TYPE_CHECKING:
    # Most processes are never visited by a browser, and need no memory for the page.
    from mcpproxy.proxy.admin.page.routes import StatusPage
    from mcpproxy.proxy.admin.profile import ProfileEndpoint

PAGE_METHODS = ["GET"]
"""Methods of the page; Starlette adds HEAD."""


class StatusReport(Protocol):
    """Report of an instance, or of a supervisor."""

    def to_json(self) -> str:
        """Return the text of the JSON form."""


class AdminSource(Protocol):
    """Source of the state that the admin port reports."""

    def report(self) -> StatusReport:
        """Return the current report."""

    async def not_ready(self) -> str | None:
        """Return the reason for which clients must not connect, or None."""

    async def metrics(self) -> bytes:
        """Return all metrics in Prometheus' text format."""

    def watch(self, watcher: Callable[[], None]) -> Callable[[], None]:
        """Call `watcher` when the report may have changed; return the canceller."""

    async def page_data(self, request: bytes) -> bytes:
        """Return the result of a `PageRequest`; both are JSON. Raise TimeoutError."""


def _is_rebound(request: Request) -> bool:
    server = request.scope.get("server")
    return is_rebound(server[0] if server else None, request.headers.get("host"))


class AdminApp:
    """Endpoints for the kubelet, Prometheus, the operator and people."""

    def __init__(
        self, source: AdminSource, page: AdminPage = "local", *, profiling: bool = False
    ) -> None:
        """`page` is the set of visitors to whom the page and profiles are served; `profiling`
        enables profiles."""
        self._source = source
        self._visitors = page
        self._started_at = time.time()
        self._watchers = StatusWatchers(source.watch)
        self._page: StatusPage | None = None
        self._profiling = profiling
        self._profile: ProfileEndpoint | None = None
        self.app = Starlette(
            routes=[
                Route("/livez", self._livez),
                Route("/readyz", self._readyz),
                Route("/metrics", self._metrics),
                Route("/status", self._status),
                Route("/profile", self._profiled),
                Route("/", self._visit, methods=PAGE_METHODS),
                Route("/page/{part}", self._visit, methods=PAGE_METHODS),
            ]
        )

    def close(self) -> None:
        """End the streams of reports, so that the server can stop."""
        self._watchers.close()
        if self._profile is not None:
            self._profile.close()

    async def _livez(self, request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def _readyz(self, request: Request) -> Response:
        why_not = await self._source.not_ready()
        if why_not is None:
            return PlainTextResponse("ok\n")
        return PlainTextResponse(why_not + "\n", status_code=503)

    async def _metrics(self, request: Request) -> Response:
        if _is_rebound(request):
            return PlainTextResponse(FOREIGN_HOST + "\n", status_code=421)
        return Response(await self._source.metrics(), 200, None, CONTENT_TYPE)

    async def _status(self, request: Request) -> Response:
        if _is_rebound(request):
            return PlainTextResponse(FOREIGN_HOST + "\n", status_code=421)
        if "watch" in request.query_params:
            address = request.client.host if request.client else ""
            changes = self._watchers.changes(address, self._line)
            return StreamingResponse(changes, media_type="application/x-ndjson")
        return Response(self._line(), media_type="application/json")

    async def _profiled(self, request: Request) -> Response:
        if self._profile is None:
            from mcpproxy.proxy.admin.profile import ProfileEndpoint

            anywhere = self._visitors == "all"
            self._profile = ProfileEndpoint(enabled=self._profiling, anywhere=anywhere)
        return await self._profile.answer(request)

    async def _visit(self, request: Request) -> Response:
        if self._page is None:
            from mcpproxy.proxy.admin.page.routes import StatusPage

            self._page = StatusPage(
                self._source.page_data,
                self._watchers,
                self._line,
                self._started_at,
                anywhere=self._visitors == "all",
            )
        return await self._page.answer(request)

    def _line(self) -> bytes:
        return self._source.report().to_json().encode() + b"\n"
