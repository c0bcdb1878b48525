"""Sessions with backends over HTTP go on at other instances once their owner has ended."""

import asyncio
import json
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import httpx2
import pytest

from mcpproxy.limits import sessions as limits
from mcpproxy.proxy.downstream.legacy import handover
from tests.differential.backend import Backend, Call
from tests.proxy.runtime.forgetful import Forgetful
from tests.proxy.runtime.raw import Raw, last
from tests.proxy.runtime.serving import LIVE, Proxy, proxied, serving
from tests.proxy.runtime.strangers import KEY
from tests.proxy.runtime.test_instances import OF_THE_CLIENT, TOKEN, World, called, text, worlds
from tests.proxy.runtime.waiting import soon

pytestmark = [*LIVE, pytest.mark.timeout(120)]
PER_CLIENT = {"session": {"mode": "PerClient"}}


def _deletes(world: World) -> list[str]:
    """Upstream sessions that were used by clients and ended."""
    requests = [entry for entry in world.counter.gate.seen if entry.method == "DELETE"]
    ended = [request.headers["mcp-session-id"] for request in requests]
    return [session for session in ended if session in world.counter.counts]


async def test_a_session_goes_on_at_other_instances_in_the_same_upstream_session() -> None:
    async with worlds() as world:
        here, there, elsewhere = await world.session(world.first, world.second, world.third)
        assert text(await called(here, "c_increment")) == "1"
        await world.first.stop()
        for number in (2, 4):
            assert text(await called(there, "c_increment")) == str(number)
            assert text(await called(elsewhere, "c_increment")) == str(number + 1)
        assert list(world.counter.counts.values()) == [5]
        assert _deletes(world) == []


async def test_a_session_that_no_call_has_used_goes_on_at_another_instance() -> None:
    async with worlds() as world:
        (there,) = await world.session(world.second)
        await world.first.stop()
        assert [text(await called(there, "c_increment")) for _ in range(2)] == ["1", "2"]


async def test_instances_that_continue_a_session_do_not_end_it_when_they_end() -> None:
    async with worlds() as world:
        there, elsewhere = await world.session(world.second, world.third)
        await world.first.stop()
        assert text(await called(there, "c_increment")) == "1"
        await world.second.stop()
        assert text(await called(elsewhere, "c_increment")) == "2"
        assert _deletes(world) == []


async def test_a_client_ends_its_upstream_session_although_the_owner_has_ended() -> None:
    async with worlds() as world:
        here, there, elsewhere = await world.session(world.first, world.second, world.third)
        await called(here, "c_increment")
        await world.first.stop()
        headers = {"mcp-session-id": there.session or "", **OF_THE_CLIENT}
        assert (await world.http.delete(there.url, headers=headers)).status_code == 204
        await soon(lambda: len(_deletes(world)) == 1, "the end of the upstream session")
        for client in (there, elsewhere):
            answer = await called(client, "c_increment")
            assert answer.status_code == 404
        assert list(world.counter.counts.values()) == [1]


async def test_a_session_that_was_lost_twice_ends_with_404() -> None:
    backend = Forgetful()
    async with AsyncExitStack() as stack:
        owner, _, client = await _pair(stack, backend)
        await owner.stop()
        assert text(await called(client, "f_count")) == "1"
        backend.forget()
        for reason in ("the session no longer exists", "this session has ended"):
            answer = await called(client, "f_count")
            assert answer.status_code == 404
            assert reason in last(answer)["error"]["message"]
            assert "initialize again" in last(answer)["error"]["message"]
        assert backend.executed == 1
        await client.initialize(authorization=TOKEN)
        assert text(await called(client, "f_count")) == "1"


async def _pair(stack: AsyncExitStack, backend: Any, **options: Any) -> tuple[Proxy, Proxy, Raw]:
    """Two instances before one backend, and a client at the second of a session of the first."""
    base = await stack.enter_async_context(serving(backend))
    spec = {"name": "f", "url": f"{base}/mcp", "protocol": "legacy", **PER_CLIENT}
    owner, other = [
        await stack.enter_async_context(proxied(spec, options={"keys": (KEY,), **options}))
        for _ in range(2)
    ]
    limits = httpx2.Limits(max_keepalive_connections=0)
    http = await stack.enter_async_context(httpx2.AsyncClient(timeout=30, limits=limits))
    begun, client = Raw(owner.url, http), Raw(other.url, http)
    await begun.initialize(authorization=TOKEN)
    client.session = begun.session
    return owner, other, client


