"""Requests of browsers for the operator's page. All of them only read."""

from importlib.metadata import version
from typing import Final

from aiohttp import web

from mcpproxy.cluster.cached_reads import ObjectCache
from mcpproxy.controller.page import render
from mcpproxy.controller.page.proxies import ProxyRows
from mcpproxy.controller.page.render import Operator, ProxiesRequest
from mcpproxy.pages.document import FILES, read_file
from mcpproxy.pages.html import Html
from mcpproxy.pages.security import HEADERS, Visit

MAX_FILTER: Final = 200
"""Characters of the text by which MCPProxies are filtered."""
_MAX_DIGITS: Final = 8


class OperatorPage:
    """The page of one operator."""

    def __init__(self, store: ObjectCache, namespaces: tuple[str, ...]) -> None:
        """`store` has the MCPProxies, and `namespaces` those that the operator serves."""
        self._rows = ProxyRows(store)
        self._namespaces = namespaces
        self._version = version("mcpproxy-operator")

    async def answer(self, request: web.Request) -> web.Response:
        """Return the response to a GET or HEAD request."""
        refused = _visit(request).refusal(anywhere=False)
        if refused is not None:
            return _response(refused[1] + "\n", "text/plain", refused[0])
        part = request.match_info.get("part", "")
        if part in FILES:
            media_type, _, _ = FILES[part].partition(";")
            return _response(read_file(part).decode(), media_type)
        markup = await self._markup(part, _proxies_request(request))
        if markup is None:
            return _response("no such page\n", "text/plain", 404)
        return _response(markup, "text/html")

    async def _markup(self, part: str, wanted: ProxiesRequest) -> Html | None:
        if part not in ("", "overview", "proxies"):
            return None
        rows = await self._rows.read()
        operator = Operator(self._version, self._namespaces, self._rows.is_fresh)
        if part == "overview":
            return render.overview(rows, operator)
        if part == "proxies":
            return render.proxies(rows, wanted)
        return render.page(rows, operator, wanted)


def _visit(request: web.Request) -> Visit:
    """Return the connection of a request; headers that name other addresses do not count."""
    ends = [
        None if request.transport is None else request.transport.get_extra_info(name)
        for name in ("peername", "sockname")
    ]
    peer, local = (str(end[0]) if end else None for end in ends)
    return Visit(peer, local, request.headers.get("Host"))


def _proxies_request(request: web.Request) -> ProxiesRequest:
    offset = request.query.get("offset", "")
    is_number = offset.isascii() and offset.isdigit() and len(offset) <= _MAX_DIGITS
    text = request.query.get("text", "")[:MAX_FILTER]
    return ProxiesRequest(text, int(offset) if is_number else 0)


def _response(text: str, media_type: str, status: int = 200) -> web.Response:
    return web.Response(
        body=text.encode(errors="replace"),
        status=status,
        content_type=media_type,
        charset="utf-8",
        headers=dict(HEADERS),
    )
