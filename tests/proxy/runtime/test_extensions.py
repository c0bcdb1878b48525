"""Apps, skills and other extensions: what is advertised is routed, and nothing else."""

import dataclasses
import json
from contextlib import AsyncExitStack
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.server.apps import Apps
from mcp.server.mcpserver import MCPServer
from mcp_types import TextResourceContents

from mcpproxy.limits.extensions import (
    EXTENSION_LIST_WAIT,
    EXTENSION_PAGE_BYTES,
    EXTENSION_PAGE_ITEMS,
)
from mcpproxy.limits.limit import Limit
from mcpproxy.proxy import merging
from tests.proxy.runtime.extended import APPS, SKILLS, TASKS, Asker, Extended, World, tool
from tests.proxy.runtime.serving import LIVE, Proxy, serving

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


async def _settled(running: Proxy) -> None:
    """Wait until all backends have listed what they have."""
    for backend in running.runtime.gateway.backends.values():
        await backend.watch.settled.wait()


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
    await _settled(running)
    client = await world.asker(running, era)
    (found,) = [t for t in (await client.result("tools/list"))["tools"] if t["name"] == "a_draw"]
    assert found["_meta"] == SHOWN_LINKS
    called = await client.result("tools/call", {"name": "a_draw"})
    assert called["_meta"] == SHOWN_LINKS
    assert called["content"][0]["_meta"] == SHOWN_LINKS
    read = await client.result("resources/read", {"uri": found["_meta"]["ui"]["resourceUri"]})
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
    await _settled(running)
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
    await _settled(running)
    for modern in (False, True):
        assert running.runtime.gateway.capabilities(modern=modern)["extensions"] == {APPS: {}}


@eras
async def test_an_app_calls_tools_by_the_names_that_its_backend_has_for_them(
    world: World, era: str
) -> None:
    accepts = {"names": {"bare": "Accept"}}
    await world.add("a", _app(era, "draw", "both"), **accepts)
    await world.add("b", _app(era, "paint", "both"), **accepts)
    await world.add("c", _app(era, "draw", "hide"))
    running = await world.proxy()
    await _settled(running)
    client = await world.asker(running, era)
    await client.result("tools/list")
    called = await client.result("tools/call", {"name": "draw"})
    assert called["content"][0]["text"] == "draw"
    assert called["_meta"] == SHOWN_LINKS
    ambiguous = await client.error("tools/call", {"name": "both"})
    assert ambiguous["code"] == -32602
    assert "a_both, b_both" in ambiguous["message"]
    assert (await client.error("tools/call", {"name": "hide"}))["code"] == -32602


async def test_a_tool_that_is_hidden_has_no_bare_name(world: World) -> None:
    hidden = {"names": {"bare": "Accept"}, "tools": {"exclude": ["draw"]}}
    await world.add("a", _app("modern", "draw", "paint"), **hidden)
    await world.add("b", _app("modern", "other"))
    running = await world.proxy()
    await _settled(running)
    client = await world.asker(running)
    await client.result("tools/list")
    assert (await client.error("tools/call", {"name": "draw"}))["code"] == -32602
    assert (await client.result("tools/call", {"name": "paint"}))["content"][0]["text"] == "paint"


# Skills


def _skill(path: str, *files: str) -> dict[str, Any]:
    uris = [f"skill://{path}/{name}" for name in ("SKILL.md", *files)]
    resources = [{"uri": uri, "digest": "sha256:" + "0" * 64, "size": 7} for uri in uris]
    front = {"name": path.rpartition("/")[2], "description": f"Reads skill://{path}/SKILL.md."}
    return {"uri": uris[0], "frontmatter": front, "resources": resources}


