"""Skills, directories and tasks obey the rules of spec.authorization."""

from contextlib import AsyncExitStack
from typing import Any

import httpx2
import pytest

from mcpproxy.proxy.protocol.jsonrpc import RpcError
from tests.proxy.runtime.callers import rule
from tests.proxy.runtime.extended import TASKS, Extended, World, a_skill, settled, with_skills
from tests.proxy.runtime.serving import LIVE

pytestmark = LIVE
eras = pytest.mark.parametrize("era", ["legacy", "modern"])
STATE = {"createdAt": "2026-01-01T00:00:00Z", "lastUpdatedAt": "2026-01-01T00:00:00Z"}


@pytest.fixture
def world(stack: AsyncExitStack, http: httpx2.AsyncClient) -> World:
    """No backends yet."""
    return World(stack, http)


def _rules(*may: dict[str, Any]) -> dict[str, Any]:
    return {"rules": [rule("all", {"any": True}, *may)]}


@eras
@pytest.mark.parametrize("names", ["ab", "a"])
async def test_skills_are_those_whose_resources_a_client_may_read(
    world: World, era: str, names: str
) -> None:
    skills = [a_skill("git", "x.md"), a_skill("secret")]
    backends = {n: await world.add(n, with_skills(era, skills)) for n in names}
    running = await world.proxy(authorization=_rules({"resources": ["skill://a/git*"]}))
    await settled(running)
    client = await world.asker(running, era)
    actual = await client.result("skills/list")
    assert [skill["uri"] for skill in actual["skills"]] == ["skill://a/git/SKILL.md"]
    assert actual.get("cacheScope") != "public"
    assert (await client.result("skills/get", {"uri": "skill://a/git/SKILL.md"}))["skill"]
    error = await client.error("skills/get", {"uri": "skill://a/secret/SKILL.md"})
    assert error["message"] == "unknown resource: skill://a/secret/SKILL.md"
    assert len(backends["a"].params("skills/get")) == 1


@eras
async def test_a_directory_shows_the_resources_that_a_client_may_read(
    world: World, era: str
) -> None:
    await world.add("a", with_skills(era, [a_skill("git", "x.md")], directoryRead=True))
    may = {"resources": ["skill://a/git", "skill://a/all*"]}
    running = await world.proxy(authorization=_rules(may))
    await settled(running)
    client = await world.asker(running, era)
    hidden = await client.result("resources/directory/read", {"uri": "skill://a/git"})
    assert hidden["resources"] == []
    shown = await client.result("resources/directory/read", {"uri": "skill://a/all"})
    assert [item["uri"] for item in shown["resources"]] == ["skill://a/all/x.md"]
    assert shown["nextCursor"] == "theirs"


@pytest.mark.parametrize("names", ["ab", "b"])
async def test_tasks_are_for_clients_who_may_use_a_tool_of_their_backend(
    world: World, names: str
) -> None:
    def backend() -> Extended:
        task = {"taskId": "t-1", "status": "working", **STATE, "ttlMs": None}
        return Extended(
            extensions={TASKS: {}},
            handlers={
                "tools/call": lambda params: {"resultType": "task", **task},
                "tasks/get": lambda params: {"resultType": "complete", **task},
            },
        )

    backends = {name: await world.add(name, backend()) for name in names}
    allowed = await world.proxy(authorization=_rules({"tools": ["b_*"]}))
    denied = await world.proxy(authorization=_rules({"tools": ["a_*"]}, {"prompts": ["b_*"]}))
    client = await world.asker(allowed)
    made = (await client.result("tools/call", {"name": "b_t"}))["taskId"]
    assert made != "t-1"
    assert (await client.result("tasks/get", {"taskId": made}))["status"] == "working"
    assert (await client.error("tasks/get", {"taskId": "t-1"}))["message"] == "unknown task: t-1"
    before = len(backends["b"].params("tasks/get"))
    task = denied.runtime.gateway.backends["b"].names.tasks.to_downstream("t-1", "")
    other = await world.asker(denied)
    error = await other.error("tasks/get", {"taskId": task})
    assert error["message"] == f"unknown task: {task}"
    assert len(backends["b"].params("tasks/get")) == before
    with pytest.raises(RpcError):
        denied.runtime.gateway.routing.route("tasks/get", {})
