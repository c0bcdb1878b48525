"""Shares of clients in the sessions with one backend."""

import asyncio
from dataclasses import replace

import pytest

from mcpproxy.limits.backends import CLIENT_KINDS, UPSTREAM_SESSIONS
from mcpproxy.proxy.core.errors import TooManySessions, Unreachable
from mcpproxy.proxy.core.exchange import ClientIdentity
from tests.proxy.upstream.stage import ANN, Stage, settled


def _client(number: int, principal: str = "hostile", network: str = "net") -> ClientIdentity:
    return ClientIdentity("2025-11-25", b"{}", None, principal, f"{principal}-{number}", network)


async def test_beyond_the_limit_the_idlest_session_of_the_largest_holder_ends() -> None:
    stage = Stage("PerClient")
    stage.sessions.upstream.shares.limit = 16
    victim = _client(0, "victim")
    own = await stage.used(victim)
    before = UPSTREAM_SESSIONS.reached
    for number in range(100):
        await stage.used(_client(number))
        await settled()
    assert not own.closed.is_set()
    assert await stage.used(victim) is own
    assert stage.open_now <= 16
    # The client with many sessions keeps its latest ones.
    kept = [link.client.session for link in stage.opened if not link.closed.is_set()]
    assert kept == ["victim-0", *(f"hostile-{number}" for number in range(87, 100))]
    assert UPSTREAM_SESSIONS.reached - before == 87
    another = await stage.used(_client(0, "another"))
    assert not another.closed.is_set()


async def test_an_anonymous_client_loses_no_session_to_one_of_another_network() -> None:
    stage = Stage("PerClient")
    stage.sessions.upstream.shares.limit = 16
    victim = _client(0, "", "10.0.0.1")
    own = await stage.used(victim)
    for number in range(100):
        await stage.used(_client(number, f"invented {number}", "10.0.0.2"))
        await settled()
    assert await stage.used(victim) is own


async def test_sessions_in_use_do_not_end_and_leave_room_for_others() -> None:
    stage = Stage(warm_each=0)
    stage.sessions.upstream.shares.limit = 32
    release = asyncio.Event()
    refused = []

    async def call(number: int) -> None:
        try:
            async with stage.sessions.acquire(_client(number)):
                await release.wait()
        except TooManySessions as error:
            refused.append(error)

    calls = [asyncio.create_task(call(number)) for number in range(100)]
    await settled()
    assert len(refused) == 100 - 28
    assert await stage.used(_client(0, "victim"))
    release.set()
    await asyncio.gather(*calls)


async def test_a_backend_that_never_ends_sessions_does_not_accumulate_open_sessions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = Stage("PerClient")
    stage.sessions.upstream.shares.limit = 4
    hanging = asyncio.Event()

    async def hang(self: object) -> None:
        await hanging.wait()

    monkeypatch.setattr("tests.proxy.upstream.stage.FakeLink.close", hang)
    refused = 0
    for number in range(20):
        try:
            await stage.used(_client(number))
        except TooManySessions:
            refused += 1
    assert stage.sessions.upstream.count <= 8
    assert refused == 13
    hanging.set()
    await settled()


async def test_sessions_that_failed_to_open_leave_no_state() -> None:
    stage = Stage("PerClient")
    stage.error = Unreachable("refused")
    for number in range(20):
        with pytest.raises(Unreachable):
            await stage.used(_client(number))
    await settled()
    assert not stage.sessions._held
    assert stage.sessions.upstream.count == 0


async def test_clients_with_many_list_variants_do_not_evict_those_of_others() -> None:
    stage = Stage()
    stage.stateful = False
    await stage.used(ANN)
    for number in range(CLIENT_KINDS.value + 50):
        await stage.used(replace(_client(0), info=b'{"name":"%d"}' % number))
    assert stage.sessions.try_acquire(ANN) is not None
    assert len(stage.sessions._stateless.by_key) == CLIENT_KINDS.value


async def test_kinds_of_clients_for_which_sessions_wait_are_bounded() -> None:
    stage = Stage(warm_each=0)
    for number in range(CLIENT_KINDS.value + 50):
        await stage.used(replace(_client(0), info=b'{"name":"%d"}' % number))
    assert len(stage.sessions._warm._kinds) <= CLIENT_KINDS.value