def _skills(era: str, *pages: list[dict[str, Any]], **extension: Any) -> Extended:
    def listed(params: dict[str, Any]) -> dict[str, Any]:
        page = int(params.get("cursor", 0))
        more = {"nextCursor": str(page + 1)} if page + 1 < len(pages) else {}
        return {"skills": pages[page], "ttlMs": 60000, "cacheScope": "public", **more}

    def got(params: dict[str, Any]) -> dict[str, Any]:
        for skill in (skill for page in pages for skill in page):
            if skill["uri"] == params["uri"]:
                return {"skill": skill, "ttlMs": 60000, "cacheScope": "public"}
        return {"error": {"code": -32602, "message": "unknown skill"}}

    return Extended(
        era,
        {SKILLS: extension},
        {
            "skills/list": listed,
            "skills/get": got,
            "resources/directory/read": lambda params: {
                "resources": [{"uri": params["uri"] + "/x.md", "name": "x.md"}],
                "nextCursor": "theirs",
            },
            "resources/read": lambda params: {
                "contents": [{"uri": params["uri"], "text": "# skill://git/SKILL.md\r\n"}]
            },
        },
    )


@eras
@pytest.mark.parametrize("backend_era", ["legacy", "modern"])
async def test_skills_of_all_backends_are_one_list_and_each_can_be_got_and_read(
    world: World, era: str, backend_era: str
) -> None:
    one = await world.add("a", _skills(backend_era, [_skill("git", "x.md")], directoryRead=True))
    two = await world.add("b", _skills(backend_era, [_skill("acme/git")]))
    running = await world.proxy()
    await _settled(running)
    client = await world.asker(running, era)
    offered = running.runtime.gateway.capabilities(modern=era == "modern")["extensions"]
    assert offered == {SKILLS: {"directoryRead": True}}
    found = await client.result("skills/list")
    uris = [skill["uri"] for skill in found["skills"]]
    assert uris == ["skill://a/git/SKILL.md", "skill://b/acme/git/SKILL.md"]
    first = found["skills"][0]
    assert first["frontmatter"] == _skill("git")["frontmatter"]
    assert [file["uri"] for file in first["resources"]] == [uris[0], "skill://a/git/x.md"]
    assert {file["digest"] for file in first["resources"]} == {"sha256:" + "0" * 64}
    assert ("resultType" in found) == (era == "modern")
    if era == "modern":
        assert (found["ttlMs"], found["cacheScope"]) == (60000, "public")
    assert (await client.result("skills/get", {"uri": uris[0]}))["skill"] == first
    asked = {"uri": "skill://a/git", "cursor": "theirs"}
    read = await client.result("resources/directory/read", asked)
    assert (read["resources"][0]["uri"], read["nextCursor"]) == ("skill://a/git/x.md", "theirs")
    assert one.params("resources/directory/read") == [{"uri": "skill://git", "cursor": "theirs"}]
    text = (await client.result("resources/read", {"uri": uris[0]}))["contents"][0]["text"]
    assert text == "# skill://git/SKILL.md\r\n"
    assert two.params("skills/get") == []


async def test_the_pages_of_all_backends_come_together_and_one_cursor_stands_for_theirs(
    world: World,
) -> None:
    await world.add("a", _skills("modern", [_skill("one")], [_skill("two")], [_skill("three")]))
    await world.add("b", _skills("modern", [_skill("four")]))
    client = await world.asker(await world.proxy())
    names, cursor = [], dict[str, Any]()
    for _ in range(3):
        found = await client.result("skills/list", cursor)
        names.append([skill["frontmatter"]["name"] for skill in found["skills"]])
        cursor = {"cursor": found.get("nextCursor")}
    assert names == [["one", "four"], ["two"], ["three"]]
    assert cursor == {"cursor": None}


@pytest.mark.parametrize("limit", [EXTENSION_PAGE_ITEMS, EXTENSION_PAGE_BYTES])
async def test_a_page_of_skills_beyond_a_limit_is_left_out(
    world: World, monkeypatch: pytest.MonkeyPatch, limit: Limit
) -> None:
    smaller = dataclasses.replace(limit, value={"count": 2, "bytes": 1000}[limit.unit])
    name = "EXTENSION_PAGE_ITEMS" if limit.unit == "count" else "EXTENSION_PAGE_BYTES"
    monkeypatch.setattr(merging, name, smaller)
    reached = smaller.reached
    many = _skills("modern", [_skill("one", "x" * 400), _skill("two", "x" * 400), _skill("three")])
    await world.add("a", many)
    await world.add("b", _skills("modern", [_skill("four")]))
    client = await world.asker(await world.proxy())
    found = await client.result("skills/list")
    assert [skill["frontmatter"]["name"] for skill in found["skills"]] == ["four"]
    assert smaller.reached == reached + 1


