"""The backstop lists, enqueues, and notices a watch that went silent."""

import asyncio
from typing import Any

import pytest

from mcpproxy.cluster.errors import Unavailable
from mcpproxy.cluster.fake import FakeCluster
from mcpproxy.cluster.kinds import ProxyKey
from mcpproxy.handlers.resync import EVERYTHING, LAG, Resync, WatchGuard
from mcpproxy.reconcile.queue import WorkQueue
from tests.builders import a_manifest
from tests.reconcile.clock import FakeClock

KEY = ProxyKey("team", "tools")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def guard(clock: FakeClock) -> WatchGuard:
    return WatchGuard(clock.time)


@pytest.mark.parametrize(
    ("listed", "watched"), [({KEY: 2}, {KEY: 1}), ({KEY: 1}, {}), ({}, {KEY: 1})]
)
def test_a_watch_that_stays_behind_the_list_is_lagging_after_a_while(
    guard: WatchGuard, clock: FakeClock, listed: dict[ProxyKey, int], watched: dict[ProxyKey, int]
) -> None:
    guard.compare(listed, watched)
    assert not guard.lagging
    clock.advance(LAG)
    guard.compare(listed, watched)
    assert guard.lagging
    guard.compare({KEY: 3}, {KEY: 3})
    assert not guard.lagging


def test_a_watch_that_is_ahead_of_the_list_is_fine(guard: WatchGuard, clock: FakeClock) -> None:
    guard.compare({KEY: 1}, {KEY: 2})
    clock.advance(LAG)
    assert not guard.lagging


def test_a_watch_that_moves_on_is_not_lagging_however_busy_it_is(
    guard: WatchGuard, clock: FakeClock
) -> None:
    for generation in range(5):
        guard.compare({KEY: generation + 1}, {KEY: generation})
        clock.advance(LAG * 0.9)
        assert not guard.lagging


class Rounds:
    """Pauses that end at once, until there were enough."""

    def __init__(self, count: int) -> None:
        self._left = count
        self.over = asyncio.Event()

    async def __call__(self, seconds: float) -> None:
        """One pause."""
        assert 40 < seconds < 90
        if self._left == 0:
            self.over.set()
            await asyncio.Event().wait()
        self._left -= 1


async def rounds(cluster: FakeCluster, guard: WatchGuard, count: int, **options: Any) -> list[str]:
    """What is enqueued in so many rounds."""
    queue: WorkQueue[ProxyKey] = WorkQueue(FakeClock())
    sleep = Rounds(count)
    namespaces = options.pop("namespaces", ())
    resync = Resync(cluster, namespaces, queue, guard, dict, sleep=sleep)
    running = asyncio.create_task(resync.run())
    await asyncio.wait_for(sleep.over.wait(), 5)
    running.cancel()
    return [(await queue.get()).name for _ in range(len(queue))]


async def test_now_and_then_every_proxy_is_looked_at(guard: WatchGuard) -> None:
    cluster = FakeCluster()
    cluster.put(a_manifest("tools"))
    cluster.put(a_manifest("other", "another-team"))
    assert await rounds(cluster, guard, EVERYTHING - 1) == []
    assert sorted(await rounds(cluster, guard, EVERYTHING)) == ["other", "tools"]
    assert cluster.writes == []


async def test_only_the_served_namespaces_are_listed(guard: WatchGuard) -> None:
    cluster = FakeCluster()
    cluster.put(a_manifest("tools"))
    cluster.put(a_manifest("other", "another-team"))
    assert await rounds(cluster, guard, EVERYTHING, namespaces=("team",)) == ["tools"]


async def test_a_list_that_fails_does_not_end_the_rounds(guard: WatchGuard) -> None:
    class Failing(FakeCluster):
        async def list(self, *_: Any) -> Any:
            self.reads += 1
            raise Unavailable("no")

    cluster = Failing()
    await rounds(cluster, guard, 3)
    assert cluster.reads == 3
