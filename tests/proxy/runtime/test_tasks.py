"""Tasks through the proxy: each finds the backend that has it, from any instance."""

import asyncio
import dataclasses
import json
from contextlib import AsyncExitStack
from typing import Any

import httpx2
import pytest

from mcpproxy.limits.extensions import TASK_ID, TASK_POLL
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.upstream import input_polling
from tests.proxy.runtime.extended import TASKS, Extended, Handler, World
from tests.proxy.runtime.serving import LIVE
from tests.proxy.runtime.waiting import soon

pytestmark = LIVE
STATE = {"createdAt": "2026-01-01T00:00:00Z", "lastUpdatedAt": "2026-01-01T00:00:00Z"}
LINK = {"type": "resource_link", "uri": "file://a", "name": "a"}


def _task(task_id: str, status: str = "working", **more: Any) -> dict[str, Any]:
    return {"taskId": task_id, "status": status, **STATE, "ttlMs": None, **more}


def _tasks(task_id: str = "t-1", states: dict[str, Handler] | None = None) -> Extended:
    """A backend whose tool makes a task, which is completed when it is asked for."""
    done = {"content": [LINK]}
    return Extended(
        extensions={TASKS: {}},
        handlers={
            "tools/call": lambda params: {"resultType": "task", **_task(task_id)},
            "tasks/get": lambda params: {
                "resultType": "complete",
                **_task(params["taskId"], "completed", result=done),
            },
            "tasks/update": lambda params: {"resultType": "complete"},
            "tasks/cancel": lambda params: {"resultType": "complete"},
            **(states or {}),
        },
    )


@pytest.fixture
def world(stack: AsyncExitStack, http: httpx2.AsyncClient) -> World:
    """No backends yet."""
    return World(stack, http)


async def test_a_task_request_goes_to_the_backend_that_created_the_task(world: World) -> None:
    item, two = await world.add("a", _tasks()), await world.add("b", _tasks())
    running = await world.proxy()
    client = await world.asker(running)
    actual = await client.result("server/discover")
    assert actual["capabilities"]["extensions"] == {TASKS: {}}
    made = await client.result("tools/call", {"name": "b_t"})
    assert made["resultType"] == "task"
    shown = made["taskId"]
    got = await client.result("tasks/get", {"taskId": shown})
    assert got["taskId"] == shown
    assert got["result"]["content"][0]["uri"] == "file://b/a"
    more = {"taskId": shown, "inputResponses": {}}
    assert await client.result("tasks/update", more) == {"resultType": "complete"}
    assert await client.result("tasks/cancel", {"taskId": shown}) == {"resultType": "complete"}
    for method in ("tasks/get", "tasks/update", "tasks/cancel"):
        assert [params["taskId"] for params in two.params(method)] == ["t-1"]
        assert [headers["mcp-name"] for headers in two.headers(method)] == ["t-1"]
        assert item.params(method) == []


async def test_another_instance_with_the_same_keys_finds_the_task(
    world: World, tmp_path: Any
) -> None:
    (tmp_path / "current").write_bytes(b"k" * 32)
    await world.add("a", _tasks())
    two = await world.add("b", _tasks())
    options = {"sealing_keys": tmp_path}
    first, second = [await world.proxy(options=options) for _ in range(2)]
    client = await world.asker(first)
    shown = (await client.result("tools/call", {"name": "b_t"}))["taskId"]
    other = await world.asker(second)
    assert (await other.result("tasks/get", {"taskId": shown}))["taskId"] == shown
    assert two.params("tasks/get") == [{"taskId": "t-1"}]


async def test_a_task_is_unknown_to_other_principals(world: World) -> None:
    await world.add("a", _tasks())
    two = await world.add("b", _tasks())
    running = await world.proxy()
    client = await world.asker(running)
    shown = (await client.result("tools/call", {"name": "b_t"}))["taskId"]
    changed = shown[:-2] + ("BA" if shown[-2] == "A" else "AA")
    for stranger, task in (("bo", shown), ("ann", "t-1"), ("ann", changed)):
        asker = await world.asker(running, who=stranger)
        error = await asker.error("tasks/get", {"taskId": task})
        assert error["code"] == -32602
    assert two.params("tasks/get") == []


async def test_a_client_without_the_extension_gets_an_error_that_names_it(world: World) -> None:
    await world.add("a", _tasks())
    await world.add("b", _tasks())
    client = await world.asker(await world.proxy(), extensions={})
    needed: dict[str, Any] = {"requiredCapabilities": {"extensions": {TASKS: {}}}}
    for method, params in (
        ("tasks/get", {"taskId": "t"}),
        ("subscriptions/listen", {"notifications": {"taskIds": ["t"]}}),
    ):
        error = await client.error(method, params)
        assert (error["code"], error["data"]) == (-32021, needed)


async def test_the_error_of_a_backend_that_needs_the_extension_reaches_the_client(
    world: World,
) -> None:
    needed: dict[str, Any] = {"requiredCapabilities": {"extensions": {TASKS: {}}}}
    refusal = {"error": {"code": -32021, "message": "missing", "data": needed}}
    await world.add("a", _tasks(states={"tools/call": lambda params: refusal}))
    await world.add("b", _tasks())
    client = await world.asker(await world.proxy(), extensions={})
    assert await client.error("tools/call", {"name": "a_t"}) == refusal["error"]


