"""The documented ways to use the library, one test each, against real servers."""

import copy
import json
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import mcp_types as t
import pytest
from mcp import Client, StdioServerParameters
from mcp.server import MCPServer
from mcp.server.transport_security import TransportSecuritySettings

from mcpproxy import Proxy, ProxyClient, ProxyProvider, Server, create_proxy
from tests.library.conftest import ERAS, NOTES, names, served, text
from tests.proxy.runtime.serving import serving

pytestmark = pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning")
BRIDGE = str(Path(__file__).with_name("bridge.py"))


@pytest.mark.slow
async def test_a_proxy_of_a_url_serves_stdio_by_default(peer: Any) -> None:
    _, url = await peer()
    program = StdioServerParameters(command=sys.executable, args=[BRIDGE, url])
    async with Client(program) as client:
        assert client.server_info is not None
        assert client.server_info.name == "bridge"
        assert "echo" in await names(client)
        assert text(await client.call_tool("echo", {"a": 1})) == '{"a": 1}'


@pytest.mark.slow
async def test_an_old_sse_server_is_bridged_to_stdio(stack: AsyncExitStack) -> None:
    server = MCPServer("old", log_level="WARNING")
    server.add_tool(lambda: "from SSE", name="hello")
    open_to = TransportSecuritySettings(enable_dns_rebinding_protection=False)
    base = await stack.enter_async_context(serving(server.sse_app(transport_security=open_to)))
    program = StdioServerParameters(command=sys.executable, args=[BRIDGE, f"{base}/sse"])
    async with Client(program, mode="legacy") as client:
        assert text(await client.call_tool("hello", {})) == "from SSE"


async def test_a_local_server_is_bridged_to_http_on_every_address() -> None:
    proxy = create_proxy(NOTES, name="stdio-to-http")
    async with served(proxy, host="0.0.0.0") as url, Client(url) as client:
        assert await names(client) == ["add_note", "search_notes"]


@pytest.mark.parametrize("mode", ERAS)
async def test_every_request_gets_its_own_session(counter: Any, connect: Any, mode: str) -> None:
    server, url = counter
    client = await connect(create_proxy(url), mode)
    for _ in range(3):
        assert (await client.call_tool("increment", {})).structured_content == {"result": 1}
    assert sorted(server.counts.values()) == [1, 1, 1]


async def test_a_connected_client_is_shared_by_all_requests(connect: Any) -> None:
    async with ProxyClient(NOTES) as connected:
        client = await connect(create_proxy(connected))
        first = await client.call_tool("add_note", {"title": "a", "text": "x"})
        second = await client.call_tool("add_note", {"title": "b", "text": "y"})
        assert text(first) == "noted: a (5 notes)"
        assert text(second) == "noted: b (6 notes)"


class Callbacks:
    """A client's answers, and the notifications that it received."""

    def __init__(self) -> None:
        self.logged: list[Any] = []

    async def sampling_callback(self, ctx: Any, params: Any) -> t.CreateMessageResult:
        """Repeats the prompt."""
        return t.CreateMessageResult(
            role="assistant", model="m", content=params.messages[0].content
        )

    async def elicitation_callback(self, ctx: Any, params: Any) -> t.ElicitResult:
        """Always the same person."""
        return t.ElicitResult(action="accept", content={"name": "Bo"})

    async def list_roots_callback(self, ctx: Any) -> t.ListRootsResult:
        """One root."""
        return t.ListRootsResult(roots=[t.Root(uri="file:///w")])

    async def logging_callback(self, params: Any) -> None:
        """Kept."""
        self.logged.append(params.data)

    def arguments(self) -> dict[str, Any]:
        """For a client."""
        result = ("sampling", "elicitation", "list_roots", "logging")
        return {f"{name}_callback": getattr(self, f"{name}_callback") for name in result}


