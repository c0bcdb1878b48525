"""Include, exclude and overrides over HTTP: what is hidden is not listed and can't be used."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import mcp_types as t
import pytest
import pytest_asyncio
from mcp import Client, MCPError

from mcpproxy.limits.clients import NAME_LENGTH
from tests.proxy.runtime.serving import CALM, LIVE, Proxy, proxied, serving
from tests.proxy.runtime.shelf import SELECTED, Shelf

pytestmark = LIVE
modes = pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
NOT_FOUND = {"legacy": -32002, "2026-07-28": -32602}
VALUE = {"name": "x", "value": "y"}
ASKED = ("tools/call", "prompts/get", "resources/read", "completion/complete")


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def world() -> AsyncIterator[tuple[Shelf, Proxy]]:
    """A shelf of both eras and a proxy that shows a part of it."""
    async with AsyncExitStack() as stack:
        shelf = Shelf()
        base = await stack.enter_async_context(serving(shelf.gate))
        spec = {"name": "s", "url": f"{base}/mcp", **SELECTED}
        yield shelf, await stack.enter_async_context(proxied(spec, **CALM))


@modes
async def test_only_selected_components_are_listed_with_their_overrides(
    world: tuple[Shelf, Proxy], mode: str
) -> None:
    async with Client(world[1].url, mode=mode) as client:
        tools = (await client.list_tools()).tools
        prompts = (await client.list_prompts()).prompts
        resources = (await client.list_resources()).resources
        templates = (await client.list_resource_templates()).resource_templates
    assert [(x.name, x.title, x.description) for x in tools] == [("s_fetch", "Fetch", "Fetches.")]
    assert [(x.name, x.title, x.description) for x in prompts] == [("s_inquire", "Ask", "Asks.")]
    shown = [(str(x.uri), x.name, x.title, x.description) for x in resources]
    assert shown == [("file://s//pub/a", "r", "A", "The first.")]
    results = [(x.uri_template, x.name, x.title, x.description) for x in templates]
    assert results == [("note://s/{id}", "t", "Note", "A note.")]


@modes
async def test_a_listed_component_is_forwarded_with_its_upstream_name(
    world: tuple[Shelf, Proxy], mode: str
) -> None:
    async with Client(world[1].url, mode=mode) as client:
        called = (await client.call_tool("s_fetch", {})).content[0]
        assert isinstance(called, t.TextContent)
        assert called.text == "get_a"
        prompted = (await client.get_prompt("s_inquire")).messages[0].content
        assert isinstance(prompted, t.TextContent)
        assert prompted.text == "ask"
        prompt = t.PromptReference(type="ref/prompt", name="s_inquire")
        done = await client.complete(prompt, {"name": "x", "value": "y"})
        assert done.completion.values == ["ask:y"]
        template = t.ResourceTemplateReference(type="ref/resource", uri="note://s/{id}")
        done = await client.complete(template, {"name": "id", "value": "4"})
        assert done.completion.values == ["note://{id}:4"]
        for outward, own in (
            ("file://s//pub/a", "file:///pub/a"),
            ("note://s/7", "note://7"),
        ):
            (read,) = (await client.read_resource(outward)).contents
            assert isinstance(read, t.TextResourceContents)
            assert (str(read.uri), read.text) == (outward, own)


async def _refused(use: Callable[[], Awaitable[Any]]) -> int:
    with pytest.raises(MCPError) as caught:
        await use()
    return caught.value.error.code


@modes
async def test_hidden_tools_and_prompts_are_unknown_and_never_reach_the_backend(
    world: tuple[Shelf, Proxy], mode: str
) -> None:
    shelf, running = world
    async with Client(running.url, mode=mode) as client:
        before = [shelf.gate.count(method) for method in ASKED]
        for tool in ("get_a", "get_b_admin", "get_off", "set_a"):
            assert await _refused(lambda name=tool: client.call_tool(f"s_{name}", {})) == -32602  # type: ignore[misc]
        for name in ("ask", "ask_admin", "off", "other"):
            assert await _refused(lambda name=name: client.get_prompt(f"s_{name}")) == -32602  # type: ignore[misc]
            prompt = t.PromptReference(type="ref/prompt", name=f"s_{name}")
            assert await _refused(lambda of=prompt: client.complete(of, VALUE)) == -32602  # type: ignore[misc]
        assert [shelf.gate.count(method) for method in ASKED] == before


HIDDEN = (
    "file://s//pub/off",
    "file://s//pub/secret",
    "file://s//etc/passwd",
    "file://s//pub/not-listed",
    "log://s/monday",
    "note://s/private/1",
    "off://s/1",
)


@modes
@pytest.mark.parametrize("uri", HIDDEN)
async def test_a_hidden_resource_is_not_found_and_never_reaches_the_backend(
    world: tuple[Shelf, Proxy], mode: str, uri: str
) -> None:
    shelf, running = world
    before = shelf.gate.count("resources/read"), shelf.gate.count("completion/complete")
    async with Client(running.url, mode=mode) as client:
        with pytest.raises(MCPError) as caught:
            await client.read_resource(uri)
        assert caught.value.error.code == NOT_FOUND[mode]
        assert caught.value.error.data == {"uri": uri}
        reference = t.ResourceTemplateReference(type="ref/resource", uri=uri)
        assert await _refused(lambda: client.complete(reference, VALUE)) == NOT_FOUND[mode]
    assert (shelf.gate.count("resources/read"), shelf.gate.count("completion/complete")) == before


@pytest.mark.parametrize("template", ["note://s/private/{id}", "log://s/{day}", "off://s/{id}"])
@modes
async def test_completions_of_a_hidden_template_are_refused(
    world: tuple[Shelf, Proxy], mode: str, template: str
) -> None:
    async with Client(world[1].url, mode=mode) as client:
        reference = t.ResourceTemplateReference(type="ref/resource", uri=template)
        assert await _refused(lambda: client.complete(reference, VALUE)) == NOT_FOUND[mode]


@pytest.mark.parametrize("uri", HIDDEN)
async def test_a_hidden_resource_cannot_be_subscribed_to(
    world: tuple[Shelf, Proxy], uri: str
) -> None:
    shelf, running = world
    async with Client(running.url, mode="legacy") as client:
        assert await _refused(lambda: client.subscribe_resource(uri)) == NOT_FOUND["legacy"]
    shown = "note://s/7"
    async with (
        Client(running.url, mode="2026-07-28") as client,
        client.listen(resource_subscriptions=[uri, shown]) as events,
    ):
        assert list(events.honored.resource_subscriptions or ()) == [shown]
    asked = [item.body.decode() for item in shelf.gate.seen if item.rpc == "subscriptions/listen"]
    own = uri.replace("://s/", "://")
    assert not any(f'"{own}"' in body for body in asked)


@modes
async def test_a_uri_that_is_too_long_is_refused_with_the_name_of_its_field(
    world: tuple[Shelf, Proxy], mode: str
) -> None:
    shelf, proxy = world
    before = len(shelf.gate.seen)
    async with Client(proxy.url, mode=mode) as client:
        # Modern clients repeat the URI in a header, of which there may be 64 KiB in all.
        most = NAME_LENGTH.value if mode == "legacy" else NAME_LENGTH.value // 2
        await client.read_resource("note://s/" + "x" * (most - len("note://s/")))
        if mode == "legacy":
            with pytest.raises(
                MCPError, match=r"^params\.uri has 65537 .* the maximum is 65536"
            ) as caught:
                await client.read_resource("note://s/" + "x" * (most + 1 - len("note://s/")))
            assert caught.value.error.code == -32602
    reads = [request for request in shelf.gate.seen[before:] if request.rpc == "resources/read"]
    assert len(reads) == 1
