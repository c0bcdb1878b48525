"""Sessions for the proxy's own requests, which return to the warm pool afterwards."""

import asyncio
from dataclasses import replace

import pytest

from mcpproxy.limits.backends import WARM_SESSIONS
from mcpproxy.proxy.core.errors import SessionNotFound, Unreachable
from mcpproxy.proxy.core.exchange import ClientIdentity
from mcpproxy.proxy.upstream.sessions import warm_pool as module
from tests.proxy.runtime.waiting import soon
from tests.proxy.upstream.stage import ANN, BO, Stage, settled


async def test_a_session_used_for_a_list_serves_the_next_call() -> None:
    stage = Stage()
    for _ in range(2):
        async with stage.sessions.acquire_for_lists(ANN) as looked:
            assert looked is stage.opened[0]
    assert await stage.used(ANN) is looked
    await asyncio.wait_for(stage.opened[0].closed.wait(), 5)


async def test_s9_lists_use_no_session_of_another_pool_and_none_in_use() -> None:
    stage = Stage()
    async with stage.sessions.acquire(ANN) as used, stage.sessions.acquire_for_lists(ANN) as looked:
        assert looked is not used
    async with stage.sessions.acquire_for_lists(BO) as other:
        assert other in [link for link in stage.opened if link.client == BO]
    assert (await stage.used(BO)).client == BO


async def test_s9_lists_never_use_the_session_of_a_client() -> None:
    stage = Stage("PerClient")
    own = await stage.used(ANN)
    async with stage.sessions.acquire_for_lists(ANN) as looked:
        assert looked is not own
    assert await stage.used(ANN) is own


async def test_lists_use_reused_sessions_and_sessionless_backends_without_a_lease() -> None:
    stage = Stage("Reused", declared=True)
    own = await stage.used(ANN)
    async with stage.sessions.acquire_for_lists(ANN) as looked:
        assert looked is own
    stage = Stage()
    stage.stateful = False
    own = await stage.used(ANN)
    async with stage.sessions.acquire_for_lists(ANN) as looked:
        assert looked is own
    assert len(stage.opened) == 1


async def test_a_session_in_which_a_list_failed_is_ended() -> None:
    stage = Stage()
    with pytest.raises(Unreachable):
        async with stage.sessions.acquire_for_lists(ANN):
            raise Unreachable("no answer")
    await asyncio.wait_for(stage.opened[0].closed.wait(), 5)
    assert stage.open_now == 0


async def test_warm_sessions_of_a_lost_backend_session_are_ended() -> None:
    stage = Stage()
    async with stage.sessions.acquire_for_lists(ANN), stage.sessions.acquire_for_lists(ANN):
        pass
    with pytest.raises(SessionNotFound):
        async with stage.sessions.acquire_for_lists(ANN):
            raise SessionNotFound("forgotten")
    await soon(lambda: stage.open_now == 0, "sessions to end")


async def test_no_session_is_kept_warm_if_the_number_is_zero() -> None:
    stage = Stage()
    stage.sessions = stage.pool("Isolated", 0)
    async with stage.sessions.acquire_for_lists(ANN):
        pass
    await asyncio.wait_for(stage.opened[0].closed.wait(), 5)


async def test_s11_sessions_used_for_lists_are_bounded_and_closed_when_idle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "WARM_SESSIONS", replace(WARM_SESSIONS, value=3))
    stage = Stage(idle=0.0)
    for number in range(6):
        client = ClientIdentity("2025-11-25", b'{"experimental":{"n":%d}}' % number)
        async with stage.sessions.acquire_for_lists(client):
            pass
        await settled()
    assert stage.open_now == 3
    await asyncio.sleep(0.001)
    stage.sessions.close_idle()
    await soon(lambda: stage.open_now == 0, "sessions to end")
