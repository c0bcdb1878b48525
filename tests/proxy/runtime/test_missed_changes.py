"""Changes while a stream of the backend is broken: clients hear of them once it is open again."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx2
import pytest

from mcpproxy.proxy.gateway import task_notifications
from mcpproxy.proxy.upstream.monitor import change_stream
from tests.proxy.runtime.extended import TASKS, Asker, Extended, Handler, World, settled
from tests.proxy.runtime.serving import LIVE
from tests.proxy.runtime.waiting import soon

pytestmark = LIVE
ABLE = {"resources": {"subscribe": True}}
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {"extensions": {TASKS: {}}},
}
TASK: dict[str, Any] = {
    "createdAt": "2026-01-01T00:00:00Z",
    "lastUpdatedAt": "2026-01-01T00:00:00Z",
    "ttlMs": None,
}


@pytest.fixture
def world(stack: AsyncExitStack, http: httpx2.AsyncClient) -> World:
    """No backends yet."""
    return World(stack, http)


@asynccontextmanager
async def listening(client: Asker, **notifications: Any) -> AsyncIterator[list[Any]]:
    """The messages of a listen that the proxy has acknowledged."""
    received: list[Any] = []

    async def on_message(message: dict[str, Any]) -> None:
        received.append(message)

    params = {"notifications": notifications, "_meta": META}
    body = {"jsonrpc": "2.0", "id": 9, "method": "subscriptions/listen", "params": params}
    exchange = client.client.exchange(json.dumps(body).encode(), on_message=on_message)
    task = asyncio.create_task(exchange)
    await soon(lambda: received, "the acknowledgement")
    yield received
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_a_resource_that_changed_while_the_stream_was_broken_is_announced(
    world: World, era: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_stream, "STREAM_PAUSE", 0.02)
    resource = json.dumps({"uri": "file:///a", "name": "a"})
    server = await world.add("a", Extended(era, resources=[resource], capabilities=ABLE))
    running = await world.proxy()
    await settled(running)
    client = await world.asker(running)
    uri = (await client.result("resources/list"))["resources"][0]["uri"]
    async with listening(client, resourceSubscriptions=[uri]) as received:
        await soon(lambda: server.backend.streams, "the stream")
        count = len(received)
        server.backend.break_streams()
        await soon(lambda: len(received) > count, "the change")
        message = received[-1]
        assert message["method"] == "notifications/resources/updated"
        assert message["params"]["uri"] == uri


async def test_a_resource_that_changed_while_the_session_was_lost_is_announced(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_stream, "STREAM_PAUSE", 0.02)
    resource = json.dumps({"uri": "file:///a", "name": "a"})
    await world.add("a", Extended("legacy", resources=[resource], capabilities=ABLE))
    running = await world.proxy()
    await settled(running)
    client = await world.asker(running)
    uri = (await client.result("resources/list"))["resources"][0]["uri"]
    async with listening(client, resourceSubscriptions=[uri]) as received:
        count = len(received)
        running.runtime.gateway.backends["a"].watch.renew()
        await soon(lambda: len(received) > count, "the change")
        assert received[-1]["params"]["uri"] == uri


async def test_a_task_that_ended_while_the_stream_was_broken_is_announced(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task_notifications, "FIRST_PAUSE", 0.02)
    state: dict[str, Any] = {"taskId": "t-1", "status": "completed", **TASK}
    made = {"resultType": "task", "taskId": "t-1", "status": "working", **TASK}
    got = {"resultType": "complete", **state, "result": {"content": []}}
    handlers: dict[str, Handler] = {
        "tools/call": lambda params: made,
        "tasks/get": lambda params: got,
    }
    two = await world.add("b", Extended(extensions={TASKS: {}}, handlers=handlers))
    running = await world.proxy()
    client = await world.asker(running)
    shown = (await client.result("tools/call", {"name": "b_t"}))["taskId"]
    async with listening(client, taskIds=[shown]) as received:
        assert received[0]["params"]["notifications"] == {"taskIds": [shown]}
        two.backend.break_streams()
        await soon(lambda: len(received) > 1, "the state of the task")
        params = received[1]["params"]
        assert (received[1]["method"], params["taskId"]) == ("notifications/tasks", shown)
        assert (params["status"], params["result"]) == ("completed", {"content": []})
        assert "resultType" not in params
        assert params["_meta"]["io.modelcontextprotocol/subscriptionId"] == 9
