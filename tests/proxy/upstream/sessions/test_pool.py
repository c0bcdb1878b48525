"""Choice of the upstream session for a request."""

import asyncio

import pytest

from mcpproxy.limits.backends import ABANDONED_FOR
from mcpproxy.proxy.core.errors import (
    ReuseNotAllowed,
    SessionNotFound,
    TooManySessions,
    Unreachable,
)
from mcpproxy.proxy.core.exchange import ClientIdentity
from mcpproxy.proxy.upstream.sessions import warm_pool
from mcpproxy.proxy.upstream.sessions.warm_set import MAX_WARM
from tests.proxy.runtime.waiting import soon
from tests.proxy.upstream.stage import ANN, BO, Mode, Stage, settled


async def test_isolated_requests_never_share_and_their_sessions_end() -> None:
    stage = Stage()
    async with stage.sessions.acquire(ANN) as first, stage.sessions.acquire(ANN) as second:
        assert first is not second
    third = await stage.used(ANN)
    assert third not in (first, second)
    assert len(stage.opened) >= 3
    for link in stage.opened[:3]:
        if link in (first, second, third):
            await asyncio.wait_for(link.closed.wait(), 5)


async def test_warm_sessions_wait_for_the_next_request_of_the_same_kind() -> None:
    stage = Stage()
    await stage.used(ANN)
    await soon(lambda: stage.open_now >= 1 and len(stage.opened) > 1, "warm sessions")
    # An opened session is not yet in the pool.
    await settled()
    before = len(stage.opened)
    stage.gate.clear()
    link = await asyncio.wait_for(stage.used(ANN), 5)
    assert link in stage.opened[1:before]
    assert link.client == ANN


async def test_s9_a_warm_session_is_never_given_to_another_kind_of_client() -> None:
    stage = Stage()
    await stage.used(ANN)
    await soon(lambda: len(stage.opened) > 1, "warm sessions")
    for other in (
        BO,
        ClientIdentity(ANN.revision, ANN.capabilities, None, "bo", ANN.session),
        ClientIdentity(ANN.revision, b"{}", None, ANN.principal, ANN.session),
        ClientIdentity("2025-06-18", ANN.capabilities, None, ANN.principal, ANN.session),
        ClientIdentity(ANN.revision, ANN.capabilities, b'{"name":"x"}', ANN.principal, ANN.session),
    ):
        assert (await stage.used(other)).client == other


async def test_an_abandoned_session_is_closed_once_it_is_open() -> None:
    stage = Stage()
    stage.gate.clear()
    waiting = asyncio.create_task(stage.used(ANN))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    stage.gate.set()
    await soon(lambda: stage.opened, "the session to be opened")
    await asyncio.wait_for(stage.opened[0].closed.wait(), 5)
    assert stage.sessions.upstream.count == 0


async def test_a_warm_session_that_died_is_not_given_out() -> None:
    stage = Stage()
    await stage.used(ANN)
    await soon(lambda: len(stage.opened) > 1, "warm sessions")
    dead = list(stage.opened)
    for link in dead:
        link.alive = False
    assert await stage.used(ANN) not in dead


async def test_warm_sessions_are_few_however_many_requests_come() -> None:
    stage = Stage()
    await asyncio.gather(*(stage.used(ANN) for _ in range(50)))
    await soon(lambda: stage.open_now <= MAX_WARM, "used sessions to end")
    await settled()
    assert stage.open_now <= MAX_WARM


async def test_requests_that_found_no_warm_session_leave_more_of_them_behind() -> None:
    stage = Stage(warm_each=1)
    await stage.used(ANN)
    await soon(lambda: stage.opened[1:] and stage.open_now == 1, "one warm session")
    stage.gate.clear()
    assert await stage.used(ANN) is stage.opened[1]
    missed = asyncio.create_task(stage.used(ANN))
    await asyncio.sleep(0)
    stage.gate.set()
    await missed
    await soon(lambda: stage.open_now == 2, "two warm sessions")


async def test_the_number_of_warm_sessions_is_unchanged_if_each_request_found_one() -> None:
    stage = Stage(warm_each=1)
    for number in range(2, 7):
        await stage.used(ANN)
        await soon(lambda n=number: len(stage.opened) == n and stage.open_now == 1, "one")  # type: ignore[misc]
    assert stage.sessions.upstream.count == 1


async def test_under_steady_calls_sessions_are_opened_together_and_every_call_finds_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A slow machine takes longer than the usual delay for these calls.
    monkeypatch.setattr(warm_pool, "REFILL_DELAY", 60.0)
    stage = Stage()
    for _ in range(40):
        await stage.used(ANN)
        await settled()
    hits = bursts = 0
    for _ in range(40):
        before = {id(link) for link in stage.opened}
        hits += id(await stage.used(ANN)) in before
        await settled()
        bursts += len(stage.opened) > len(before)
    assert hits == 40
    assert 0 < bursts <= 10


