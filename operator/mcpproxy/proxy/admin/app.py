"""Admin port: livez, readyz, metrics, status. Never part of the Service."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Protocol

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from mcpproxy.api.v1alpha1.status import PodReport
from mcpproxy.proxy.telemetry.metrics import CONTENT_TYPE

KEEP_ALIVE = 10.0
"""Seconds of silence after which a status watcher gets a blank line as a sign of life."""


class AdminSource(Protocol):
    """Source of the state that the admin port reports."""

    def report(self) -> PodReport:
        """Return the current report."""

    async def not_ready(self) -> str | None:
        """Return the reason for which clients must not connect, or None."""

    async def metrics(self) -> bytes:
        """Return all metrics in Prometheus' text format."""

    def watch(self, watcher: Callable[[], None]) -> Callable[[], None]:
        """Call `watcher` when the report may have changed; return the canceller."""


class AdminApp:
    """Endpoints for the kubelet, Prometheus and the operator."""

    def __init__(self, source: AdminSource) -> None:
        self._source = source
        self.app = Starlette(
            routes=[
                Route("/livez", self._livez),
                Route("/readyz", self._readyz),
                Route("/metrics", self._metrics),
                Route("/status", self._status),
            ]
        )

    async def _livez(self, request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def _readyz(self, request: Request) -> Response:
        why_not = await self._source.not_ready()
        if why_not is None:
            return PlainTextResponse("ok\n")
        return PlainTextResponse(why_not + "\n", status_code=503)

    async def _metrics(self, request: Request) -> Response:
        return Response(await self._source.metrics(), 200, None, CONTENT_TYPE)

    async def _status(self, request: Request) -> Response:
        if "watch" in request.query_params:
            return StreamingResponse(self._changes(), media_type="application/x-ndjson")
        return Response(self._line(), media_type="application/json")

    def _line(self) -> bytes:
        report = self._source.report()
        return report.model_dump_json(by_alias=True, exclude_none=True).encode() + b"\n"

    async def _changes(self) -> AsyncIterator[bytes]:
        changed = asyncio.Event()
        end = self._source.watch(changed.set)
        try:
            last = self._line()
            yield last
            while True:
                try:
                    async with asyncio.timeout(KEEP_ALIVE):
                        await changed.wait()
                except TimeoutError:
                    yield b"\n"
                    continue
                changed.clear()
                line = self._line()
                if line != last:
                    last = line
                    yield line
        finally:
            end()
