"""Servers in servers: ours in ours, and ours in those of the SDK."""

import json
from typing import Any

import mcp_types as t
import pytest
from mcp import Client, MCPError
from mcp.server import MCPServer
from mcp.server import Server as SdkServer

from mcpproxy import Proxy, ProxyClient, Server, create_proxy, mount
from tests.differential.backend import Backend, Call
from tests.library.conftest import ERAS, names, served, text
from tests.proxy.runtime.serving import serving

pytestmark = pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning")
pairs = pytest.mark.parametrize(
    ("mode", "era"), [(mode, era) for mode in ERAS for era in ("legacy", "modern")]
)


def _host() -> MCPServer[Any]:
    host = MCPServer("host", log_level="WARNING")
    host.add_tool(lambda: "the host's own", name="own")
    return host


@pairs
async def test_an_sdk_server_offers_all_that_is_mounted(peer: Any, mode: str, era: str) -> None:
    _, url = await peer(era=era)
    host = _host()
    mount(host, create_proxy(url), prefix="ext")
    async with serving(host.streamable_http_app()) as base, Client(f"{base}/mcp", mode=mode) as c:
        assert {"own", "ext_echo"} <= set(await names(c))
        assert text(await c.call_tool("own", {})) == "the host's own"
        assert json.loads(text(await c.call_tool("ext_echo", {"a": None}))) == {"a": None}
        assert [p.name for p in (await c.list_prompts()).prompts] == ["ext_greet"]
        greeting = await c.get_prompt("ext_greet", {"who": "Bo"})
        assert greeting.messages[0].content.resource.text == "hello Bo"  # type: ignore[union-attr]
        uris = {str(r.uri) for r in (await c.list_resources()).resources}
        assert "file://ext//etc/motd" in uris
        templates = (await c.list_resource_templates()).resource_templates
        assert [x.uri_template for x in templates] == ["note://ext/{id}"]
        read = await c.read_resource("note://ext/7")
        assert read.contents[0].text == "note://7"  # type: ignore[union-attr]
        reference = t.PromptReference(type="ref/prompt", name="ext_greet")
        completed = await c.complete(reference, {"name": "who", "value": "B"})
        assert completed.completion.values == ["greet:B"]
        with pytest.raises(MCPError, match="not found"):
            await c.read_resource("missing://ext/1")


@pairs
async def test_requests_and_notifications_of_a_mounted_server_reach_the_client(
    peer: Any, mode: str, era: str
) -> None:
    _, url = await peer(era=era)
    host = _host()
    mount(host, url, prefix="ext")
    seen: list[float] = []

    async def elicit(context: Any, params: Any) -> t.ElicitResult:
        return t.ElicitResult(action="accept", content={"name": "Bo"})

    async def progressed(progress: float, total: float | None, message: str | None) -> None:
        seen.append(progress)

    app = host.streamable_http_app()
    async with serving(app) as base:
        client = Client(f"{base}/mcp", mode=mode, elicitation_callback=elicit)
        async with client:
            assert text(await client.call_tool("ext_elicit", {})) == "user: Bo"
            await client.call_tool("ext_noisy", {"say": "x"}, progress_callback=progressed)
            assert "sampling" not in text(await client.call_tool("ext_whoami", {}))
    assert seen == [1, 2]


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_without_a_prefix_the_sdk_servers_own_component_wins(peer: Any, mode: str) -> None:
    _, url = await peer()
    host = _host()
    host.add_tool(lambda: "mine", name="echo")
    mount(host, url)
    async with Client(host, mode=mode) as client:
        result = await names(client)
        assert result.count("echo") == 1
        assert text(await client.call_tool("echo", {})) == "mine"
        assert text(await client.call_tool("fail", {})) == "it broke"


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_the_first_of_several_proxies_in_an_sdk_server_takes_precedence(
    mode: str,
) -> None:
    host = _host()
    for name in ("second", "first"):
        mount(host, _offering(name))
    async with Client(host, mode=mode) as client:
        tools = {tool.name: tool.description for tool in (await client.list_tools()).tools}
        assert tools["add"] == "second's"
        assert text(await client.call_tool("add", {})) == "second"
        assert text(await client.call_tool("first_only", {})) == "first"


def _offering(name: str) -> Server:
    server = Server(name)
    server.tool(lambda: name, name="add", description=f"{name}'s")
    server.tool(lambda: name, name=f"{name}_only")
    server.resource("note://{number}", name="note")(lambda number: name)
    return server


