"""Lists, calls, gets, reads and completions through a proxy equal what the backend says itself."""

import sys
from pathlib import Path
from typing import Any

import mcp_types as t
import pytest
from mcp import Client, MCPError
from mcp.server.mcpserver import MCPServer

from tests.proxy.runtime.peer import Peer
from tests.proxy.runtime.serving import LIVE, Proxy, serving

pytestmark = LIVE
MODES = ("legacy", "2026-07-28", "auto")
NOTES = Path(__file__).parents[3] / "samples" / "servers" / "notes.py"


def _sse_app() -> Any:
    server = MCPServer("old", version="1.0", log_level="WARNING")

    @server.tool()
    def add(a: int, b: int) -> int:
        """Sum."""
        return a + b

    @server.resource("old://thing")
    def thing() -> str:
        """A thing."""
        return "old thing"

    return server.sse_app()


async def _components(client: Client) -> dict[str, list[str]]:
    return {
        "tools": [tool.name for tool in (await client.list_tools()).tools],
        "prompts": [prompt.name for prompt in (await client.list_prompts()).prompts],
        "resources": [resource.uri for resource in (await client.list_resources()).resources],
        "templates": [
            template.uri_template
            for template in (await client.list_resource_templates()).resource_templates
        ],
    }


@pytest.mark.slow
async def test_three_transports_are_one_server_in_every_mode(
    peer: Any, proxy: Any, stack: Any
) -> None:
    _, url = await peer()
    old = await stack.enter_async_context(serving(_sse_app()))
    running = await proxy(
        {"name": "http", "url": url},
        {"name": "old", "url": f"{old}/sse"},
        {"name": "notes", "stdio": {"command": sys.executable, "args": [str(NOTES)]}},
    )
    await running.until("old", "Healthy")
    await running.until("notes", "Healthy")
    report = await running.report()
    assert [(b.name, b.transport) for b in report.backends] == [
        ("http", "streamable-http"),
        ("notes", "stdio"),
        ("old", "sse"),
    ]
    result = {}
    for mode in MODES:
        async with Client(running.url, mode=mode) as client:
            result[mode] = await _components(client)
            added = await client.call_tool("old_add", {"a": 2, "b": 3})
            assert added.structured_content == {"result": 5}
            noted = await client.call_tool("notes_search_notes", {"text": "olives"})
            assert noted.structured_content == {"result": ["shopping"]}
            read = await client.read_resource("old://old/thing")
            assert isinstance(read.contents[0], t.TextResourceContents)
            assert (read.contents[0].uri, read.contents[0].text) == ("old://old/thing", "old thing")
    assert result["legacy"] == result["2026-07-28"] == result["auto"]
    assert {name.split("_")[0] for name in result["auto"]["tools"]} == {"http", "notes", "old"}
    counts = [b.components.to_manifest() for b in report.backends if b.components]
    assert sum(count.get("tools", 0) for count in counts) == len(result["auto"]["tools"])


async def test_the_names_of_a_backend_do_not_depend_on_other_backends(
    peer: Any, proxy: Any
) -> None:
    (_, url), (_, other) = await peer("p"), await peer("q")
    alone = await proxy({"name": "p", "url": url})
    beside = await proxy(
        {"name": "a", "url": other}, {"name": "p", "url": url}, {"name": "z", "url": other}
    )
    results = []
    for running in (alone, beside):
        async with Client(running.url) as client:
            results.append(await _components(client))
    assert len(results[1]["tools"]) == 3 * len(results[0]["tools"])
    for kind, names in results[0].items():
        assert set(names) < set(results[1][kind]), kind