async def test_the_id_of_a_single_backend_is_unchanged_and_is_repeated_in_the_header(
    world: World,
) -> None:
    backend = await world.add("a", _tasks())
    client = await world.asker(await world.proxy())
    made = await client.result("tools/call", {"name": "a_t"})
    assert made["taskId"] == "t-1"
    await client.result("tasks/get", {"taskId": "t-1"})
    assert [headers["mcp-name"] for headers in backend.headers("tasks/get")] == ["t-1"]


async def test_a_task_id_beyond_the_limit_ends_the_call(world: World) -> None:
    await world.add("a", _tasks("x" * (TASK_ID.value + 1)))
    await world.add("b", _tasks())
    client = await world.asker(await world.proxy())
    error = await client.error("tools/call", {"name": "a_t"})
    assert error["data"]["reason"] == "NotMCP"


async def test_notifications_of_tasks_have_the_id_that_the_client_knows(world: World) -> None:
    await world.add("a", _tasks())
    two = await world.add("b", _tasks())
    running = await world.proxy()
    client = await world.asker(running)
    shown = (await client.result("tools/call", {"name": "b_t"}))["taskId"]
    told: list[Any] = []
    received = asyncio.Event()

    async def on_message(message: dict[str, Any]) -> None:
        told.append(message)
        received.set()

    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {"extensions": {TASKS: {}}},
    }
    params = {"notifications": {"taskIds": [shown, "unknown"]}, "_meta": meta}
    body = {"jsonrpc": "2.0", "id": 9, "method": "subscriptions/listen", "params": params}
    listening = asyncio.create_task(
        client.client.exchange(json.dumps(body).encode(), on_message=on_message)
    )
    async with asyncio.timeout(10):
        await received.wait()
    assert told[0]["params"]["notifications"] == {"taskIds": [shown]}
    received.clear()
    state = _task("t-1", "completed", result={"content": [LINK]})
    note = {"jsonrpc": "2.0", "method": "notifications/tasks", "params": state}
    two.backend.broadcast(json.dumps(note))
    async with asyncio.timeout(10):
        await received.wait()
    params = told[1]["params"]
    assert params["taskId"] == shown
    assert params["result"]["content"][0]["uri"] == "file://b/a"
    assert params["_meta"]["io.modelcontextprotocol/subscriptionId"] == 9
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    await soon(lambda: len(two.backend.streams) == 1, "the listen for the task to end")


