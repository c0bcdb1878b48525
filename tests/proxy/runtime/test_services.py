"""Backends that are Services of the cluster: the name that each is called by."""

from typing import Any

from mcp import Client
from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import TransportSecuritySettings

from tests.proxy.runtime.serving import LIVE, Gate, serving

pytestmark = LIVE


def _server(answer: str) -> Gate:
    """A server with one tool, under any name."""
    server = MCPServer("notes")

    @server.tool()
    def where() -> str:
        return answer

    open_to = TransportSecuritySettings(enable_dns_rebinding_protection=False)
    return Gate(server.streamable_http_app(transport_security=open_to))


async def test_services_are_called_by_their_names_in_their_own_namespaces(
    proxy: Any, stack: Any
) -> None:
    gates = {"notes.team.svc": _server("team"), "notes.office.svc": _server("office")}
    places = {
        name: (await stack.enter_async_context(serving(gate))).removeprefix("http://")
        for name, gate in gates.items()
    }
    running = await proxy(
        {"name": "near", "service": {"name": "notes", "port": 8080}},
        {"name": "far", "service": {"name": "notes", "namespace": "office", "port": 9000}},
        options={"resolve": places},
    )
    async with Client(running.url) as client:
        answers = [
            (await client.call_tool(f"{name}_where", {})).structured_content
            for name in ("near", "far")
        ]
    assert answers == [{"result": "team"}, {"result": "office"}]
    for name, port in (("notes.team.svc", 8080), ("notes.office.svc", 9000)):
        assert {request.headers["host"] for request in gates[name].seen} == {f"{name}:{port}"}