@pytest.mark.parametrize("mode", ERAS)
@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_all_features_pass_through(peer: Any, connect: Any, era: str, mode: str) -> None:
    _, url = await peer(era=era)
    callbacks = Callbacks()
    seen: list[float] = []

    async def progressed(progress: float, total: float | None, message: str | None) -> None:
        seen.append(progress)

    client = await connect(create_proxy(url), mode, log_level="debug", **callbacks.arguments())
    if mode == "legacy":
        await client.set_logging_level("debug")
    assert text(await client.call_tool("sample", {"prompt": "Paris"})) == "model: Paris"
    assert text(await client.call_tool("elicit", {})) == "user: Bo"
    assert text(await client.call_tool("roots", {})) == "file:///w"
    await client.call_tool("noisy", {"say": "hi"}, progress_callback=progressed)
    assert callbacks.logged == ["hi"]
    assert seen == [1, 2]


@pytest.mark.parametrize("mode", ERAS)
@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_features_can_be_withdrawn(peer: Any, connect: Any, era: str, mode: str) -> None:
    _, url = await peer(era=era)
    callbacks = Callbacks()
    backend = ProxyClient(url, sampling_handler=None, log_handler=None)
    client = await connect(create_proxy(backend), mode, log_level="debug", **callbacks.arguments())
    if mode == "legacy":
        await client.set_logging_level("debug")
    seen = text(await client.call_tool("whoami", {}))
    assert "sampling" not in seen
    assert "elicitation" in seen
    await client.call_tool("noisy", {"say": "hi"})
    assert callbacks.logged == []
    assert text(await client.call_tool("elicit", {})) == "user: Bo"


async def test_one_configured_server_has_no_prefix(peer: Any, connect: Any) -> None:
    _, url = await peer()
    config = {"mcpServers": {"default": {"url": url, "transport": "http"}}}
    client = await connect(create_proxy(config, name="Configured"))
    assert client.server_info.name == "Configured"
    assert "echo" in await names(client)


@pytest.mark.parametrize("mode", ERAS)
async def test_several_configured_servers_are_prefixed_in_all_they_have(
    peer: Any, connect: Any, mode: str
) -> None:
    (_, item), (_, two) = await peer("one"), await peer("two")
    config = {"mcpServers": {"weather": {"url": item}, "calendar": {"url": two}}}
    client = await connect(create_proxy(config), mode)
    assert {"weather_echo", "calendar_echo"} <= set(await names(client))
    prompts = (await client.list_prompts()).prompts
    assert sorted(p.name for p in prompts) == ["calendar_greet", "weather_greet"]
    resources = {str(r.uri) for r in (await client.list_resources()).resources}
    assert "file://weather//etc/motd" in resources
    templates = (await client.list_resource_templates()).resource_templates
    assert {x.uri_template for x in templates} == {"note://weather/{id}", "note://calendar/{id}"}
    read = await client.read_resource("note://calendar/7")
    assert read.contents[0].text == "note://7"


async def test_a_mirrored_tool_is_read_only_and_its_copy_is_not(peer: Any, connect: Any) -> None:
    _, url = await peer()
    proxy = create_proxy(url)
    mirrored = await proxy.get_tool("echo")
    with pytest.raises(AttributeError, match="read-only"):
        mirrored.name = "other"
    with pytest.raises(TypeError, match="copy"):
        Server("mine").add_tool(mirrored)  # type: ignore[arg-type]
    local = mirrored.copy()
    local.description = "says it again"
    mine = Server("mine")
    mine.add_tool(local)
    mine.disable(keys={local.key})
    client = await connect(mine)
    assert await names(client) == []
    mine.enable(keys={local.key})
    assert await names(client) == ["echo"]
    assert (await client.list_tools()).tools[0].description == "says it again"
    assert text(await client.call_tool("echo", {"a": 1})) == '{"a": 1}'
    assert mirrored.description is None


async def test_a_mirrored_tool_cannot_be_changed_however_deep() -> None:
    server = MCPServer("S", log_level="WARNING")
    server.add_tool(_plus, name="plus")
    mirrored = await create_proxy(server).get_tool("plus")
    before = json.dumps(mirrored.definition)
    changes: list[Callable[[], Any]] = [
        lambda: mirrored.definition.update(name="hacked"),
        lambda: mirrored.definition.__setitem__("name", "hacked"),
        lambda: mirrored.definition.__ior__({"name": "hacked"}),
        lambda: mirrored.parameters.setdefault("x", 1),
        lambda: mirrored.parameters["properties"].clear(),
        lambda: mirrored.parameters["required"].append("x"),
        lambda: mirrored.parameters["required"].__iadd__(["x"]),
    ]
    for change in changes:
        with pytest.raises(TypeError, match="copy"):
            change()
    assert json.dumps(mirrored.definition) == before
    for copied in (mirrored.copy().definition, copy.deepcopy(mirrored.definition)):
        copied["inputSchema"]["required"].append("x")
        assert copied != mirrored.definition


