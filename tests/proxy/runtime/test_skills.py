"""Skills of several backends as one list, and what becomes of pages and backends that fail."""

import dataclasses
from contextlib import AsyncExitStack
from typing import Any

import httpx2
import pytest

from mcpproxy.limits.extensions import (
    EXTENSION_LIST_WAIT,
    EXTENSION_PAGE_BYTES,
    EXTENSION_PAGE_ITEMS,
)
from mcpproxy.limits.limit import Limit
from mcpproxy.proxy.gateway import extension_lists
from tests.proxy.runtime.extended import SKILLS, Extended, World, a_skill, settled, with_skills
from tests.proxy.runtime.serving import LIVE

pytestmark = LIVE
FAILED = {"error": {"code": -32603, "message": "no disk"}}
eras = pytest.mark.parametrize("era", ["legacy", "modern"])


@pytest.fixture
def world(stack: AsyncExitStack, http: httpx2.AsyncClient) -> World:
    """No backends yet."""
    return World(stack, http)


@eras
@pytest.mark.parametrize("backend_era", ["legacy", "modern"])
async def test_skills_of_all_backends_are_one_list_and_each_can_be_got_and_read(
    world: World, era: str, backend_era: str
) -> None:
    item = await world.add(
        "a", with_skills(backend_era, [a_skill("git", "x.md")], directoryRead=True)
    )
    two = await world.add("b", with_skills(backend_era, [a_skill("acme/git")]))
    running = await world.proxy()
    await settled(running)
    client = await world.asker(running, era)
    offered = running.runtime.gateway.aggregate.capabilities(modern=era == "modern")["extensions"]
    assert offered == {SKILLS: {"directoryRead": True}}
    actual = await client.result("skills/list")
    uris = [skill["uri"] for skill in actual["skills"]]
    assert uris == ["skill://a/git/SKILL.md", "skill://b/acme/git/SKILL.md"]
    first = actual["skills"][0]
    assert first["frontmatter"] == a_skill("git")["frontmatter"]
    assert [file["uri"] for file in first["resources"]] == [uris[0], "skill://a/git/x.md"]
    assert {file["digest"] for file in first["resources"]} == {"sha256:" + "0" * 64}
    assert ("resultType" in actual) == (era == "modern")
    if era == "modern":
        assert (actual["ttlMs"], actual["cacheScope"]) == (60000, "public")
    assert (await client.result("skills/get", {"uri": uris[0]}))["skill"] == first
    asked = {"uri": "skill://a/git", "cursor": "theirs"}
    read = await client.result("resources/directory/read", asked)
    assert (read["resources"][0]["uri"], read["nextCursor"]) == ("skill://a/git/x.md", "theirs")
    assert item.params("resources/directory/read") == [{"uri": "skill://git", "cursor": "theirs"}]
    text = (await client.result("resources/read", {"uri": uris[0]}))["contents"][0]["text"]
    assert text == "# skill://git/SKILL.md\r\n"
    assert two.params("skills/get") == []


async def test_the_pages_of_all_backends_are_combined_under_one_cursor(
    world: World,
) -> None:
    await world.add(
        "a", with_skills("modern", [a_skill("one")], [a_skill("two")], [a_skill("three")])
    )
    await world.add("b", with_skills("modern", [a_skill("four")]))
    client = await world.asker(await world.proxy())
    names, cursor = [], dict[str, Any]()
    for _ in range(3):
        actual = await client.result("skills/list", cursor)
        names.append([skill["frontmatter"]["name"] for skill in actual["skills"]])
        cursor = {"cursor": actual.get("nextCursor")}
    assert names == [["one", "four"], ["two"], ["three"]]
    assert cursor == {"cursor": None}


async def test_a_page_that_a_backend_failed_to_send_is_part_of_the_next_one(world: World) -> None:
    server = await world.add("a", with_skills("modern", [a_skill("one")], [a_skill("two")]))
    await world.add("b", with_skills("modern", [a_skill("four")], [a_skill("five")]))
    running = await world.proxy()
    await settled(running)
    client = await world.asker(running)
    first = await client.result("skills/list")
    works = server.handlers["skills/list"]
    server.handlers["skills/list"] = lambda params: FAILED
    second = await client.result("skills/list", {"cursor": first["nextCursor"]})
    assert [skill["uri"] for skill in second["skills"]] == ["skill://b/five/SKILL.md"]
    assert (second["ttlMs"], second["cacheScope"]) == (0, "private")
    server.handlers["skills/list"] = works
    third = await client.result("skills/list", {"cursor": second["nextCursor"]})
    assert [skill["uri"] for skill in third["skills"]] == ["skill://a/two/SKILL.md"]
    assert "nextCursor" not in third


