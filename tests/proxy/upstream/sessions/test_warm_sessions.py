"""Number of sessions that are opened in advance, and when they are opened and closed."""

import asyncio
import statistics
from dataclasses import replace
from typing import Any

import pytest

from mcpproxy.limits.backends import WARM_SESSIONS
from mcpproxy.proxy.core.errors import Unreachable
from mcpproxy.proxy.core.exchange import ClientIdentity
from mcpproxy.proxy.upstream.sessions import warm_pool
from mcpproxy.proxy.upstream.sessions.warm_pool import WARM_FOR
from mcpproxy.proxy.upstream.sessions.warm_set import (
    MAX_WARM,
    REFILL_SIZE,
    RETRY_FIRST,
    WarmSet,
)
from mcpproxy.proxy.upstream.transports.session import UpstreamSession
from tests.proxy.upstream.stage import ANN, BO, FakeLink, Stage, settled

CONCURRENT = 16
MAX_ALONE = 24
"""Maximum number of warm sessions of a client whose requests come one at a time."""


class SlowStage(Stage):
    """A stage that counts attempts to open sessions, each of which takes several steps."""

    steps = 6
    attempts = 0

    async def open(self, client: ClientIdentity) -> UpstreamSession:
        self.attempts += 1
        for _ in range(self.steps):
            await asyncio.sleep(0)
        return await super().open(client)


async def _call(stage: Stage, client: ClientIdentity, calls: int) -> None:
    for _ in range(calls):
        async with stage.sessions.acquire(client):
            for _ in range(6):
                await asyncio.sleep(0)


async def _burst(stage: Stage, client: ClientIdentity = ANN) -> None:
    await asyncio.gather(*(_call(stage, client, 1) for _ in range(CONCURRENT)))
    await settled()


def _link() -> Any:
    return FakeLink(ANN)


# Requests that find a session


@pytest.mark.parametrize("clients", [1, CONCURRENT])
async def test_no_call_waits_for_a_session_while_calls_come_at_a_steady_rate(clients: int) -> None:
    stage = SlowStage()
    await asyncio.gather(*(_call(stage, ANN, 30) for _ in range(clients)))
    before = dict(stage.sessions.acquisitions)
    await asyncio.gather(*(_call(stage, ANN, 100) for _ in range(clients)))
    after = stage.sessions.acquisitions
    assert after["cold"] == before["cold"]
    assert after["warm"] - before["warm"] == 100 * clients


async def test_used_sessions_are_replaced_in_small_groups(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(warm_pool, "REFILL_DELAY", 60.0)
    stage = SlowStage()
    await _call(stage, ANN, 30)
    await settled()
    groups = []
    for _ in range(40):
        before = stage.attempts
        await _call(stage, ANN, 1)
        await settled()
        groups.append(stage.attempts - before)
    # One group is larger when the rate of calls has risen.
    assert statistics.median(group for group in groups if group) == REFILL_SIZE
    assert 0 <= sum(group > 0 for group in groups) - 40 // REFILL_SIZE <= 1


async def test_calls_and_sessions_differ_by_the_warm_ones_only() -> None:
    stage = SlowStage()
    await _call(stage, ANN, 200)
    await settled()
    assert 200 <= len(stage.opened) <= 200 + MAX_ALONE


# Requests that stop


async def test_sessions_that_were_opened_ahead_are_closed_when_calls_stop() -> None:
    stage = Stage()
    await asyncio.gather(*(_call(stage, ANN, 20) for _ in range(CONCURRENT)))
    # Not later, by the real clock.
    stage.sessions._warm._flush()
    await settled()
    now = asyncio.get_running_loop().time()
    many = stage.open_now
    assert many > 2 * CONCURRENT - REFILL_SIZE
    counts = []
    for second in range(0, int(WARM_FOR), 2):
        stage.sessions._warm.reap(now + second, 3600.0)
        await settled()
        counts.append(stage.open_now)
    assert counts == sorted(counts, reverse=True)
    assert counts[5] <= many / 2 + 1
    assert counts[-1] == 2
    opened = len(stage.opened)
    stage.sessions._warm.reap(now + WARM_FOR + 1, 3600.0)
    await settled()
    assert (stage.open_now, len(stage.opened)) == (0, opened)


async def test_the_oldest_warm_sessions_are_closed_first() -> None:
    warm = WarmSet(2, 0.0)
    warm.begin_use(0.0, missed=True)
    warm.end_use()
    links = warm.links = [_link() for _ in range(10)]
    assert warm.shrink(60.0, 0.0, 60.0) == links[:8]
    assert warm.links == links[8:]


def test_the_number_of_warm_sessions_follows_the_rate_of_calls_and_the_time_to_open_one() -> None:
    warm = WarmSet(2, 0.0)
    for tick in range(1, 5001):
        warm.begin_use(tick / 1000, missed=False)
        warm.end_use()
    assert warm.begin_refill(5.0, 0.0) == 2 + REFILL_SIZE
    # Each session takes 10 ms, in which ten calls arrive.
    assert warm.begin_refill(5.001, 0.01) == pytest.approx(2 + REFILL_SIZE + 20, abs=1)
    assert warm.begin_refill(5.002, 10.0) == MAX_WARM


# Backends that give no sessions


async def test_a_backend_that_refuses_sessions_is_not_asked_again_after_each_call() -> None:
    stage = SlowStage()
    async with asyncio.TaskGroup() as group:
        release = asyncio.Event()

        async def hold(number: int) -> None:
            async with stage.sessions.acquire(ANN):
                await release.wait()
                for _ in range(number):
                    await settled()

        for number in range(CONCURRENT):
            group.create_task(hold(number))
        await settled()
        stage.error, before = Unreachable("HTTP 429"), stage.attempts
        release.set()
    await settled()
    assert stage.attempts - before <= MAX_WARM
    (warm,) = stage.sessions._warm._kinds.values()
    assert warm.retry.failures == 1


def test_after_a_refusal_one_session_shows_whether_the_backend_gives_sessions_again() -> None:
    warm = WarmSet(2, 0.0)
    for _ in range(4):
        warm.begin_use(0.0, missed=True)
    assert warm.begin_refill(0.0, 0.0) == 8
    warm.begin_opening()
    warm.end_opening(0.0, failed=True)
    assert warm.begin_refill(RETRY_FIRST / 2, 0.0) == 0
    assert warm.begin_refill(RETRY_FIRST, 0.0) == 1
    warm.begin_opening()
    assert warm.begin_refill(RETRY_FIRST * 2, 0.0) == 0
    warm.end_opening(RETRY_FIRST * 2, failed=False)
    assert warm.begin_refill(RETRY_FIRST * 3, 0.0) == 8


# Several identities


async def test_a_client_gets_its_share_of_warm_sessions_from_those_with_many() -> None:
    stage = Stage()
    third = replace(ANN, principal="third", session="session-third")
    for client in (ANN, BO):
        await _burst(stage, client)
    assert stage.open_now > WARM_SESSIONS.value - CONCURRENT
    await _burst(stage, third)
    before = stage.sessions.acquisitions["cold"]
    for _ in range(3):
        await _call(stage, third, 1)
        await settled()
    assert stage.sessions.acquisitions["cold"] == before
    assert stage.open_now <= WARM_SESSIONS.value + REFILL_SIZE
    sizes = [len(warm.links) for warm in stage.sessions._warm._kinds.values()]
    assert min(sizes) >= WARM_SESSIONS.value // 3 - REFILL_SIZE
