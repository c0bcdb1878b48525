"""Apps, skills and other extensions: what is advertised is routed, and nothing else."""

import json
from contextlib import AsyncExitStack
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.server.apps import Apps
from mcp.server.mcpserver import MCPServer
from mcp_types import TextResourceContents

from tests.proxy.runtime.extended import (
    APPS,
    SKILLS,
    TASKS,
    Asker,
    Extended,
    World,
    a_skill,
    settled,
    tool,
    with_skills,
)
from tests.proxy.runtime.serving import LIVE, serving

pytestmark = LIVE
eras = pytest.mark.parametrize("era", ["legacy", "modern"])
VIEW = "ui://app/view.html"
LINKED = {
    "ui": {"resourceUri": VIEW, "visibility": ["app"]},
    "ui/resourceUri": VIEW,
    "openai/outputTemplate": VIEW,
    "other": {"resourceUri": VIEW},
}
SHOWN = "ui://a/app/view.html"
SHOWN_LINKS = {
    "ui": {"resourceUri": SHOWN, "visibility": ["app"]},
    "ui/resourceUri": SHOWN,
    "openai/outputTemplate": SHOWN,
    "other": {"resourceUri": VIEW},
}


@pytest.fixture
def world(stack: AsyncExitStack, http: httpx2.AsyncClient) -> World:
    """No backends yet."""
    return World(stack, http)


# Apps


def _app(era: str, *tools: str) -> Extended:
    return Extended(
        era,
        {APPS: {}},
        {
            "tools/call": lambda params: {
                "content": [{"type": "text", "text": params["name"], "_meta": LINKED}],
                "_meta": LINKED,
            },
            "resources/read": lambda params: {"contents": [{"uri": params["uri"], "text": "<p>"}]},
        },
        [tool(name, _meta=LINKED) for name in tools],
        [json.dumps({"uri": VIEW, "name": "view"})],
    )


@eras
@pytest.mark.parametrize("backend_era", ["legacy", "modern"])
async def test_the_resource_that_the_tool_of_an_app_names_can_be_read(
    world: World, era: str, backend_era: str
) -> None:
    await world.add("a", _app(backend_era, "draw"))
    await world.add("b", _app(backend_era, "draw"))
    running = await world.proxy()
    await settled(running)
    client = await world.asker(running, era)
    (actual,) = [t for t in (await client.result("tools/list"))["tools"] if t["name"] == "a_draw"]
    assert actual["_meta"] == SHOWN_LINKS
    called = await client.result("tools/call", {"name": "a_draw"})
    assert called["_meta"] == SHOWN_LINKS
    assert called["content"][0]["_meta"] == SHOWN_LINKS
    read = await client.result("resources/read", {"uri": actual["_meta"]["ui"]["resourceUri"]})
    assert read["contents"][0]["uri"] == SHOWN


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
async def test_an_app_of_the_python_sdk_can_be_shown_through_the_proxy(
    world: World, mode: str
) -> None:
    apps = Apps()

    @apps.tool(resource_uri="ui://clock/app.html")
    def get_time() -> str:
        return "noon"

    apps.add_html_resource("ui://clock/app.html", "<p>clock</p>")
    server = MCPServer("clock", extensions=[apps])
    app = server.streamable_http_app()
    base = await world.stack.enter_async_context(serving(app))
    world.specs.append({"name": "a", "url": f"{base}/mcp"})
    await world.add("b", Extended())
    running = await world.proxy()
    await settled(running)
    async with Client(running.url, mode=mode) as client:
        (tool,) = [t for t in (await client.list_tools()).tools if t.name == "a_get_time"]
        assert tool.meta is not None
        (read,) = (await client.read_resource(tool.meta["ui"]["resourceUri"])).contents
    assert isinstance(read, TextResourceContents)
    assert (str(read.uri), read.text) == ("ui://a/clock/app.html", "<p>clock</p>")


async def test_the_extension_for_apps_is_advertised_to_both_eras(world: World) -> None:
    await world.add("a", _app("modern", "draw"))
    await world.add("b", Extended())
    running = await world.proxy()
    await settled(running)
    for modern in (False, True):
        assert running.runtime.gateway.aggregate.capabilities(modern=modern)["extensions"] == {
            APPS: {}
        }


@eras
async def test_an_app_calls_tools_by_the_names_that_its_backend_has_for_them(
    world: World, era: str
) -> None:
    accepts = {"names": {"bare": "Accept"}}
    await world.add("a", _app(era, "draw", "both"), **accepts)
    await world.add("b", _app(era, "paint", "both"), **accepts)
    await world.add("c", _app(era, "draw", "hide"))
    running = await world.proxy()
    await settled(running)
    client = await world.asker(running, era)
    await client.result("tools/list")
    called = await client.result("tools/call", {"name": "draw"})
    assert called["content"][0]["text"] == "draw"
    assert called["_meta"] == SHOWN_LINKS
    ambiguous = await client.error("tools/call", {"name": "both"})
    assert ambiguous["code"] == -32602
    assert "a_both, b_both" in ambiguous["message"]
    assert (await client.error("tools/call", {"name": "hide"}))["code"] == -32602


