"""The admin port: livez, readyz, metrics, status. Never part of the Service."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from mcpproxy.api.status import PodReport
from mcpproxy.proxy.gateway import Gateway
from mcpproxy.proxy.metrics import CONTENT_TYPE

KEEP_ALIVE = 10.0
"""Seconds of silence after which a watcher gets a blank line, to see that we are still there."""


class Admin:
    """What the kubelet, Prometheus and the operator ask."""

    def __init__(
        self,
        gateway: Gateway,
        report: Callable[[], PodReport],
        ready: Callable[[], Awaitable[str | None]],
    ) -> None:
        """`ready` gives None, or why the runtime is not ready."""
        self._gateway = gateway
        self._report = report
        self._ready = ready
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
        why_not = await self._ready()
        if why_not is None:
            return PlainTextResponse("ok\n")
        return PlainTextResponse(why_not + "\n", status_code=503)

    async def _metrics(self, request: Request) -> Response:
        return Response(
            self._gateway.metrics.render(self._report().backends), 200, None, CONTENT_TYPE
        )

    async def _status(self, request: Request) -> Response:
        if "watch" in request.query_params:
            return StreamingResponse(self._changes(), media_type="application/x-ndjson")
        return Response(self._line(), media_type="application/json")

    def _line(self) -> bytes:
        return self._report().model_dump_json(by_alias=True, exclude_none=True).encode() + b"\n"

    async def _changes(self) -> AsyncIterator[bytes]:
        changed = asyncio.Event()
        end = self._gateway.watch(changed.set)
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