def _plus(a: int, b: int) -> int:
    return a + b


async def test_a_missing_component_is_called_by_its_kind(peer: Any) -> None:
    _, url = await peer()
    proxy = create_proxy(url, name="mine")
    for get, kind in (
        (proxy.get_tool, "tool"),
        (proxy.get_prompt, "prompt"),
        (proxy.get_resource, "resource"),
        (proxy.get_resource_template, "resource template"),
    ):
        with pytest.raises(LookupError, match=f"^server mine has no {kind} x://nope$"):
            await get("x://nope")


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_proxy_adds_its_instructions_to_those_of_its_servers(
    peer: Any, connect: Any, mode: str
) -> None:
    _, url = await peer("weather")
    client = await connect(create_proxy(url, instructions="Ask politely."), mode)
    await names(client)
    assert "Ask politely." in (client.instructions or "")
    assert "About weather." in (client.instructions or "")
    assert Proxy(instructions="Ask politely.").local.instructions == "Ask politely."


@pytest.mark.parametrize("arguments", [{}, {"cache_ttl": 60}, {"cache_ttl": 0}])
async def test_calls_do_not_list_whatever_the_cache_ttl(peer: Any, arguments: Any) -> None:
    result, url = await peer()
    server = Server("cached")
    server.add_provider(ProxyProvider(lambda: ProxyClient(url), **arguments))
    async with server:
        for _ in range(5):
            await server.call_tool("echo", {})
        pages = result.gate.count("tools/list")
        assert pages == 3
        assert [b.settings.cache_ttl for b in server.gateway.backends.values()] == [
            arguments.get("cache_ttl", 300)
        ]


@pytest.mark.slow
async def test_a_thousand_calls_of_one_client_open_one_session(counter: Any) -> None:
    server, url = counter
    shared = ProxyClient(url).new()
    async with Proxy(client_factory=lambda: shared, name="reused") as proxy:
        for number in range(1, 1001):
            result = await proxy.call_tool("increment")
            assert result.structured_content == {"result": number}
    assert server.gate.count("initialize") == 1
    assert list(server.counts.values()) == [1000]


async def test_a_new_client_each_time_is_a_fresh_session_each_time(counter: Any) -> None:
    server, url = counter
    async with Proxy(client_factory=lambda: ProxyClient(url)) as proxy:
        for _ in range(5):
            result = await proxy.call_tool("increment")
            assert result.structured_content == {"result": 1}
    assert len(server.counts) == 5


@pytest.mark.parametrize("mode", ERAS)
async def test_a_proxy_is_mounted_beside_local_tools(peer: Any, connect: Any, mode: str) -> None:
    (_, item), (_, two) = await peer("one"), await peer("two")
    server = Server("mine")

    @server.tool
    def local_tool() -> str:
        """Something of our own."""
        return "local result"

    server.mount(create_proxy(item))
    server.mount(create_proxy(two), prefix="more")
    async with server:
        await server.list_tools()
        client = await connect(server, mode)
        assert {"local_tool", "echo", "more_echo"} <= set(await names(client))
        assert text(await client.call_tool("local_tool", {})) == "local result"
        assert text(await client.call_tool("more_echo", {"a": 1})) == '{"a": 1}'
        assert text(await client.call_tool("echo", {"a": 2})) == '{"a": 2}'
        note = await client.read_resource("note://shopping")
        assert note.contents[0].text == "note://shopping"
        note = await client.read_resource("note://more/shopping")
        assert note.contents[0].text == "note://shopping"
        greeting = await client.get_prompt("more_greet", {"who": "Bo"})
        assert greeting.messages[0].content.resource.uri == "note://more/1"
