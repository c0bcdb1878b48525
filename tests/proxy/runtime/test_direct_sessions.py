"""Calls that take no task, and the sessions with backends in which they are made."""

from typing import Any

import pytest

from tests.proxy.runtime.raw import rpc
from tests.proxy.runtime.serving import LIVE
from tests.proxy.runtime.shaped import ASKED, LOGGED, SESSIONS, SHARED, TEXT, called, plain, stage
from tests.proxy.runtime.waiting import soon

pytestmark = LIVE


@pytest.mark.parametrize("at_once", [False, True], ids=["before", "with"])
@pytest.mark.parametrize("kind", SESSIONS)
async def test_messages_on_the_session_stream_during_a_call_reach_the_calling_client(
    proxy: Any, http: Any, kind: str, at_once: bool
) -> None:
    async with stage(proxy, http, kind, plain) as (backend, client):
        await called(client, kind)

        async def before(session: bytes) -> None:
            backend.say(session, LOGGED)
            backend.say(session, {**LOGGED, "params": {"level": "info", "data": 2}})
            if not at_once:
                await backend.streams[session].drain()
                await soon(lambda: received, "the message on its way to the client")

        received: list[Any] = []
        backend.before = before
        async for message in client.messages(rpc("tools/call", {"name": "p_x"}, "mine")):
            received += [message]
        assert [item["params"]["data"] for item in received[:2]] == [1, 2]
        assert received[2]["result"]["content"] == TEXT["content"]
        assert len(received) == 3
        assert len(backend.calls) == 2


@pytest.mark.parametrize("kind", SESSIONS)
async def test_a_server_request_on_the_session_stream_reaches_the_calling_client(
    proxy: Any, http: Any, kind: str
) -> None:
    async with stage(proxy, http, kind, plain) as (backend, client):
        await called(client, kind)

        async def before(session: bytes) -> None:
            backend.say(session, ASKED)
            await soon(lambda: backend.answers, "the answer of the client")

        backend.before = before
        received: list[Any] = []
        async for message in client.messages(rpc("tools/call", {"name": "p_x"}, "mine")):
            received.append(message)
            if "method" in message:
                answer = {"jsonrpc": "2.0", "id": message["id"], "result": {"action": "decline"}}
                assert (await client.post(answer)).status_code == 202
        assert [item.get("method") for item in received] == ["elicitation/create", None]
        assert backend.answers == [{"jsonrpc": "2.0", "id": "q", "result": {"action": "decline"}}]
        assert len(backend.calls) == 2


@pytest.mark.parametrize("kind", SHARED)
async def test_a_call_reopens_a_session_that_the_backend_lost(
    proxy: Any, http: Any, kind: str
) -> None:
    async with stage(proxy, http, kind, plain) as (backend, client):
        await called(client, kind)
        first = backend.asked[-1][0]
        backend.gone.add(first)
        for _ in range(2):
            assert (await called(client, kind))["result"]["content"] == TEXT["content"]
        calls = [session for session, method in backend.asked if method == "tools/call"]
        assert calls[:2] == [first, first]
        assert calls[2] == calls[3] != first
        assert len(backend.calls) == 3


@pytest.mark.parametrize("kind", SHARED)
async def test_the_level_that_a_client_has_set_is_set_before_each_call(
    proxy: Any, http: Any, kind: str
) -> None:
    async with stage(proxy, http, kind, plain) as (backend, client):
        await called(client, kind)
        await client.post(rpc("logging/setLevel", {"level": "error"}, 7))
        before = len(backend.asked)
        await called(client, kind)
        assert [method for _, method in backend.asked[before:]] == [
            "logging/setLevel",
            "tools/call",
        ]


@pytest.mark.parametrize("kind", SHARED)
async def test_a_session_lasts_while_calls_that_take_no_task_use_it_and_no_longer(
    proxy: Any, http: Any, kind: str
) -> None:
    async with stage(proxy, http, kind, plain) as (backend, client):
        await called(client, kind)

        async def before(session: bytes) -> None:
            backend.reap()

        backend.before = before
        for _ in range(2):
            await called(client, kind)
        sessions = {session for session, method in backend.asked if method == "tools/call"}
        assert len(sessions) == 1
        assert all(method != "DELETE" for _, method in backend.asked)

        def ended() -> bool:
            backend.reap()
            return (*sessions, "DELETE") in backend.asked

        await soon(ended, "the end of the session")


async def test_isolated_calls_without_a_task_each_get_a_session_that_is_ended(
    proxy: Any, http: Any
) -> None:
    async with stage(proxy, http, "Isolated", plain) as (backend, client):
        await called(client, "Isolated")
        for _ in range(5):
            await soon(backend.is_warm, "a session that waits")
            await called(client, "Isolated")
        used = [session for session, method in backend.asked if method == "tools/call"]
        assert len(set(used)) == 6
        await soon(
            lambda: {session for session, method in backend.asked if method == "DELETE"} >= {*used},
            "the end of all that were used",
        )
        result = backend.sessions.acquisitions
        assert (result["warm"], result["cold"]) == (5, 1)


async def test_an_isolated_call_whose_session_was_forgotten_is_made_again_in_a_new_one(
    proxy: Any, http: Any
) -> None:
    async with stage(proxy, http, "Isolated", plain) as (backend, client):
        await called(client, "Isolated")
        await soon(backend.is_warm, "a session that waits")
        backend.gone |= {b"%d" % number for number in range(1, backend.opened + 1)}
        assert (await called(client, "Isolated"))["result"]["content"] == TEXT["content"]
        calls = [session for session, method in backend.asked if method == "tools/call"]
        assert len(calls) == 3
        assert calls[1] in backend.gone
        assert calls[2] not in backend.gone