def _naming_sessions(*, stateless: bool) -> Backend:
    """A backend whose tool returns the upstream session of the call."""

    async def answer(call: Call) -> None:
        result = {"content": [{"type": "text", "text": call.session}]}
        response = {"jsonrpc": "2.0", "id": call.message["id"], "result": result}
        await call.finish(json.dumps(response))

    tool = json.dumps({"name": "t", "inputSchema": {"type": "object"}})
    return Backend("legacy", answer, {"tools": [tool]}, stateless=stateless)


async def test_a_backend_without_sessions_needs_no_owner() -> None:
    backend = _naming_sessions(stateless=True)
    async with AsyncExitStack() as stack:
        owner, _, client = await _pair(stack, backend)
        await owner.stop()
        assert text(await called(client, "f_t")) == ""


async def test_a_server_at_another_url_gets_no_session_id_of_the_former_one() -> None:
    former, later = Forgetful(), Forgetful()
    async with AsyncExitStack() as stack:
        owner, _, client = await _pair(stack, former)
        base = await stack.enter_async_context(serving(later))
        spec = {"name": "f", "url": f"{base}/mcp", "protocol": "legacy", **PER_CLIENT}
        changed = await stack.enter_async_context(proxied(spec, options={"keys": (KEY,)}))
        await owner.stop()
        client.url = changed.url
        answer = await called(client, "f_count")
        assert answer.status_code == 404
        assert "the request did not run; initialize again" in answer.text
        assert later.executed == 0


async def test_a_backend_that_opens_a_session_slowly_delays_initialize_for_a_bounded_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wait = replace(limits.OPENING_WAIT, value=0.05)  # type: ignore[arg-type]
    monkeypatch.setattr(handover, "OPENING_WAIT", wait)
    backend, goes_on = Forgetful(), asyncio.Event()
    client_opens = asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        if client_opens.is_set():
            await goes_on.wait()
        await backend(scope, receive, send)

    async with AsyncExitStack() as stack:
        owner, _, client = await _pair(stack, slow)
        begun = Raw(owner.url, client.http)
        client_opens.set()
        async with asyncio.timeout(1.5):
            await begun.initialize(authorization=TOKEN)
        goes_on.set()
        assert text(await called(begun, "f_count")) == "1"
        client.session = begun.session
        await owner.stop()
        answer = await called(client, "f_count")
        assert answer.status_code == 404
        assert "the request did not run; initialize again" in answer.text


async def test_no_session_is_opened_in_advance_if_only_this_process_has_the_key() -> None:
    backend = Forgetful()
    async with AsyncExitStack() as stack:
        owner, _, _ = await _pair(stack, backend, keys=())
        opened = backend.opened
        begun = Raw(owner.url, await stack.enter_async_context(httpx2.AsyncClient()))
        await begun.initialize(authorization=TOKEN)
        assert backend.opened == opened
        assert text(await called(begun, "f_count")) == "1"


async def test_messages_outside_of_calls_reach_the_stream_at_the_instance_that_goes_on() -> None:
    backend = _naming_sessions(stateless=False)
    async with AsyncExitStack() as stack:
        owner, _, client = await _pair(stack, backend)
        session = text(await called(client, "f_t"))
        await owner.stop()
        headers = {"accept": "text/event-stream", "mcp-session-id": client.session or ""}
        headers |= OF_THE_CLIENT
        log = {"level": "info", "data": "outside"}
        message = {"jsonrpc": "2.0", "method": "notifications/message", "params": log}

        def listening() -> int:
            return sum(own == session for own, _ in backend.streams)

        async with client.http.stream("GET", client.url, headers=headers) as stream:
            assert stream.status_code == 200
            await soon(listening, "the stream of the upstream session")
            assert text(await called(client, "f_t")) == session
            for own, queue in backend.streams:
                if own == session:
                    queue.put_nowait(json.dumps(message))
            async for line in stream.aiter_lines():
                if "outside" in line:
                    break
        await soon(lambda: not listening(), "the end of the stream of the upstream session")
