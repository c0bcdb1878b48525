"""Servers that list more to clients that declare more, behind proxies that Python programs make."""

from typing import Any

import mcp_types as t
import pytest
from mcp import Client, MCPError
from mcp.server.mcpserver import MCPServer

from mcpproxy import ProxyClient, Server, create_proxy
from mcpproxy.library.mount import mount
from tests.library.conftest import ERAS, names

pytestmark = pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning")
pairs = pytest.mark.parametrize(
    ("mode", "era"), [(mode, era) for mode in ERAS for era in ("legacy", "modern")]
)


async def _sample(context: Any, params: Any) -> t.CreateMessageResult:
    content = t.TextContent(type="text", text="Paris")
    return t.CreateMessageResult(role="assistant", content=content, model="none")


async def _choosy(peer: Any, era: str) -> str:
    server, url = await peer(era=era)
    server.needs = {"sample": "sampling", "elicit": "elicitation"}
    result: str = url
    return result


@pairs
async def test_capabilities_with_a_handler_are_also_declared_for_lists(
    peer: Any, connect: Any, mode: str, era: str
) -> None:
    backend = ProxyClient(await _choosy(peer, era), sampling_handler=lambda params: "Paris")
    shown = await names(await connect(create_proxy(backend), mode))
    assert {"sample", "elicit"} & {*shown} == {"sample"}


@pairs
async def test_capabilities_that_a_handler_withdraws_are_not_declared_for_lists(
    peer: Any, connect: Any, mode: str, era: str
) -> None:
    backend = ProxyClient(await _choosy(peer, era), sampling_handler=None)
    client = await connect(create_proxy(backend), mode, sampling_callback=_sample)
    assert not {"sample", "elicit"} & {*await names(client)}


@pairs
async def test_a_mounted_server_lists_the_components_available_to_the_client(
    peer: Any, connect: Any, mode: str, era: str
) -> None:
    outer = Server("outer")
    outer.mount(create_proxy(await _choosy(peer, era)), "in")
    result = await names(await connect(outer, mode, sampling_callback=_sample))
    assert {"in_sample", "in_elicit"} & {*result} == {"in_sample"}


@pytest.mark.parametrize("mode", ERAS)
async def test_an_sdk_server_lists_the_mounted_components_available_to_the_client(
    peer: Any, mode: str
) -> None:
    server = MCPServer("host", log_level="WARNING")
    mount(server, create_proxy(await _choosy(peer, "dual")), "in")
    async with Client(server, mode=mode, sampling_callback=_sample) as client:
        assert {"in_sample", "in_elicit"} & {*await names(client)} == {"in_sample"}
    async with Client(server, mode=mode) as client:
        assert not {"in_sample", "in_elicit"} & {*await names(client)}


async def test_components_of_one_list_variant_are_routed_if_several_backends_have_no_prefix(
    peer: Any, connect: Any
) -> None:
    local = Server("local")

    @local.tool
    def here() -> str:
        """Here."""
        return "here"

    local.mount(create_proxy(await _choosy(peer, "legacy")))
    client = await connect(local, "legacy", sampling_callback=_sample)
    assert {"here", "sample"} <= {*await names(client)}
    called = await client.call_tool("sample", {"prompt": "?"})
    assert called.content[0].text == "model: Paris"


async def test_a_disabled_component_is_hidden_in_list_variants(peer: Any, connect: Any) -> None:
    proxy = create_proxy(await _choosy(peer, "legacy"))
    client = await connect(proxy, "legacy", sampling_callback=_sample)
    assert "sample" in await names(client)
    proxy.disable(keys=["tool:sample"])
    assert "sample" not in await names(client)
    with pytest.raises(MCPError, match="unknown tool"):
        await client.call_tool("sample", {"prompt": "?"})
    proxy.enable(keys=["tool:sample"])
    assert "sample" in await names(client)