async def test_a_hidden_tool_cannot_be_called_by_its_original_name(world: World) -> None:
    hidden = {"names": {"bare": "Accept"}, "tools": {"exclude": ["draw"]}}
    await world.add("a", _app("modern", "draw", "paint"), **hidden)
    await world.add("b", _app("modern", "other"))
    running = await world.proxy()
    await settled(running)
    client = await world.asker(running)
    await client.result("tools/list")
    assert (await client.error("tools/call", {"name": "draw"}))["code"] == -32602
    assert (await client.result("tools/call", {"name": "paint"}))["content"][0]["text"] == "paint"


# Denied


def _everything() -> Extended:
    result = with_skills("modern", [a_skill("git")])
    result.extensions |= {TASKS: {}, APPS: {}, "com.example/odd": {}}
    result.handlers["tools/call"] = lambda params: {"content": []}
    result.handlers["tasks/get"] = lambda params: {"taskId": params["taskId"]}
    result.handlers["odd/look"] = lambda params: {"seen": params}
    return result


@pytest.mark.parametrize("count", [1, 2])
async def test_a_denied_extension_is_neither_advertised_nor_routed(
    world: World, count: int
) -> None:
    backends = [await world.add(name, _everything()) for name in ("a", "b")[:count]]
    deny = [TASKS, SKILLS, "com.example/odd"]
    client = await world.asker(await world.proxy(extensions={"deny": deny}))
    assert (await client.result("server/discover"))["capabilities"]["extensions"] == {APPS: {}}
    for method, params in (
        ("tasks/get", {"taskId": "t"}),
        ("skills/list", {}),
        ("skills/get", {"uri": "skill://a/git/SKILL.md"}),
        ("resources/directory/read", {"uri": "skill://a/git"}),
        ("odd/look", {"uri": "skill://a/git/SKILL.md"}),
    ):
        error = await client.error(method, params)
        assert error["code"] == -32601, method
        assert "spec.extensions.deny" in error["message"] or method == "tasks/get"
    await client.result("tools/call", {"name": "a_t"})
    assert backends[0].declared("tools/call") == [{APPS: {}}]
    assert {item.message["method"] for item in backends[0].backend.seen} == {"tools/call"}


async def test_a_legacy_client_does_not_wait_for_tasks_that_are_denied(world: World) -> None:
    backend = await world.add("a", _everything())
    running = await world.proxy(extensions={"deny": [TASKS]})
    client = await world.asker(running, "legacy", extensions={})
    await client.result("tools/call", {"name": "a_t"})
    assert backend.declared("tools/call") == [None]


# Unknown extensions


def _odd(**more: Any) -> Extended:
    echo = {"odd/look": lambda params: {"seen": {k: params[k] for k in params if k != "_meta"}}}
    return Extended(
        extensions={"com.example/odd": {}}, handlers=echo, tools=[tool("t"), tool("u")], **more
    )


async def _looked(client: Asker, params: dict[str, Any]) -> Any:
    return (await client.result("odd/look", params))["seen"]


async def test_an_unknown_method_is_routed_by_the_component_that_it_names(
    world: World,
) -> None:
    item, two = await world.add("a", _odd()), await world.add("b", _odd())
    client = await world.asker(await world.proxy())
    assert await _looked(client, {"uri": "file://b/x", "k": 1}) == {"uri": "file://x", "k": 1}
    assert await _looked(client, {"name": "b_t"}) == {"name": "t"}
    assert len(two.params("odd/look")) == 2
    assert item.params("odd/look") == []


async def test_a_method_without_a_component_is_refused_if_there_are_several_backends(
    world: World,
) -> None:
    backends = [await world.add(name, _odd()) for name in ("a", "b")]
    client = await world.asker(await world.proxy())
    assert "extensions" not in (await client.result("server/discover"))["capabilities"]
    for params in ({}, {"name": 1}, {"taskId": None}):
        error = await client.error("odd/look", params)
        assert error["code"] == -32601
        assert "has no taskId, uri or name" in error["message"]
    assert [backend.params("odd/look") for backend in backends] == [[], []]


async def test_the_only_backend_gets_every_method_and_its_extensions_are_advertised(
    world: World,
) -> None:
    await world.add("a", _odd())
    client = await world.asker(await world.proxy())
    extensions = (await client.result("server/discover"))["capabilities"]["extensions"]
    assert extensions == {"com.example/odd": {}}
    assert await _looked(client, {}) == {}
    assert await _looked(client, {"uri": "file://a/x"}) == {"uri": "file://x"}
    assert await _looked(client, {"name": "anything"}) == {"name": "anything"}


async def test_a_hidden_tool_is_unreachable_by_unknown_methods(world: World) -> None:
    item = await world.add("a", _odd(), tools={"exclude": ["t"]})
    await world.add("b", _odd())
    client = await world.asker(await world.proxy())
    assert (await client.error("odd/look", {"name": "a_t"}))["code"] == -32602
    assert item.params("odd/look") == []
