"""Objects of FastMCP as targets, by stand-ins with the attributes that FastMCP 4.2 gives them."""

import gc
import sys
import weakref
from collections.abc import Iterator
from contextlib import AsyncExitStack
from types import SimpleNamespace
from typing import Any

import pytest
from mcp import Client as SdkClient
from mcp.server import MCPServer
from pydantic import AnyUrl, SecretStr

from mcpproxy import Proxy, ProxyClient, ProxyProvider, create_proxy, mount
from mcpproxy.library.sessions.session_sharing import MAX_SOURCES
from tests.library.conftest import ERAS, NOTES, in_its_own_task, names, text

pytestmark = pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning")


def _fastmcp(name: str, *bases: type, **attributes: Any) -> Any:
    """An object whose class looks as if FastMCP had defined it."""
    made: Any = type(name, bases, {"__module__": "fastmcp.stand_in"})()
    vars(made).update(attributes)
    return made


def _remote(url: str, kind: str = "StreamableHttpTransport", **fields: Any) -> Any:
    attributes: dict[str, Any] = {
        "headers": {},
        "auth": None,
        "httpx_client_factory": None,
        "verify": None,
    }
    return _fastmcp(kind, url=url, **attributes | fields)


class _Methods:
    """Methods of a client, as transports don't have them."""

    connected: SdkClient | None = None
    input_required_max_rounds = 10

    def is_connected(self) -> bool:
        """True inside the client's context."""
        return self.connected is not None

    @property
    def session(self) -> Any:
        """The SDK's session."""
        if self.connected is None:
            raise ConnectionError("the transport has ended")
        return self.connected.session

    async def call_tool(self) -> None:
        """Call a tool."""

    async def __aenter__(self) -> None:
        """Connect."""


def _client(transport: Any, **attributes: Any) -> Any:
    return _fastmcp("Client", _Methods, transport=transport, **attributes)


def _server() -> MCPServer[Any]:
    server = MCPServer("inside", log_level="WARNING")
    server.add_tool(lambda: "from inside", name="echo")
    return server


@pytest.mark.parametrize("mode", ERAS)
async def test_a_server_of_fastmcp_is_a_target(connect: Any, mode: str) -> None:
    server = _fastmcp("FastMCP", _mcp_server=_server()._lowlevel_server)
    in_memory = _fastmcp("FastMCPTransport", server=server)
    for target in (server, in_memory, _client(in_memory), _fastmcp("FastMCPProxy", type(server))):
        vars(target).setdefault("_mcp_server", server._mcp_server)
        client = await connect(create_proxy(target), mode)
        assert text(await client.call_tool("echo", {})) == "from inside"


async def test_a_remote_transport_of_fastmcp_keeps_its_headers(peer: Any, connect: Any) -> None:
    result, url = await peer()
    token = _fastmcp("BearerAuth", token=SecretStr("secret"))
    transport = _remote(url, headers={"x-user": "me"}, auth=token)
    for target in (transport, _client(transport)):
        client = await connect(create_proxy(ProxyClient(target)))
        await client.call_tool("echo", {})
        call = [request for request in result.gate.seen if request.rpc == "tools/call"][-1]
        assert call.headers["x-user"] == "me"
        assert call.headers["authorization"] == "Bearer secret"


async def test_a_stdio_transport_of_fastmcp_starts_a_process(connect: Any) -> None:
    program = {"command": sys.executable, "args": [NOTES], "env": None, "cwd": None}
    transport = _fastmcp("StdioTransport", **program)
    client = await connect(
        create_proxy(_fastmcp("PythonStdioTransport", type(transport), **program))
    )
    assert await names(client)


async def test_a_configuration_of_fastmcp_names_its_servers(peer: Any, connect: Any) -> None:
    (_, item), (_, two) = await peer("one"), await peer("two")
    servers = {
        name: SimpleNamespace(model_dump=lambda url=url, **_: {"url": url})
        for name, url in (("a", item), ("b", two))
    }
    config = _fastmcp("MCPConfig", mcpServers=servers)
    client = await connect(create_proxy(_client(_fastmcp("MCPConfigTransport", config=config))))
    assert {"a_echo", "b_echo"} <= set(await names(client))


async def test_a_url_may_be_one_of_pydantic(peer: Any, connect: Any) -> None:
    _, url = await peer()
    client = await connect(create_proxy(AnyUrl(url)))
    assert "echo" in await names(client)


@pytest.mark.parametrize("by_factory", [False, True])
async def test_a_connected_client_of_fastmcp_shares_its_session(
    counter: Any, connect: Any, stack: AsyncExitStack, by_factory: bool
) -> None:
    _, url = counter
    sdk = await stack.enter_async_context(in_its_own_task(SdkClient(url, mode="legacy")))
    shared = _client(_remote("http://127.0.0.1:1/mcp"), connected=sdk)
    proxy = Proxy(client_factory=lambda: shared) if by_factory else create_proxy(shared)
    client = await connect(proxy)
    for count in (1, 2):
        assert (await client.call_tool("increment", {})).structured_content == {"result": count}
    del vars(shared)["connected"]
    with pytest.raises(Exception, match=r"no longer connected|refused"):
        await client.call_tool("increment", {})


async def test_a_server_of_fastmcp_takes_a_mount(peer: Any) -> None:
    _, url = await peer()
    inside = _server()
    mount(_fastmcp("FastMCP", _mcp_server=inside._lowlevel_server), url, prefix="ext")
    async with SdkClient(inside) as client:
        assert {"echo", "ext_echo"} <= set(await names(client))
        assert text(await client.call_tool("ext_echo", {"a": 1})) == '{"a": 1}'


@pytest.mark.parametrize("field", ["auth", "httpx_client_factory", "verify"])
def test_unsupported_features_of_fastmcp_are_refused_by_name(field: str) -> None:
    value: Any = {field: object()}
    with pytest.raises(TypeError, match=rf"StreamableHttpTransport\.{field}.*http_client"):
        create_proxy(_client(_remote("http://x/mcp", **value)))


def test_a_client_of_another_library_is_not_a_transport() -> None:
    with pytest.raises(TypeError, match="_Methods"):
        create_proxy(_Methods())


def test_handlers_that_are_not_used_are_named_in_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    create_proxy(_client(_remote("http://x/"), _session_kwargs={"sampling_callback": print}))
    assert "sampling_callback" in caplog.text


async def test_clients_that_a_factory_makes_are_not_kept_forever() -> None:
    kept = SdkClient("http://x/mcp")
    provider = ProxyProvider(lambda: next(clients))
    made: list[weakref.ref[SdkClient]] = []

    def making() -> Iterator[SdkClient]:
        for _ in range(10 * MAX_SOURCES):
            yield kept
            fresh = SdkClient("http://x/mcp")
            made.append(weakref.ref(fresh))
            yield fresh

    clients = making()
    first = await provider.client()
    for _ in range(10 * MAX_SOURCES - 1):
        await provider.client()
        assert await provider.client() is first, "one that comes back keeps its session"
    gc.collect()
    assert sum(client() is not None for client in made) <= MAX_SOURCES + 1