async def test_a_hidden_resource_is_no_skill_either(world: World) -> None:
    hidden = {"resources": {"exclude": ["skill://secret/*"]}}
    backend = _skills("modern", [_skill("git"), _skill("secret")])
    await world.add("a", backend, **hidden)
    client = await world.asker(await world.proxy())
    found = await client.result("skills/list")
    assert [skill["frontmatter"]["name"] for skill in found["skills"]] == ["git"]
    error = await client.error("skills/get", {"uri": "skill://a/secret/SKILL.md"})
    assert error["code"] == -32602
    assert backend.params("skills/get") == []


async def test_a_list_of_skills_is_an_error_where_every_backend_fails(world: World) -> None:
    failing = {"error": {"code": -32603, "message": "no disk"}}
    broken = _skills("modern", [])
    broken.handlers["skills/list"] = lambda params: failing
    await world.add("a", broken)
    await world.add("b", Extended())
    client = await world.asker(await world.proxy())
    error = await client.error("skills/list")
    assert error["message"] == "skills/list failed: backend a: no disk"


async def test_a_backend_that_hangs_delays_a_list_of_skills_only_so_long(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = dataclasses.replace(EXTENSION_LIST_WAIT, value=1)
    monkeypatch.setattr(merging, "EXTENSION_LIST_WAIT", limit)
    hung = _skills("modern", [_skill("git")])
    hung.hangs.add("skills/list")
    await world.add("a", hung)
    await world.add("b", _skills("modern", [_skill("two")]))
    client = await world.asker(await world.proxy())
    found = await client.result("skills/list")
    assert [skill["uri"] for skill in found["skills"]] == ["skill://b/two/SKILL.md"]


async def test_without_a_backend_that_has_skills_their_methods_are_unknown(world: World) -> None:
    await world.add("a", Extended())
    await world.add("b", Extended())
    client = await world.asker(await world.proxy())
    assert "extensions" not in (await client.result("server/discover"))["capabilities"]
    assert (await client.error("skills/list"))["code"] == -32601


# Denied


def _everything() -> Extended:
    found = _skills("modern", [_skill("git")])
    found.extensions |= {TASKS: {}, APPS: {}, "com.example/odd": {}}
    found.handlers["tools/call"] = lambda params: {"content": []}
    found.handlers["tasks/get"] = lambda params: {"taskId": params["taskId"]}
    found.handlers["odd/look"] = lambda params: {"seen": params}
    return found


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
    assert {one.message["method"] for one in backends[0].backend.seen} == {"tools/call"}


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


async def test_a_method_that_nobody_knows_goes_to_the_backend_of_what_it_names(
    world: World,
) -> None:
    one, two = await world.add("a", _odd()), await world.add("b", _odd())
    client = await world.asker(await world.proxy())
    assert await _looked(client, {"uri": "file://b/x", "k": 1}) == {"uri": "file://x", "k": 1}
    assert await _looked(client, {"name": "b_t"}) == {"name": "t"}
    assert len(two.params("odd/look")) == 2
    assert one.params("odd/look") == []


async def test_a_method_that_names_nothing_is_refused_where_there_are_several_backends(
    world: World,
) -> None:
    backends = [await world.add(name, _odd()) for name in ("a", "b")]
    client = await world.asker(await world.proxy())
    assert "extensions" not in (await client.result("server/discover"))["capabilities"]
    for params in ({}, {"name": 1}, {"taskId": None}):
        error = await client.error("odd/look", params)
        assert error["code"] == -32601
        assert "names no taskId, uri or name" in error["message"]
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


async def test_a_hidden_tool_is_out_of_reach_of_methods_that_nobody_knows(world: World) -> None:
    one = await world.add("a", _odd(), tools={"exclude": ["t"]})
    await world.add("b", _odd())
    client = await world.asker(await world.proxy())
    assert (await client.error("odd/look", {"name": "a_t"}))["code"] == -32602
    assert one.params("odd/look") == []
