"""Candidates that share a Lease, a clock and an API in memory."""

import asyncio
from collections.abc import Callable

import pytest

from mcpproxy.api.kubernetes.objects import Object
from mcpproxy.cluster.errors import Unavailable
from mcpproxy.cluster.resources import LEASE
from mcpproxy.controller.leader_election import LeaderElectionConfig, LeaderElector, LeaseRef
from mcpproxy.testing.fake_cluster import FakeCluster
from tests.reconcile.clock import FakeClock

PLACE = LeaseRef("system", "operator")
TIMING = LeaderElectionConfig(duration=10, renewal=6, retry=2)

Candidate = Callable[[str], LeaderElector]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


@pytest.fixture
def candidate(cluster: FakeCluster, clock: FakeClock) -> Candidate:
    """Makes candidates."""
    return lambda name: LeaderElector(cluster, PLACE, name, clock.time, clock.now, TIMING)


def lease(cluster: FakeCluster) -> Object:
    """The spec of the Lease."""
    spec: Object = cluster.objects[(LEASE.name, PLACE.namespace, PLACE.name)]["spec"]
    return spec


async def test_the_first_candidate_leads_and_the_second_does_not(
    candidate: Candidate, cluster: FakeCluster
) -> None:
    first, second = candidate("first"), candidate("second")
    assert await first.attempt()
    assert not await second.attempt()
    assert first.leads()
    assert not second.leads()
    assert lease(cluster) == {
        "holderIdentity": "first",
        "leaseDurationSeconds": 10,
        "acquireTime": "2026-01-01T00:00:00.000000Z",
        "renewTime": "2026-01-01T00:00:00.000000Z",
        "leaseTransitions": 0,
    }


async def test_a_renewing_leader_is_never_replaced(
    candidate: Candidate, clock: FakeClock, cluster: FakeCluster
) -> None:
    first, second = candidate("first"), candidate("second")
    for _ in range(20):
        assert await first.attempt()
        assert not await second.attempt()
        clock.advance(TIMING.retry)
    assert lease(cluster)["acquireTime"] == "2026-01-01T00:00:00.000000Z"


async def test_a_silent_leader_is_replaced_after_the_lease_duration_and_not_before(
    candidate: Candidate, clock: FakeClock, cluster: FakeCluster
) -> None:
    first, second = candidate("first"), candidate("second")
    await first.attempt()
    assert not await second.attempt()
    clock.advance(TIMING.duration - 0.1)
    assert not await second.attempt()
    clock.advance(0.1)
    assert await second.attempt()
    assert lease(cluster)["leaseTransitions"] == 1


async def test_a_leader_stops_well_before_another_can_begin(
    candidate: Candidate, clock: FakeClock
) -> None:
    first = candidate("first")
    await first.attempt()
    clock.advance(TIMING.renewal - 0.1)
    assert first.leads()
    clock.advance(0.1)
    assert not first.leads()


async def test_the_time_at_which_a_renewal_was_sent_counts(
    candidate: Candidate, clock: FakeClock, cluster: FakeCluster
) -> None:
    cluster.after_write = lambda request: clock.advance(5)
    first = candidate("first")
    assert await first.attempt()
    clock.advance(1)
    assert not first.leads()


async def test_a_released_lease_is_free_at_once(candidate: Candidate, cluster: FakeCluster) -> None:
    first, second = candidate("first"), candidate("second")
    await first.attempt()
    assert not await second.attempt()
    await first.release()
    assert not first.leads()
    assert "holderIdentity" not in lease(cluster)
    assert await second.attempt()


async def test_a_candidate_that_does_not_lead_releases_nothing(
    candidate: Candidate, cluster: FakeCluster
) -> None:
    first, second = candidate("first"), candidate("second")
    await first.attempt()
    await second.release()
    assert lease(cluster)["holderIdentity"] == "first"


async def test_one_of_two_candidates_wins_a_free_lease(
    candidate: Candidate, clock: FakeClock
) -> None:
    first, second = candidate("first"), candidate("second")
    await candidate("gone").attempt()
    for item in (first, second):
        assert not await item.attempt()
    clock.advance(TIMING.duration)
    results = await asyncio.gather(first.attempt(), second.attempt(), return_exceptions=True)
    assert sum(result is True for result in results) == 1
    assert first.leads() != second.leads()


async def test_a_lease_taken_by_another_operator_ends_the_leadership_at_once(
    candidate: Candidate, cluster: FakeCluster
) -> None:
    first = candidate("first")
    await first.attempt()
    live = await cluster.get(LEASE, PLACE.namespace, PLACE.name)
    assert live is not None
    cluster.put({**live, "spec": {**live["spec"], "holderIdentity": "a human"}})
    assert not await first.attempt()
    assert not first.leads()


@pytest.mark.parametrize(
    ("duration", "renewal", "retry"), [(10, 10, 2), (10, 6, 6), (10, 6, 0), (5, 6, 2)]
)
def test_contradictory_times_are_refused(duration: float, renewal: float, retry: float) -> None:
    with pytest.raises(ValueError, match="shorter"):
        LeaderElectionConfig(duration, renewal, retry)


class Work:
    """Fake work of a leader."""

    def __init__(self) -> None:
        self.began, self.ended = asyncio.Event(), asyncio.Event()

    async def __call__(self) -> None:
        """Work until cancelled."""
        self.began.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.set()


def quick(cluster: FakeCluster, name: str) -> LeaderElector:
    """A candidate with a real clock and little patience."""
    timing = LeaderElectionConfig(duration=0.3, renewal=0.2, retry=0.05)
    return LeaderElector(cluster, PLACE, name, asyncio.get_running_loop().time, timing=timing)


async def test_work_stops_when_the_lease_cannot_be_renewed_and_resumes_afterwards(
    cluster: FakeCluster,
) -> None:
    def refuse(request: str) -> None:
        raise Unavailable("no")

    work = Work()
    running = asyncio.create_task(quick(cluster, "first").run(work))
    await asyncio.wait_for(work.began.wait(), 5)
    work.began.clear()
    cluster.before_write = refuse
    await asyncio.wait_for(work.ended.wait(), 5)
    cluster.before_write = lambda request: None
    await asyncio.wait_for(work.began.wait(), 5)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_renewal_without_a_response_ends_the_work(cluster: FakeCluster) -> None:
    class Hanging(FakeCluster):
        hangs = False

        async def replace(self, manifest: Object) -> Object:
            if self.hangs:
                await asyncio.Event().wait()
            return await super().replace(manifest)

    hanging, work = Hanging(), Work()
    running = asyncio.create_task(quick(hanging, "first").run(work))
    await asyncio.wait_for(work.began.wait(), 5)
    hanging.hangs = True
    await asyncio.wait_for(work.ended.wait(), 5)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_leader_that_is_stopped_ends_its_work_and_then_releases_the_lease(
    cluster: FakeCluster,
) -> None:
    work = Work()
    running = asyncio.create_task(quick(cluster, "first").run(work))
    await asyncio.wait_for(work.began.wait(), 5)
    cluster.before_write = lambda request: None if work.ended.is_set() else pytest.fail(request)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert work.ended.is_set()
    assert "holderIdentity" not in lease(cluster)


async def test_work_that_fails_ends_the_election_with_its_error(cluster: FakeCluster) -> None:
    async def fail() -> None:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        await asyncio.wait_for(quick(cluster, "first").run(fail), 5)
    assert "holderIdentity" not in lease(cluster)
