"""Counts of backends that lack some kinds of components."""

from typing import Any

import mcp_types as t
import pytest
from mcp.server import Server

from mcpproxy.api.v1alpha1.status import ComponentCounts
from tests.proxy.runtime.serving import LIVE, Gate, free_port, serving

pytestmark = LIVE


async def no_tools(c: Any, p: Any) -> t.ListToolsResult:
    """An empty list."""
    return t.ListToolsResult(tools=[])


async def no_resources(c: Any, p: Any) -> t.ListResourcesResult:
    """An empty list."""
    return t.ListResourcesResult(resources=[])


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_an_empty_list_is_zero_and_an_unsupported_kind_is_named(
    proxy: Any, stack: Any, era: str
) -> None:
    bare: Server[Any] = Server("bare", on_list_tools=no_tools, on_list_resources=no_resources)
    base = await stack.enter_async_context(serving(Gate(bare.streamable_http_app(), era)))
    running = await proxy({"name": "p", "url": f"{base}/mcp"})
    (backend,) = (await running.report()).backends
    assert backend.state == "Healthy"
    assert backend.components == ComponentCounts(tools=0, resources=0)
    # It has resources, but knows no request for templates.
    assert backend.not_offered == ["prompts", "resourceTemplates"]


async def test_components_of_a_failed_backend_are_not_reported_as_missing(proxy: Any) -> None:
    running = await proxy({"name": "p", "url": f"http://127.0.0.1:{free_port()}/mcp"})
    (backend,) = (await running.report()).backends
    assert (backend.components, backend.not_offered) == (None, None)
