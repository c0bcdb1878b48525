"""Many clients at once, on one instance, on two and on two workers of one: everything reaches its
own client."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from tests.proxy.runtime.crews import Worker, crews
from tests.proxy.runtime.serving import LIVE, serving
from tests.proxy.runtime.waiting import soon
from tests.stress.balancer import balanced
from tests.stress.chatter import Chatter, Talker
from tests.stress.instances import Instance, instances
from tests.stress.sdk_talker import SdkTalker
from tests.stress.size import size

pytestmark = [*LIVE, pytest.mark.timeout(240), pytest.mark.slow]
CLIENTS = size(16, 64)
KINDS = (("a", "legacy", "Isolated"), ("b", "modern", "Isolated"), ("c", "legacy", "PerClient"))


@dataclass
class World:
    """Three backends, two processes in front of them, and one URL in front of these."""

    chatters: dict[str, Chatter]
    instances: list[Instance] | list[Worker]
    url: str
    http: httpx2.AsyncClient


PROCESSES = ("instances", "workers")
"""Two instances behind round robin, or two workers that share a port."""


@asynccontextmanager
async def _made(tmp_path: Path, processes: str) -> AsyncIterator[World]:
    """As its name says; every request has a connection of its own."""
    async with AsyncExitStack() as stack:
        chatters, specs = {}, []
        for name, era, mode in KINDS:
            chatters[name] = Chatter(era, name)
            base = await stack.enter_async_context(serving(chatters[name].backend))
            specs.append({"name": name, "url": f"{base}/mcp", "session": {"mode": mode}})
        result: list[Instance] | list[Worker]
        if processes == "workers":
            crew = await stack.enter_async_context(crews(tmp_path, 2, specs))
            result, url = [Worker(crew, number) for number in (0, 1)], crew.url
        else:
            result = await stack.enter_async_context(instances(tmp_path, 2, specs))
            url = await stack.enter_async_context(
                balanced(tmp_path, [item.port for item in result])
            )
        limits = httpx2.Limits(max_connections=512, max_keepalive_connections=0)
        http = httpx2.AsyncClient(timeout=60, limits=limits)
        yield World(chatters, result, url, await stack.enter_async_context(http))


@pytest_asyncio.fixture(loop_scope="session", scope="module", params=PROCESSES)
async def world(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    """One for all tests that leave it as it is."""
    async with _made(tmp_path_factory.mktemp("world"), request.param) as result:
        yield result
    for instance in result.instances:
        assert '"exception"' not in instance.log.read_text()


@pytest_asyncio.fixture(loop_scope="session", params=PROCESSES)
async def doomed(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    """One to break."""
    async with _made(tmp_path, request.param) as result:
        yield result


async def _talker(world: World, stack: AsyncExitStack, url: str, number: int) -> Talker | SdkTalker:
    """Of each four clients one of each kind: by hand or with the SDK, in either era."""
    who, era = f"c{number}", ("legacy", "modern")[number % 2]
    if number % 4 < 2:
        return await Talker(world.http, url, era, who).start()
    return await SdkTalker(who).start(stack, url, era)


@pytest.mark.parametrize("behind", ["one instance", "two instances in turn"])
async def test_s9_every_message_reaches_its_own_client(world: World, behind: str) -> None:
    for chatter in world.chatters.values():
        chatter.users.clear()
        chatter.calls.clear()
    url = world.instances[0].url if behind == "one instance" else world.url
    async with AsyncExitStack() as stack:
        talkers = [await _talker(world, stack, url, number) for number in range(CLIENTS)]
        await asyncio.gather(
            *(
                talker.talk(name, f"{talker.who}-{name}")
                for talker in talkers
                for name in world.chatters
            )
        )
    for name, _, mode in KINDS:
        chatter = world.chatters[name]
        used = {session: who for session, who in chatter.users.items() if session}
        assert all(len(principals) == 1 for principals in used.values())
        if name == "a":
            assert set(chatter.calls.values()) == {1}, "Isolated: a fresh session for each call"
        assert mode == "Isolated" or len(used) == CLIENTS


async def _pair(world: World, era: str = "legacy") -> tuple[Talker, Talker]:
    """The same client at either instance."""
    first = await Talker(world.http, world.instances[0].url, era, "x").start()
    second = Talker(world.http, world.instances[1].url, era, "x")
    second.client.session = first.client.session
    return first, second


async def _status(talker: Talker) -> int:
    return await talker.client.tell(b'{"jsonrpc":"2.0","id":9,"method":"ping"}')


async def test_a_session_ended_at_one_instance_has_ended_at_the_other(world: World) -> None:
    first, second = await _pair(world)
    assert await _status(second) == 200
    assert await second.client.end() == 204
    assert await _status(first) == 404
    assert await _status(second) == 404


@pytest.mark.parametrize("running", [0, 1])
async def test_a_call_is_cancelled_wherever_the_cancellation_arrives(
    world: World, running: int
) -> None:
    pair = await _pair(world)
    here, there = pair[running], pair[1 - running]
    world.chatters["a"].started.clear()
    request = here.request("a_talk", "w", arguments={"wait": True})
    waiting = asyncio.create_task(here.send(request))
    await asyncio.wait_for(world.chatters["a"].started.wait(), 10)
    params = {"requestId": request["id"]}
    told = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}
    assert await there.client.tell(json.dumps(told).encode()) == 202
    response, _ = await asyncio.wait_for(waiting, 10)
    assert "error" in response


async def test_a_parked_call_continues_at_the_other_instance(world: World) -> None:
    first, second = await _pair(world, "modern")
    response, _ = await first.send(first.request("a_talk", "w"), "w")
    talker = second
    while response["result"].get("resultType") == "input_required":
        asked = response["result"]["inputRequests"]
        answers = {key: second._answer(item, "w") for key, item in asked.items()}
        state = response["result"]["requestState"]
        retry = talker.request("a_talk", "w", inputResponses=answers, requestState=state)
        response, _ = await talker.send(retry, "w")
        talker = first if talker is second else second
    assert response["result"]["content"][0]["text"] == "a w model-of-w user-of-w"


async def _asked(talker: Talker, method: str, **params: Any) -> None:
    request = {"jsonrpc": "2.0", "id": method, "method": method, "params": params}
    response, _ = await talker.send(request)
    assert "result" in response, response


@pytest.mark.parametrize("at", [0, 1])
async def test_a_log_level_holds_at_both_instances(world: World, at: int) -> None:
    pair = await _pair(world)
    levels = world.chatters["a"].backend.levels
    for level in ("error", "debug"):
        await _asked(pair[at], "logging/setLevel", level=level)
        for talker in pair:
            levels.clear()
            await talker.send(talker.request("a_talk", "q", arguments={"quiet": True}))
            assert levels == [level]


@pytest.mark.parametrize("at", [0, 1])
async def test_updates_of_a_resource_reach_a_subscriber_of_another_instance(
    world: World, at: int
) -> None:
    pair = await _pair(world)
    await _asked(pair[at], "resources/subscribe", uri="note://a/1")
    params = {"uri": "note://1"}
    told = {"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": params}
    received = asyncio.Event()

    async def listen() -> None:
        async for kind, data in pair[1 - at].client.stream():
            if kind is None:
                world.chatters["a"].backend.broadcast(json.dumps(told))
            elif json.loads(data) == {**told, "params": {"uri": "note://a/1"}}:
                received.set()

    listening = asyncio.create_task(listen())
    await asyncio.wait_for(received.wait(), 10)
    listening.cancel()


@pytest.mark.parametrize("at", [0, 1])
async def test_changes_reach_a_stream_at_either_instance(world: World, at: int) -> None:
    pair = await _pair(world)
    news: list[Any] = []
    opened = asyncio.Event()

    async def listen() -> None:
        async for kind, data in pair[at].client.stream():
            if kind is None:
                assert data == b"200"
                opened.set()
            else:
                news.append(json.loads(data)["method"])

    listening = asyncio.create_task(listen())
    await asyncio.wait_for(opened.wait(), 10)
    changed = "notifications/tools/list_changed"
    world.chatters["a"].change()
    await soon(lambda: changed in news, "the change to arrive")
    listening.cancel()


async def test_without_nginx_a_forwarder_of_our_own_takes_turns(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    async with balanced(tmp_path, [instance.port for instance in world.instances]) as url:
        talkers = [await Talker(world.http, url, "legacy", f"f{n}").start() for n in range(4)]
        await asyncio.gather(*(talker.talk("a", talker.who) for talker in talkers))


@pytest.mark.parametrize("doomed", PROCESSES[:1], indirect=True)
async def test_a_stream_that_an_instance_passes_on_ends_properly_when_it_is_stopped(
    doomed: World,
) -> None:
    _, second = await _pair(doomed)
    opened, ended = asyncio.Event(), asyncio.Event()

    async def listen() -> None:
        async for kind, data in second.client.stream():
            if kind is None:
                assert data == b"200"
                opened.set()
        ended.set()

    listening = asyncio.create_task(listen())
    await asyncio.wait_for(opened.wait(), 10)
    stopped = doomed.instances[1]
    assert isinstance(stopped, Instance)
    stopped.process.terminate()
    await asyncio.wait_for(ended.wait(), 10)
    await listening
    assert await asyncio.wait_for(stopped.process.wait(), 10) == 0


async def test_a_call_that_was_forwarded_to_an_instance_that_is_killed_may_have_run(
    doomed: World,
) -> None:
    _, second = await _pair(doomed)
    await second.talk("c", "before")
    waiting = second.request("c_talk", "w", arguments={"wait": True})
    call = asyncio.create_task(second.send(waiting, "w"))
    await asyncio.wait_for(doomed.chatters["c"].started.wait(), 10)
    await doomed.instances[0].kill()
    response, _ = await asyncio.wait_for(call, 20)
    assert response["error"]["data"] == {"reason": "InstanceLost", "mayHaveRun": True}
    assert response["error"]["message"].endswith("the request may have run")
    await second.talk("c", "after")
    assert len(doomed.chatters["c"].users) == 1


async def test_when_an_instance_dies_its_sessions_continue_at_the_other_one(
    doomed: World,
) -> None:
    _, second = await _pair(doomed)
    for name in ("a", "c"):
        await second.talk(name, f"w-{name}")
    await doomed.instances[0].kill()
    for name in ("a", "c"):
        await second.talk(name, f"again-{name}")
    sessions = doomed.chatters["c"].users
    assert [len(sessions), {"x"}] == [1, *sessions.values()]
