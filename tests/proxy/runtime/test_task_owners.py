"""Tasks of one backend whose clients are told apart: a task belongs to its principal."""

from contextlib import AsyncExitStack
from typing import Any

import httpx2
import pytest

from tests.differential.client import Client
from tests.proxy.runtime.callers import AUTHENTICATION, caller, rule, sign_in, token
from tests.proxy.runtime.extended import TASKS, Asker, Extended, World
from tests.proxy.runtime.raw import META, last
from tests.proxy.runtime.serving import LIVE

pytestmark = LIVE
STATE = {"createdAt": "2026-01-01T00:00:00Z", "lastUpdatedAt": "2026-01-01T00:00:00Z"}
TASK = {"taskId": "t-1", "status": "working", "ttlMs": None, **STATE}
ACCESS = {"rules": [rule("all", {"any": True}, {"backends": ["*"]})]}


async def _world(stack: AsyncExitStack, http: httpx2.AsyncClient) -> World:
    """One backend whose tool makes a task."""
    world = World(stack, http)
    handlers: dict[str, Any] = {
        "tools/call": lambda params: {"resultType": "task", **TASK},
        "tasks/get": lambda params: {"resultType": "complete", **TASK},
        "tasks/cancel": lambda params: {"resultType": "complete"},
    }
    await world.add("a", Extended(extensions={TASKS: {}}, handlers=handlers))
    return world


@pytest.mark.parametrize("more", [{}, {"authorization": ACCESS}])
async def test_a_task_of_an_authenticated_caller_is_unknown_to_others(
    stack: AsyncExitStack,
    http: httpx2.AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
    more: dict[str, Any],
) -> None:
    sign_in(monkeypatch)
    world = await _world(stack, http)
    running = await world.proxy(authentication=AUTHENTICATION, **more)
    alice, bob = [
        await caller(running.url, world.http, "modern", token(name)) for name in ("alice", "bob")
    ]
    extensions: Any = {"_meta": {f"{META}clientCapabilities": {"extensions": {TASKS: {}}}}}
    made = last(await alice.send("tools/call", name="a_t", arguments={}, **extensions))["result"]
    for task in (made["taskId"], "t-1"):
        for method in ("tasks/get", "tasks/cancel"):
            assert "error" in last(await bob.send(method, taskId=task, **extensions))
    answer = last(await alice.send("tasks/get", taskId=made["taskId"], **extensions))
    assert answer["result"]["taskId"] == made["taskId"]


async def test_a_task_is_unknown_to_other_users_of_a_gateway(
    stack: AsyncExitStack, http: httpx2.AsyncClient
) -> None:
    world = await _world(stack, http)
    running = await world.proxy(principalFrom={"header": "x-user"})
    ann, bob = [
        Client(world.http, running.url, "modern", {"x-user": name}) for name in ("ann", "bob")
    ]
    made = await Asker(ann, {TASKS: {}}).result("tools/call", {"name": "a_t"})
    for task in (made["taskId"], "t-1"):
        await Asker(bob, {TASKS: {}}).error("tasks/get", {"taskId": task})
    await Asker(ann, {TASKS: {}}).result("tasks/get", {"taskId": made["taskId"]})