@pytest.mark.parametrize("era", ["legacy", "modern", "dual"])
@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
async def test_results_equal_the_direct_ones_after_undoing_prefixes(
    shared: tuple[Peer, Proxy], era: str, mode: str
) -> None:
    peer, running = shared
    direct_mode = {"legacy": "legacy", "modern": "2026-07-28", "dual": mode}[era]
    async with (
        Client(peer.url, mode=direct_mode) as direct,
        Client(running.url, mode=mode) as through,
    ):
        pages: list[str] = []
        cursor = None
        while True:
            page = await direct.list_tools(cursor=cursor)
            pages += [tool.name for tool in page.tools]
            cursor = page.next_cursor
            if cursor is None:
                break
        shown = await _components(through)
        assert shown == {
            "tools": [f"p_{name}" for name in pages],
            "prompts": ["p_greet"],
            "resources": ["file://p//etc/motd", "mailto:p/someone@example.com"],
            "templates": ["note://p/{id}"],
        }
        for name, arguments in (("echo", {"a": ["ü", 1]}), ("fail", {})):
            mine = await through.call_tool(f"p_{name}", arguments)
            theirs = await direct.call_tool(name, arguments)
            assert mine.content == theirs.content
            assert mine.structured_content == theirs.structured_content
            assert mine.is_error == theirs.is_error
        linked = (await through.call_tool("p_link", {})).content[0]
        assert isinstance(linked, t.ResourceLink)
        assert linked.uri == "note://p/7"


@pytest.mark.parametrize("era", ["legacy", "modern"])
@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
async def test_reads_gets_and_completions_are_routed_and_mapped(
    shared: tuple[Peer, Proxy], era: str, mode: str
) -> None:
    _, running = shared
    async with Client(running.url, mode=mode) as client:
        for outward, own in (
            ("file://p//etc/motd", "file:///etc/motd"),
            ("mailto:p/someone@example.com", "mailto:someone@example.com"),
            ("note://p/42", "note://42"),
        ):
            read = (await client.read_resource(outward)).contents[0]
            assert isinstance(read, t.TextResourceContents)
            assert (read.uri, read.text) == (outward, own)
        message = (await client.get_prompt("p_greet", {"who": "Bo"})).messages[0]
        assert isinstance(message.content, t.EmbeddedResource)
        assert isinstance(message.content.resource, t.TextResourceContents)
        assert message.content.resource.uri == "note://p/1"
        assert message.content.resource.text == "hello Bo"
        prompt = t.PromptReference(type="ref/prompt", name="p_greet")
        done = await client.complete(prompt, {"name": "who", "value": "B"})
        assert done.completion.values == ["greet:B"]
        template = t.ResourceTemplateReference(type="ref/resource", uri="note://p/{id}")
        done = await client.complete(template, {"name": "id", "value": "4"})
        assert done.completion.values == ["note://{id}:4"]


@pytest.mark.parametrize(
    ("era", "mode", "code"),
    [
        ("modern", "2026-07-28", -32602),
        ("modern", "legacy", -32002),
        ("legacy", "2026-07-28", -32602),
    ],
)
async def test_a_missing_resource_is_the_error_of_the_clients_era_with_its_own_uri(
    shared: tuple[Peer, Proxy], era: str, mode: str, code: int
) -> None:
    _, running = shared
    async with Client(running.url, mode=mode) as client:
        with pytest.raises(MCPError) as caught:
            await client.read_resource("missing://p/x")
    assert caught.value.error.code == code
    assert caught.value.error.data == {"uri": "missing://p/x"}


@pytest.mark.parametrize("era", ["dual"])
@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
async def test_an_unknown_name_is_an_error_and_never_an_empty_success(
    shared: tuple[Peer, Proxy], mode: str
) -> None:
    _, running = shared
    async with Client(running.url, mode=mode) as client:
        for name in ("p_nothing", "other_echo", "echo", ""):
            with pytest.raises(MCPError) as caught:
                await client.call_tool(name, {})
            assert caught.value.error.code == -32602


async def test_instructions_and_capabilities_of_all_backends_are_offered(
    peer: Any, proxy: Any
) -> None:
    _, item = await peer("one", "legacy")
    _, two = await peer("two", "modern")
    running = await proxy({"name": "one", "url": item}, {"name": "two", "url": two})
    await running.until("one", "Healthy")
    await running.until("two", "Healthy")
    for mode in ("legacy", "2026-07-28", "auto"):
        async with Client(running.url, mode=mode) as client:
            if mode == "2026-07-28":
                continue  # This mode asks for nothing before its first request.
            assert client.instructions == "## one\n\nAbout one.\n\n## two\n\nAbout two."
            assert client.server_capabilities.completions is not None
            assert client.server_capabilities.tools is not None
            assert client.server_capabilities.tools.list_changed is True