async def test_a_list_without_the_skills_of_a_failed_backend_is_not_cached(world: World) -> None:
    server = await world.add("a", with_skills("modern", [a_skill("one")]))
    await world.add("b", with_skills("modern", [a_skill("four")]))
    running = await world.proxy()
    await settled(running)
    client = await world.asker(running)
    whole = await client.result("skills/list")
    assert (whole["ttlMs"], whole["cacheScope"]) == (60000, "public")
    server.handlers["skills/list"] = lambda params: FAILED
    part = await client.result("skills/list")
    assert (part["ttlMs"], part["cacheScope"]) == (0, "private")


@pytest.mark.parametrize("limit", [EXTENSION_PAGE_ITEMS, EXTENSION_PAGE_BYTES])
async def test_a_page_of_skills_beyond_a_limit_is_left_out(
    world: World, monkeypatch: pytest.MonkeyPatch, limit: Limit
) -> None:
    smaller = dataclasses.replace(limit, value={"count": 2, "bytes": 1000}[limit.unit])
    name = "EXTENSION_PAGE_ITEMS" if limit.unit == "count" else "EXTENSION_PAGE_BYTES"
    monkeypatch.setattr(extension_lists, name, smaller)
    reached = smaller.reached
    many = with_skills(
        "modern", [a_skill("one", "x" * 400), a_skill("two", "x" * 400), a_skill("three")]
    )
    await world.add("a", many)
    await world.add("b", with_skills("modern", [a_skill("four")]))
    client = await world.asker(await world.proxy())
    actual = await client.result("skills/list")
    assert [skill["frontmatter"]["name"] for skill in actual["skills"]] == ["four"]
    assert smaller.reached == reached + 1


async def test_a_hidden_resource_is_also_not_a_skill(world: World) -> None:
    hidden = {"resources": {"exclude": ["skill://secret/*"]}}
    backend = with_skills("modern", [a_skill("git"), a_skill("secret")])
    await world.add("a", backend, **hidden)
    client = await world.asker(await world.proxy())
    actual = await client.result("skills/list")
    assert [skill["frontmatter"]["name"] for skill in actual["skills"]] == ["git"]
    error = await client.error("skills/get", {"uri": "skill://a/secret/SKILL.md"})
    assert error["code"] == -32602
    assert backend.params("skills/get") == []


async def test_a_list_of_skills_is_an_error_where_every_backend_fails(world: World) -> None:
    failing = {"error": {"code": -32603, "message": "no disk"}}
    broken = with_skills("modern", [])
    broken.handlers["skills/list"] = lambda params: failing
    await world.add("a", broken)
    await world.add("b", Extended())
    client = await world.asker(await world.proxy())
    error = await client.error("skills/list")
    assert error["message"] == "skills/list failed: backend a: no disk"


async def test_a_hanging_backend_delays_a_list_of_skills_up_to_the_limit(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds: Any = 0.3
    limit = dataclasses.replace(EXTENSION_LIST_WAIT, value=seconds)
    monkeypatch.setattr(extension_lists, "EXTENSION_LIST_WAIT", limit)
    hung = with_skills("modern", [a_skill("git")])
    hung.hangs.add("skills/list")
    await world.add("a", hung)
    await world.add("b", with_skills("modern", [a_skill("two")]))
    client = await world.asker(await world.proxy())
    actual = await client.result("skills/list")
    assert [skill["uri"] for skill in actual["skills"]] == ["skill://b/two/SKILL.md"]


async def test_without_a_backend_that_has_skills_their_methods_are_unknown(world: World) -> None:
    await world.add("a", Extended())
    await world.add("b", Extended())
    client = await world.asker(await world.proxy())
    assert "extensions" not in (await client.result("server/discover"))["capabilities"]
    assert (await client.error("skills/list"))["code"] == -32601
