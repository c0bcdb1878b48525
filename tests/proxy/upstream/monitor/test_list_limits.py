"""Limits of the lists that backends send: their pages, components and bytes."""

from typing import Any

import pytest

from mcpproxy.limits import backends as limits
from mcpproxy.proxy.core.catalog.component_filter import EVERYTHING
from mcpproxy.proxy.core.catalog.component_list import ComponentList
from mcpproxy.proxy.core.errors import ProtocolError
from mcpproxy.proxy.core.exchange import CallContext, NullContext
from mcpproxy.proxy.core.translation.namespacing import PrefixMapping
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import Message
from mcpproxy.proxy.protocol.kinds import TOOLS
from mcpproxy.proxy.upstream.monitor import list_pages as pages_module
from mcpproxy.proxy.upstream.monitor.list_pages import build_list, fetch_pages
from mcpproxy.proxy.upstream.monitor.requester import Requester
from mcpproxy.proxy.upstream.transports.session import ServerDescription, UpstreamRequest
from tests.proxy.upstream.test_bounds import ANN, smaller


class Lister:
    """A backend with endless pages, or with `pages` of them."""

    def __init__(self, tools: list[Any], pages: int = 10**9) -> None:
        self.server = ServerDescription("2025-11-25", {})
        self.asked = 0
        self._tools = tools
        self._pages = pages

    async def request(self, outgoing: UpstreamRequest, caller: CallContext) -> Message:
        self.asked += 1
        page: dict[str, Any] = {"tools": [self._of_page(tool) for tool in self._tools]}
        if self.asked < self._pages:
            page["nextCursor"] = str(self.asked)
        return {"result": jsonrpc.encode_raw(page)}

    def _of_page(self, tool: Any) -> Any:
        return {**tool, "name": f"{self.asked}{tool['name']}"} if isinstance(tool, dict) else tool


async def _listed(lister: Lister) -> ComponentList:
    link: Any = lister
    pages = await fetch_pages(Requester(NullContext(ANN)), link, TOOLS)
    assert pages is not None
    return build_list(TOOLS, PrefixMapping(""), pages, EVERYTHING)


def _tools(count: int) -> list[Any]:
    # Objects in a schema are not components.
    schema = {"type": "object", "properties": {str(n): {"type": "object"} for n in range(50)}}
    return [{"name": str(number), "inputSchema": schema} for number in range(count)]


async def test_a_list_without_an_end_is_abandoned_after_its_pages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limit = smaller(monkeypatch, pages_module, limits.LIST_PAGES, "LIST_PAGES", 5)
    lister, reached = Lister([{"name": "a"}]), limit.reached
    assert len((await _listed(lister)).items) == 5
    assert (lister.asked, limit.reached - reached) == (5, 1)


async def test_a_list_is_abandoned_when_all_its_pages_are_too_large(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limit = smaller(monkeypatch, pages_module, limits.LIST_BYTES, "LIST_BYTES", 10_000)
    lister, reached = Lister([{"name": "a" * 3000}]), limit.reached
    with pytest.raises(ProtocolError, match="more than 10000 bytes"):
        await _listed(lister)
    assert (lister.asked, limit.reached - reached) == (4, 1)


async def test_a_list_is_abandoned_when_it_has_too_many_components(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limit = smaller(monkeypatch, pages_module, limits.LIST_COMPONENTS, "LIST_COMPONENTS", 12)
    reached = limit.reached
    assert len((await _listed(Lister(_tools(4), pages=3))).items) == 12
    assert limit.reached == reached
    with pytest.raises(ProtocolError, match="more than 12 components"):
        await _listed(Lister(_tools(4), pages=4))
    with pytest.raises(ProtocolError, match="more than 12 components"):
        await _listed(Lister([0] * 13, pages=1))
    assert limit.reached == reached + 2