@pytest.mark.parametrize("mode", ERAS)
@pytest.mark.parametrize("mounted", ["MyProxy", "0", "_", "~", "_local", "_copies"])
async def test_components_of_a_server_take_precedence_over_mounted_ones(
    connect: Any, mode: str, mounted: str
) -> None:
    server = _offering("own")
    server.mount(create_proxy(_offering("theirs"), name=mounted))
    client = await connect(server, mode)
    tools = {tool.name: tool.description for tool in (await client.list_tools()).tools}
    assert tools["add"] == "own's"
    assert text(await client.call_tool("add", {})) == "own"
    assert text(await client.call_tool("theirs_only", {})) == "theirs"
    assert (await client.read_resource("note://7")).contents[0].text == "own"


@pytest.mark.parametrize("names_of", [("a", "b"), ("b", "a"), ("Z", "a"), ("same", "same")])
async def test_the_first_of_several_mounted_servers_takes_precedence(
    connect: Any, names_of: tuple[str, str]
) -> None:
    server = Server("S")
    for mounted, offering in zip(names_of, ("first", "second"), strict=True):
        server.mount(create_proxy(_offering(offering), name=mounted))
    client = await connect(server)
    tools = [tool.name for tool in (await client.list_tools()).tools]
    assert tools == ["add", "first_only", "second_only"]
    assert text(await client.call_tool("add", {})) == "first"
    assert (await client.read_resource("note://7")).contents[0].text == "first"


async def test_a_copy_takes_precedence_over_mounted_components(connect: Any) -> None:
    origin, server = _offering("origin"), Server("S")
    server.mount(create_proxy(_offering("theirs"), name="A"))
    server.add((await origin.get_tool("add")).copy())
    client = await connect(server)
    assert text(await client.call_tool("add", {})) == "origin"


async def test_a_mounted_server_without_a_cache_is_listed_with_its_current_state(
    connect: Any,
) -> None:
    inner = MCPServer("inner", log_level="WARNING")
    inner.add_tool(lambda: "x", name="one")
    outer = Server("outer")
    outer.mount(Proxy(client_factory=lambda: ProxyClient(inner), cache_ttl=0))
    client = await connect(outer)
    for name in ("two", "three"):
        inner.add_tool(lambda: "x", name=name)
        assert name in await names(client)


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_low_level_server_without_handlers_takes_a_mount(peer: Any, mode: str) -> None:
    _, url = await peer()
    host: SdkServer[Any] = SdkServer("low")
    mount(host, url, prefix="ext")
    async with Client(host, mode=mode) as client:
        assert client.server_capabilities.tools is not None
        assert "ext_echo" in await names(client)
        assert text(await client.call_tool("ext_echo", {"a": 1})) == '{"a": 1}'


@pairs
async def test_server_requests_pass_through_nested_mounts(
    peer: Any, connect: Any, mode: str, era: str
) -> None:
    _, url = await peer(era=era)
    inner, outer = Server("inner"), Server("outer")
    inner.mount(create_proxy(ProxyClient(url, sampling_handler=lambda params: "model")), "a")
    outer.mount(inner, prefix="b")

    async def elicit(context: Any, params: Any) -> t.ElicitResult:
        return t.ElicitResult(action="accept", content={"name": "Bo"})

    client = await connect(outer, mode, elicitation_callback=elicit)
    assert text(await client.call_tool("b_a_elicit", {})) == "user: Bo"
    assert text(await client.call_tool("b_a_sample", {})) == "model: model"
    read = await client.read_resource("note://b/a/7")
    assert read.contents[0].text == "note://7"


@pytest.mark.parametrize("mode", ERAS)
async def test_a_tool_hidden_from_connected_clients_is_unlisted_and_refused(
    peer: Any, connect: Any, mode: str
) -> None:
    _, url = await peer()
    proxy = create_proxy(url)
    client = await connect(proxy, mode)
    assert "echo" in await names(client)
    proxy.disable(keys={"tool:echo", "template:note://{id}"})
    assert "echo" not in await names(client)
    with pytest.raises(MCPError, match="unknown tool"):
        await client.call_tool("echo", {})
    with pytest.raises(MCPError, match="unknown resource"):
        await client.read_resource("note://7")
    proxy.enable(keys={"tool:echo", "template:note://{id}"})
    assert text(await client.call_tool("echo", {})) == "{}"
    assert (await client.read_resource("note://7")).contents


async def test_a_hidden_component_is_hidden_in_every_case_of_its_prefix(
    peer: Any, connect: Any
) -> None:
    _, url = await peer()
    server = Server("S")
    server.mount(create_proxy(url), prefix="ext")
    server.disable(keys={"template:note://ext/{id}", "resource:file://ext//etc/motd"})
    client = await connect(server)
    await client.list_resource_templates()
    for uri in ("note://ext/7", "note://EXT/7", "file://ext//etc/motd", "file://Ext//etc/motd"):
        with pytest.raises(MCPError, match="unknown resource"):
            await client.read_resource(uri)


