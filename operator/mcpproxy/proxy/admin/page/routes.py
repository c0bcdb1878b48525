"""Requests of browsers for the page, its parts and its files. All of them only read."""

import socket
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from mcpproxy.pages.document import FILES, read_file
from mcpproxy.pages.security import HEADERS, Visit
from mcpproxy.proxy.admin.page import render
from mcpproxy.proxy.admin.page.data import (
    MAX_FILTER,
    ComponentPart,
    ComponentsRequest,
    Definition,
    DefinitionRequest,
    Overview,
    OverviewRequest,
    PageRequest,
)
from mcpproxy.proxy.admin.watchers import StatusWatchers

T = TypeVar("T")
_MAX_OFFSET = 10_000_000
_UNANSWERED = "no worker responded in time; try again later"


class StatusPage:
    """The page of one process."""

    def __init__(
        self,
        read: Callable[[bytes], Awaitable[bytes]],
        watchers: StatusWatchers,
        line: Callable[[], bytes],
        started_at: float,
        *,
        anywhere: bool,
    ) -> None:
        """`read` returns the result of a `PageRequest`, and `line` the report; `anywhere` admits
        visitors from other machines."""
        self._read = read
        self._watchers = watchers
        self._line = line
        self._started_at = started_at
        self._anywhere = anywhere
        self._host = socket.gethostname()

    async def answer(self, request: Request) -> Response:
        """Return the response to a GET or HEAD request."""
        address = request.client.host if request.client else None
        server = request.scope.get("server")
        visit = Visit(address, server[0] if server else None, request.headers.get("host"))
        refused = visit.refusal(anywhere=self._anywhere)
        if refused is not None:
            return _secured(PlainTextResponse(refused[1] + "\n", refused[0]))
        part = request.path_params.get("part", "")
        if part in FILES:
            return _secured(Response(read_file(part), media_type=FILES[part]))
        if part == "watch":
            return _secured(self._stream(request, address or ""))
        try:
            markup = await self._markup(part, request)
        except TimeoutError:
            return _secured(PlainTextResponse(_UNANSWERED + "\n", 503))
        if markup is None:
            return _secured(PlainTextResponse("no such page\n", 404))
        return _secured(Response(markup, media_type="text/html; charset=utf-8"))

    def _stream(self, request: Request, address: str) -> Response:
        if request.method == "HEAD":
            return Response(media_type="application/x-ndjson")
        changes = self._watchers.changes(address, self._line)
        return StreamingResponse(changes, media_type="application/x-ndjson")

    async def _markup(self, part: str, request: Request) -> bytes | None:
        if part == "":
            overview = await self._get(OverviewRequest(), Overview)
            wanted = _components_request(request)
            components = await self._get(wanted, ComponentPart)
            return render.page(overview, self._process(), wanted, components).encode()
        if part == "overview":
            overview = await self._get(OverviewRequest(), Overview)
            return render.overview(overview, self._process()).encode()
        if part == "components":
            wanted = _components_request(request)
            return render.components(wanted, await self._get(wanted, ComponentPart)).encode()
        if part in ("definition", "component"):
            named = _definition_request(request)
            component = await self._get(named, Definition)
            whole = part == "component"
            return (
                render.definition(named, component, whole=whole).encode()
                if component.text
                else None
            )
        return None

    async def _get(self, request: PageRequest, kind: type[T]) -> T:
        return msgspec.json.decode(await self._read(msgspec.json.encode(request)), type=kind)

    def _process(self) -> render.Process:
        return render.Process(self._host, self._started_at, time.time())


def _components_request(request: Request) -> ComponentsRequest:
    query = request.query_params
    offset = query.get("offset", "")
    number = int(offset) if offset.isascii() and offset.isdigit() and len(offset) < 9 else 0
    text = query.get("text", "")[:MAX_FILTER]
    return ComponentsRequest(query.get("kind", "tools"), text, min(number, _MAX_OFFSET))


def _definition_request(request: Request) -> DefinitionRequest:
    query = request.query_params
    names = ("kind", "backend", "name")
    return DefinitionRequest(*(query.get(name, "") for name in names))


def _secured(response: Response) -> Response:
    for name, value in HEADERS:
        response.headers[name] = value
    return response