async def test_the_end_of_a_session_is_put_off_while_others_wait_but_not_for_long() -> None:
    stage = Stage()
    await stage.used(ANN)
    await soon(lambda: len(stage.opened) == 3 and stage.open_now == 2, "warm sessions")
    used = await stage.used(ANN)
    await settled()
    assert not used.closed.is_set()
    await asyncio.wait_for(used.closed.wait(), 5)
    await soon(lambda: len(stage.opened) == 4 and stage.open_now == 2, "another one")


async def test_sessions_that_wait_for_their_end_are_ended_with_all_others() -> None:
    stage = Stage()
    await stage.used(ANN)
    await soon(lambda: len(stage.opened) == 3 and stage.open_now == 2, "warm sessions")
    used = await stage.used(ANN)
    await stage.sessions.close()
    assert used.closed.is_set()


async def test_requests_to_a_sessionless_backend_are_not_isolated() -> None:
    stage = Stage()
    stage.stateful = False
    links = {id(await stage.used(ANN)) for _ in range(5)}
    assert len(links) == len(stage.opened) == 1
    assert await stage.used(BO) is not stage.opened[0]


async def test_a_backend_that_failed_may_keep_sessions_afterwards() -> None:
    stage = Stage()
    stage.stateful = False
    await stage.used(ANN)
    stage.stateful = True
    stage.sessions.on_backend_failure()
    assert await stage.used(ANN) is not await stage.used(ANN)


async def test_a_client_has_one_separate_session() -> None:
    stage = Stage("PerClient")
    anns = await asyncio.gather(*(stage.used(ANN) for _ in range(10)))
    bos = await asyncio.gather(*(stage.used(BO) for _ in range(10)))
    assert len({id(link) for link in anns}) == len({id(link) for link in bos}) == 1
    assert anns[0] is not bos[0]
    assert len(stage.opened) == 2


async def test_the_session_of_a_client_that_left_ends() -> None:
    stage = Stage("PerClient")
    link = await stage.used(ANN)
    other = await stage.used(BO)
    stage.sessions.end_client(ANN.session)
    await asyncio.wait_for(link.closed.wait(), 5)
    assert not other.closed.is_set()
    assert await stage.used(ANN) is not link


async def test_clients_without_sessions_and_credentials_are_isolated() -> None:
    stage = Stage("PerClient")
    modern = ClientIdentity("2026-07-28")
    assert await stage.used(modern) is not await stage.used(modern)


async def test_a_lost_session_is_opened_again() -> None:
    stage = Stage("PerClient")
    first = await stage.used(ANN)
    with pytest.raises(SessionNotFound):
        async with stage.sessions.acquire(ANN):
            raise SessionNotFound("gone")
    second = await stage.used(ANN)
    assert second is not first
    second.alive = False
    assert await stage.used(ANN) is not second


async def test_a_failure_to_open_reaches_all_waiting_calls_and_is_then_retried() -> None:
    stage = Stage("PerClient")
    stage.error = Unreachable("no")
    stage.gate.clear()
    waiting = [asyncio.create_task(stage.used(ANN)) for _ in range(3)]
    await asyncio.sleep(0)
    stage.gate.set()
    errors = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(error) for error in errors] == [Unreachable] * 3
    stage.error = None
    assert await stage.used(ANN) is stage.opened[0]