async def test_copies_of_all_kinds_may_have_other_names(peer: Any, connect: Any) -> None:
    _, url = await peer()
    proxy, mine = create_proxy(url), Server("mine")
    async with proxy:
        tool = (await proxy.get_tool("echo")).copy()
        prompt = (await proxy.get_prompt("greet")).copy()
        resource = (await proxy.get_resource("file:///etc/motd")).copy()
        template = (await proxy.get_resource_template("note://{id}")).copy()
    tool.name, prompt.name, resource.uri = "say", "welcome", "motd://today"
    for component in (tool, prompt, resource, template):
        mine.add(component)
    client = await connect(mine)
    assert await names(client) == ["say"]
    assert text(await client.call_tool("say", {"a": 1})) == '{"a": 1}'
    assert (await client.get_prompt("welcome", {"who": "Bo"})).messages
    assert (await client.read_resource("motd://today")).contents[0].text == "file:///etc/motd"
    assert (await client.read_resource("note://3")).contents[0].text == "note://3"
    assert text(await tool.run({"b": 2})) == '{"b": 2}'


@pytest.mark.parametrize("mode", ERAS)
async def test_a_resource_answers_with_the_uri_of_its_copy(
    peer: Any, connect: Any, mode: str
) -> None:
    _, url = await peer()
    proxy, mine = create_proxy(url), Server("mine")
    async with proxy:
        read, missing = (await proxy.get_resource("file:///etc/motd")).copy(), None
        missing = (await proxy.get_resource("file:///etc/motd")).copy()
    read.uri, missing.uri = "motd://today", "motd://never"
    missing.__dict__["own"] = "missing://x"
    for copy in (read, missing):
        mine.add(copy)
    client = await connect(mine, mode)
    (content,) = (await client.read_resource("motd://today")).contents
    assert str(content.uri) == "motd://today"
    assert content.text == "file:///etc/motd"
    with pytest.raises(MCPError) as caught:
        await client.read_resource("motd://never")
    assert caught.value.error.data == {"uri": "motd://never"}


async def test_a_copied_template_may_be_one_that_the_sdk_cannot_read(connect: Any) -> None:
    origin, mine = Server("origin"), Server("mine")
    origin.resource("note://{number}", name="note")(lambda number: "a note")
    async with origin:
        copy = (await origin.get_resource_template("note://{number}")).copy()
    copy.uri_template = "note://{number}{?a}{b}"
    mine.add(copy)
    client = await connect(mine)
    assert (await client.read_resource("note://7")).contents[0].text == "a note"


async def test_a_server_is_not_mounted_into_itself() -> None:
    item, two = Server("one"), Server("two")
    item.mount(two)
    with pytest.raises(ValueError, match="itself"):
        two.mount(item)


async def test_a_server_that_runs_takes_no_components() -> None:
    server = Server("mine")
    async with served(server):
        with pytest.raises(RuntimeError, match="while the server is running"):
            server.mount(Server("late"))


async def test_progress_on_a_server_request_reaches_the_mounted_server_with_its_token() -> None:
    async def answer(call: Call) -> None:
        await call.ask(_sampling)
        shown = json.dumps(call.message["id"])
        await call.finish(f'{{"jsonrpc":"2.0","id":{shown},"result":{{"content":[]}}}}')

    async def sampled(context: Any, params: Any) -> t.CreateMessageResult:
        token = context.meta["progress_token"]
        await context.session.send_progress_notification(token, 0.5, message="half")
        content = t.TextContent(type="text", text="x")
        return t.CreateMessageResult(role="assistant", model="m", content=content)

    backend = Backend("legacy", answer, {"tools": ['{"name":"t","inputSchema":{"type":"object"}}']})
    host = _host()
    async with serving(backend) as behind:
        mount(host, create_proxy(f"{behind}/mcp"), prefix="ext")
        app = host.streamable_http_app()
        async with (
            serving(app) as base,
            Client(f"{base}/mcp", mode="legacy", sampling_callback=sampled) as client,
        ):
            await client.call_tool("ext_t", {})
    told = [item.message["params"] for item in backend.seen if "progress" in item.body.decode()]
    assert told == [{"progressToken": "its-own", "progress": 0.5, "message": "half"}]


def _sampling(own: str) -> str:
    params = {"messages": [], "maxTokens": 1, "_meta": {"progressToken": "its-own"}}
    asked = {"jsonrpc": "2.0", "id": own, "method": "sampling/createMessage", "params": params}
    return json.dumps(asked)
