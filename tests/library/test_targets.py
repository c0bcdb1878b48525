"""Targets of a proxy in the library."""

import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx2
import mcp_types as t
import pytest
from mcp import Client, MCPError, StdioServerParameters
from mcp.client._memory import InMemoryTransport
from mcp.client.sse import sse_client
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.server import MCPServer
from mcp.server.transport_security import TransportSecuritySettings

from mcpproxy import ProxyClient, Server, create_proxy
from mcpproxy.api.manifest_errors import ManifestError
from tests.library.conftest import ERAS, NOTES, in_its_own_task, names, text
from tests.proxy.runtime.serving import free_port, serving

pytestmark = pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning")
HERE = Path(__file__).parent


def _server() -> MCPServer[Any]:
    server = MCPServer("inside", log_level="WARNING")
    server.add_tool(lambda say: say, name="echo")
    return server


@pytest.mark.parametrize("mode", ERAS)
async def test_a_streamable_http_transport_opens_fresh_sessions(
    counter: Any, connect: Any, mode: str
) -> None:
    server, url = counter
    client = await connect(create_proxy(streamable_http_client(url)), mode)
    for _ in range(2):
        assert (await client.call_tool("increment", {})).structured_content == {"result": 1}
    assert len(server.counts) == 2


@pytest.mark.parametrize("mode", ERAS)
@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_a_transport_with_an_http_client_of_the_users_is_used_unchanged(
    peer: Any, connect: Any, era: str, mode: str
) -> None:
    result, url = await peer(era=era)
    async with httpx2.AsyncClient(headers={"x-user": "me"}) as http:
        client = await connect(create_proxy(streamable_http_client(url, http_client=http)), mode)
        assert text(await client.call_tool("echo", {"a": 1})) == '{"a": 1}'
    calls = [request for request in result.gate.seen if request.rpc == "tools/call"]
    assert [request.headers["x-user"] for request in calls] == ["me"]


async def test_an_sse_transport_keeps_its_headers(stack: AsyncExitStack, connect: Any) -> None:
    seen: list[dict[bytes, bytes]] = []
    open_to = TransportSecuritySettings(enable_dns_rebinding_protection=False)
    app = _server().sse_app(transport_security=open_to)

    async def noting(scope: Any, receive: Any, send: Any) -> None:
        seen.append(dict(scope.get("headers", ())))
        await app(scope, receive, send)

    base = await stack.enter_async_context(serving(noting))
    target = sse_client(f"{base}/sse", headers={"X-Token": "t"})
    client = await connect(create_proxy(target))
    assert text(await client.call_tool("echo", {"say": "hi"})) == "hi"
    assert all(headers.get(b"x-token") == b"t" for headers in seen if headers)


@pytest.mark.parametrize("wrapped", [False, True])
async def test_stdio_parameters_start_a_process(connect: Any, wrapped: bool) -> None:
    parameters = StdioServerParameters(command=sys.executable, args=[NOTES])
    client = await connect(create_proxy(stdio_client(parameters) if wrapped else parameters))
    assert await names(client) == ["add_note", "search_notes"]


async def test_a_javascript_server_is_started_with_node(connect: Any) -> None:
    client = await connect(create_proxy(HERE / "echo.js"), "auto")
    assert text(await client.call_tool("echo", {"say": "hi"})) == "hi"


@pytest.mark.parametrize("mode", ["legacy", "auto"])
@pytest.mark.parametrize("low", [False, True])
async def test_an_in_process_server_needs_no_transport(connect: Any, mode: str, low: bool) -> None:
    server = _server()
    target = server._lowlevel_server if low else server
    client = await connect(create_proxy(target, name="outside"), mode)
    assert client.server_info.name == "outside"
    assert text(await client.call_tool("echo", {"say": "hi"})) == "hi"


async def test_a_transport_that_can_be_entered_once_is_shared(connect: Any) -> None:
    client = await connect(create_proxy(InMemoryTransport(_server())))
    for word in ("one", "two"):
        assert text(await client.call_tool("echo", {"say": word})) == word