# A legacy client before a modern backend


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Polls without a pause."""
    monkeypatch.setattr(input_polling, "TASK_POLL", dataclasses.replace(TASK_POLL, value=0))


def _in_turn(*states: dict[str, Any]) -> Any:
    left = list(states)
    return lambda params: {"resultType": "complete", **(left.pop(0) if left[1:] else left[0])}


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("several", [False, True])
async def test_a_legacy_client_gets_the_result_of_a_task(world: World, several: bool) -> None:
    done = _task("t-1", "completed", result={"content": [LINK], "resultType": "complete"})
    backend = await world.add("a", _tasks(states={"tasks/get": _in_turn(_task("t-1"), done)}))
    if several:
        await world.add("b", _tasks())
    client = await world.asker(await world.proxy(), "legacy", extensions={})
    actual = await client.result("tools/call", {"name": "a_t"})
    assert actual == {"content": [{**LINK, "uri": "file://a/a"}]}
    assert backend.params("tasks/get") == [{"taskId": "t-1"}] * 2
    assert backend.declared("tools/call") == [{TASKS: {}}]
    assert backend.declared("tasks/get") == [{TASKS: {}}] * 2
    assert [headers["mcp-name"] for headers in backend.headers("tasks/get")] == ["t-1"] * 2
    assert backend.params("tasks/cancel") == []


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(
    ("state", "code"),
    [
        (_task("t-1", "failed", error={"code": -32603, "message": "no"}), -32603),
        (_task("t-1", "cancelled"), -32000),
        (_task("t-1", "asleep"), -32000),
        ({"error": {"code": -32602, "message": "expired"}}, -32602),
    ],
)
async def test_a_task_that_fails_is_an_error_for_a_legacy_client(
    world: World, state: dict[str, Any], code: int
) -> None:
    answer = (lambda params: state) if "status" not in state else _in_turn(state)
    await world.add("a", _tasks(states={"tasks/get": answer}))
    client = await world.asker(await world.proxy(), "legacy", extensions={})
    assert (await client.error("tools/call", {"name": "a_t"}))["code"] == code


@pytest.mark.usefixtures("at_once")
async def test_a_legacy_client_is_asked_once_for_the_input_of_a_task(world: World) -> None:
    request = {"method": "roots/list", "params": {}}
    needs = _task("t-1", "input_required", inputRequests={"k": request})
    done = _task("t-1", "completed", result={"content": []})
    states = _in_turn(needs, needs, done)
    backend = await world.add("a", _tasks(states={"tasks/get": states}))
    client = (await world.asker(await world.proxy(), "legacy", extensions={})).client
    asked = []

    def on_request(message: dict[str, Any]) -> bytes:
        asked.append(message["method"])
        answer = {"jsonrpc": "2.0", "id": message["id"], "result": {"roots": []}}
        return json.dumps(answer).encode()

    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "a_t"}}
    actual = await client.exchange(json.dumps(body).encode(), on_request)
    assert json.loads(actual[-1])["result"] == {"content": []}
    assert asked == ["roots/list"]
    assert backend.params("tasks/update") == [
        {"taskId": "t-1", "inputResponses": {"k": {"roots": []}}}
    ]


@pytest.mark.usefixtures("at_once")
async def test_a_task_that_takes_too_long_is_cancelled_when_the_time_is_over(world: World) -> None:
    backend = await world.add(
        "a", _tasks(states={"tasks/get": _in_turn(_task("t-1"))}), timeouts={"request": "500ms"}
    )
    client = await world.asker(await world.proxy(), "legacy", extensions={})
    error = await client.error("tools/call", {"name": "a_t"})
    assert error["data"]["reason"] == "TimedOut"
    await soon(lambda: backend.params("tasks/cancel") == [{"taskId": "t-1"}], "the cancellation")


async def test_a_backend_that_requests_more_frequent_polling_does_not_get_it() -> None:
    pauses = [
        input_polling._pause({"pollIntervalMs": jsonrpc.encode_raw(ms)}) for ms in (1, 2500, 1e9)
    ]
    assert pauses == [1, 2.5, input_polling.LONGEST_PAUSE]


async def test_tasks_are_not_advertised_to_legacy_clients_of_modern_backends(world: World) -> None:
    await world.add("a", _tasks())
    running = await world.proxy()
    assert "extensions" not in running.runtime.gateway.aggregate.capabilities(modern=False)


# Up to 2025-11-25 tasks are a capability


def _legacy(*own: str) -> Extended:
    meta = {"io.modelcontextprotocol/related-task": {"taskId": own[0]}}
    return Extended(
        "legacy",
        capabilities={"tasks": {"list": {}, "cancel": {}, "requests": {"tools": {"call": {}}}}},
        handlers={
            "tools/call": lambda params: {"task": _task(own[0])},
            "tasks/get": lambda params: _task(params["taskId"]),
            "tasks/cancel": lambda params: _task(params["taskId"], "cancelled"),
            "tasks/result": lambda params: {"content": [LINK], "_meta": meta},
            "tasks/list": lambda params: (
                {"tasks": [_task(own[0])], "nextCursor": "more"}
                if "cursor" not in params and own[1:]
                else {"tasks": [_task(own[-1])]}
            ),
        },
    )


async def test_tasks_of_2025_11_25_are_routed_and_their_lists_merged_page_by_page(
    world: World,
) -> None:
    item = await world.add("a", _legacy("a-1", "a-2"), forwardHeaders=["x-user"])
    two = await world.add("b", _legacy("b-1"), forwardHeaders=["x-user"])
    running = await world.proxy()
    client = await world.asker(running, "legacy")
    assert running.runtime.gateway.aggregate.capabilities(modern=False)["tasks"]["list"] == {}
    assert "tasks" not in running.runtime.gateway.aggregate.capabilities(modern=True)
    made = await client.result("tools/call", {"name": "b_t", "task": {}})
    shown = made["task"]["taskId"]
    assert (await client.result("tasks/get", {"taskId": shown}))["taskId"] == shown
    assert (await client.result("tasks/cancel", {"taskId": shown}))["taskId"] == shown
    got = await client.result("tasks/result", {"taskId": shown})
    assert got["content"][0]["uri"] == "file://b/a"
    assert got["_meta"]["io.modelcontextprotocol/related-task"]["taskId"] == shown
    assert two.params("tasks/result") == [{"taskId": "b-1"}]
    first = await client.result("tasks/list")
    assert len(first["tasks"]) == 2
    assert shown in [task["taskId"] for task in first["tasks"]]
    second = await client.result("tasks/list", {"cursor": first["nextCursor"]})
    assert len(second["tasks"]) == 1
    assert "nextCursor" not in second
    assert item.params("tasks/list") == [{}, {"cursor": "more"}]
    assert two.params("tasks/list") == [{}]
    wrong = await client.error("tasks/list", {"cursor": "made up"})
    assert wrong["code"] == -32602


@pytest.mark.parametrize("names", ["a", "ab"])
async def test_s9_tasks_are_not_listed_by_backends_that_take_all_clients_for_one(
    world: World, names: str
) -> None:
    backends = [await world.add(name, _legacy(f"{name}-1")) for name in names]
    running = await world.proxy()
    offered = running.runtime.gateway.aggregate.capabilities(modern=False)["tasks"]
    assert set(offered) == {"cancel", "requests"}
    client = await world.asker(running, "legacy")
    assert (await client.error("tasks/list"))["code"] == -32601
    assert all(backend.params("tasks/list") == [] for backend in backends)