async def test_a_cancelled_waiter_does_not_cancel_the_others() -> None:
    stage = Stage("PerClient")
    stage.gate.clear()
    first, second = (asyncio.create_task(stage.used(ANN)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    stage.gate.set()
    assert await asyncio.wait_for(second, 5) is stage.opened[0]


async def test_reuse_is_refused_for_a_backend_that_keeps_sessions() -> None:
    stage = Stage("Reused")
    with pytest.raises(ReuseNotAllowed, match="Isolated or PerClient"):
        await stage.used(ANN)
    await soon(lambda: stage.open_now == 0, "the session to be closed")


async def test_s8_a_reused_session_is_one_for_each_principal_and_kind() -> None:
    stage = Stage("Reused", declared=True)
    again = ClientIdentity(ANN.revision, ANN.capabilities, None, ANN.principal, "another session")
    assert await stage.used(ANN) is await stage.used(again)
    assert await stage.used(BO) is not await stage.used(ANN)


async def test_a_shared_session_in_which_a_request_was_abandoned_is_replaced_after_a_while() -> (
    None
):
    stage = Stage("Reused", declared=True)
    first = await stage.used(ANN)
    with pytest.raises(asyncio.CancelledError):
        async with stage.sessions.acquire(ANN):
            raise asyncio.CancelledError
    stage.sessions.close_idle()
    assert await stage.used(ANN) is first
    (held,) = stage.sessions._held.values()
    assert held.doubtful_at is not None
    held.doubtful_at -= ABANDONED_FOR.value + 1
    async with stage.sessions.acquire(ANN) as busy:
        stage.sessions.close_idle()
        assert busy is stage.opened[0] is first
        assert await stage.used(ANN) is not first
        assert not stage.opened[0].closed.is_set()
    stage.sessions.close_idle()
    await asyncio.wait_for(stage.opened[0].closed.wait(), 5)


async def test_s11_idle_sessions_are_reaped_and_those_in_use_are_not() -> None:
    stage = Stage("PerClient", idle=0.0)
    idle = await stage.used(BO)
    async with stage.sessions.acquire(ANN) as busy:
        await asyncio.sleep(0.001)
        stage.sessions.close_idle()
        await asyncio.wait_for(idle.closed.wait(), 5)
        assert busy is stage.opened[1]
        assert not stage.opened[1].closed.is_set()


async def test_s11_unused_warm_sessions_are_closed() -> None:
    stage = Stage(idle=0.0)
    await stage.used(ANN)
    await soon(lambda: len(stage.opened) == 3 and stage.open_now == 2, "warm sessions")
    await asyncio.sleep(0.001)
    stage.sessions.close_idle()
    await soon(lambda: stage.open_now == 0, "warm sessions to end")


async def test_s11_the_number_of_sessions_is_capped() -> None:
    stage = Stage()
    stage.sessions.upstream.shares.limit = 2
    async with stage.sessions.acquire(ANN), stage.sessions.acquire(ANN):
        with pytest.raises(TooManySessions):
            await stage.used(ANN)
    await soon(lambda: stage.sessions.upstream.count < 2, "room")
    assert await stage.used(ANN)


async def test_closing_ends_every_session() -> None:
    modes: tuple[Mode, ...] = ("Isolated", "PerClient")
    for mode in modes:
        stage = Stage(mode)
        await stage.used(ANN)
        await stage.used(BO)
        await stage.sessions.close()
        await stage.background.close(grace=1.0)
        assert stage.open_now == 0


async def test_a_leased_session_without_a_request_returns_to_the_pool() -> None:
    stage = Stage()
    assert stage.sessions.try_acquire(ANN) is None
    await stage.used(ANN)
    await soon(lambda: stage.open_now == 2, "warm sessions")
    before = dict(stage.sessions.acquisitions)
    held = stage.sessions.try_acquire(ANN)
    assert held is not None
    assert stage.sessions.running_sessions(ANN) == [held.link]
    stage.sessions.return_unused(held)
    assert stage.sessions.running_sessions(ANN) == []
    assert stage.sessions.acquisitions == before
    again = stage.sessions.try_acquire(ANN)
    assert again is not None
    assert again.link is held.link
    stage.sessions.release(again)
    assert stage.sessions.running_sessions(ANN) == []
    await soon(lambda: stage.open_now == 2 and len(stage.opened) == 4, "its end, and another")
    assert stage.sessions.acquisitions["warm"] == before["warm"] + 1
    assert next(iter(stage.sessions._warm._kinds.values())).in_use == 0


# Changed values for new sessions


@pytest.mark.parametrize("opening", [False, True])
async def test_renewed_requests_get_no_session_that_waited_or_was_being_opened(
    opening: bool,
) -> None:
    stage = Stage(warm_each=1)
    if opening:
        async with stage.sessions.acquire(ANN):
            stage.gate.clear()
        await settled()
    else:
        await stage.used(ANN)
        await soon(lambda: len(stage.opened) == 2 and stage.open_now == 1, "a warm session")
    stage.sessions.retire()
    stage.gate.set()
    await soon(lambda: len(stage.opened) == 2 and stage.open_now == 0, "the end of the old ones")
    assert await stage.used(ANN) is stage.opened[2]


async def test_a_retired_shared_session_closes_when_its_requests_have_ended() -> None:
    stage = Stage("Reused", declared=True)
    async with stage.sessions.acquire(ANN) as before:
        stage.sessions.retire()
        after = await stage.used(ANN)
        assert after is not before
        stage.sessions.close_idle()
        await settled()
        assert stage.open_now == 2
    stage.sessions.close_idle()
    await soon(lambda: stage.open_now == 1, "the end of the session before")
    assert await stage.used(ANN) is after
    stage.sessions.retire()
    await soon(lambda: stage.open_now == 0, "the end of a session that nobody uses")


async def test_a_reused_session_serves_only_the_clients_that_waited_for_it() -> None:
    stage = Stage("Reused", declared=True)
    stage.gate.clear()
    waiting = asyncio.create_task(stage.used(ANN))
    await settled()
    stage.sessions.retire()
    stage.gate.set()
    before = await waiting
    assert await stage.used(ANN) is not before
    stage.sessions.close_idle()
    await soon(lambda: stage.open_now == 1, "the end of the session before")


async def test_the_separate_session_of_a_client_stays_open_when_values_change() -> None:
    stage = Stage("PerClient")
    before = await stage.used(ANN)
    stage.sessions.retire()
    assert await stage.used(ANN) is before
    assert (await stage.used(BO)) is not before


async def test_abandoned_sessions_are_closed_with_the_others() -> None:
    stage = Stage("Reused", declared=True)
    async with stage.sessions.acquire(ANN):
        stage.sessions.retire()
        await stage.sessions.close()
    assert stage.open_now == 0