async def test_an_sdk_client_that_is_not_connected_opens_fresh_sessions(
    counter: Any, connect: Any
) -> None:
    server, url = counter
    client = await connect(create_proxy(Client(url, mode="legacy")))
    for _ in range(2):
        assert (await client.call_tool("increment", {})).structured_content == {"result": 1}
    assert len(server.counts) == 2


@pytest.mark.parametrize("mode", ERAS)
async def test_a_connected_sdk_client_is_shared(
    counter: Any, connect: Any, stack: AsyncExitStack, mode: str
) -> None:
    server, url = counter
    connected = await stack.enter_async_context(in_its_own_task(Client(url, mode="legacy")))
    client = await connect(create_proxy(connected), mode)
    for number in (1, 2, 3):
        result = await client.call_tool("increment", {})
        assert result.structured_content == {"result": number}
    assert server.gate.count("initialize") == 1


@pytest.mark.parametrize("mode", ERAS)
@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_callbacks_of_an_sdk_client_answer_in_the_clients_place(
    peer: Any, connect: Any, era: str, mode: str
) -> None:
    _, url = await peer(era=era)

    async def sample(context: Any, params: Any) -> t.CreateMessageResult:
        content = t.TextContent(type="text", text="from the callback")
        return t.CreateMessageResult(role="assistant", model="m", content=content)

    value = Client(url, mode="legacy" if era == "legacy" else "auto", sampling_callback=sample)
    client = await connect(create_proxy(value), mode)
    assert text(await client.call_tool("sample", {})) == "model: from the callback"
    assert "elicitation" not in text(await client.call_tool("whoami", {}))


async def test_progress_passes_through_a_connected_sdk_client(
    peer: Any, connect: Any, stack: AsyncExitStack
) -> None:
    _, url = await peer(era="legacy")
    connected = await stack.enter_async_context(in_its_own_task(Client(url, mode="legacy")))
    seen: list[float] = []

    async def progressed(progress: float, total: float | None, message: str | None) -> None:
        seen.append(progress)

    client = await connect(create_proxy(connected))
    await client.call_tool("noisy", {"say": "hi"}, progress_callback=progressed)
    assert seen == [1, 2]


@pytest.mark.parametrize(
    ("target", "error", "told"),
    [
        (5, TypeError, "int"),
        ("nowhere.py", ManifestError, "nowhere.py"),
        ("server.txt", ManifestError, "server.txt"),
        ({"mcpServers": {}}, ManifestError, "mcpServers"),
        ({"mcpServers": {"a": {"type": "http"}}}, ManifestError, "mcpServers.a"),
    ],
)
def test_a_file_without_servers_is_refused(target: Any, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        create_proxy(target)


def test_a_client_is_for_one_server() -> None:
    config = {"mcpServers": {"a": {"url": "http://a/"}, "b": {"url": "http://b/"}}}
    with pytest.raises(ManifestError, match="one server"):
        ProxyClient(config)


async def test_a_client_that_cannot_connect_reports_the_cause() -> None:
    with pytest.raises(ConnectionError, match="refused"):
        async with ProxyClient("http://127.0.0.1:1/mcp"):
            pass


async def test_an_error_for_a_missing_component_names_the_state_of_the_server() -> None:
    with pytest.raises(LookupError, match=r"Unhealthy.*refused"):
        await create_proxy("http://127.0.0.1:1/mcp").get_tool("x")


def test_the_package_imports_its_parts_lazily() -> None:
    result = "import sys, mcpproxy; print(sorted({'mcp', 'msgspec', 'uvicorn'} & set(sys.modules)))"
    said = subprocess.run(
        [sys.executable, "-c", result], capture_output=True, check=True, text=True
    )
    assert said.stdout.strip() == "[]"


async def test_lists_of_a_server_without_a_backend_are_errors_with_the_cause() -> None:
    proxy = create_proxy(f"http://127.0.0.1:{free_port()}/mcp", name="P")
    with pytest.raises(MCPError, match="the list of tools is unknown, because backends failed"):
        await proxy.list_tools()


async def test_local_components_are_listed_while_a_backend_is_down() -> None:
    server = Server("S")

    @server.tool
    def add(a: int, b: int) -> int:
        return a + b

    server.mount(create_proxy(f"http://127.0.0.1:{free_port()}/mcp", name="P"))
    assert [tool.identifier for tool in await server.list_tools()] == ["add"]
