"""A worker goes on, whatever a pass does."""

import asyncio

import pytest

from mcpproxy.cluster.errors import Conflict, InvalidFields, Unavailable
from mcpproxy.cluster.resources import ProxyKey
from mcpproxy.cluster.write_pace import BUSY, NEWEST, ResponseTimes
from mcpproxy.controller.work_queue import WorkQueue
from mcpproxy.controller.worker import Result, run_worker
from tests.reconcile.clock import FakeClock

KEY = ProxyKey("team", "tools")


class Passes:
    """Counts what was recorded."""

    def __init__(self) -> None:
        self.results: list[Result] = []
        self.more = asyncio.Event()

    def passed(self, result: Result, seconds: float) -> None:
        """One pass ended."""
        self.results.append(result)
        self.more.set()


async def run_one(
    outcome: float | Exception | None,
) -> tuple[list[Result], WorkQueue[ProxyKey], FakeClock]:
    """Let one pass end like this."""
    clock = FakeClock()
    queue: WorkQueue[ProxyKey] = WorkQueue(clock)
    passes = Passes()

    async def reconcile(_: ProxyKey) -> float | None:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    worker = asyncio.create_task(run_worker(queue, reconcile, passes, clock.time))
    queue.add(KEY)
    await asyncio.wait_for(passes.more.wait(), 5)
    worker.cancel()
    return passes.results, queue, clock


@pytest.mark.parametrize(
    ("outcome", "result"),
    [
        (None, "ok"),
        (Conflict("changed"), "conflict"),
        (Unavailable("no"), "error"),
        (RuntimeError("a bug"), "error"),
    ],
)
async def test_only_a_failed_pass_is_retried(outcome: Exception | None, result: Result) -> None:
    results, queue, clock = await run_one(outcome)
    assert results == [result]
    clock.advance(1)
    assert len(queue) == (0 if outcome is None else 1)


async def test_fields_that_validation_refuses_are_tried_again_less_and_less_often() -> None:
    """Only a change of the spec helps, which causes a pass at once."""
    clock, passes = FakeClock(), Passes()
    queue: WorkQueue[ProxyKey] = WorkQueue(clock)

    async def reconcile(_: ProxyKey) -> float | None:
        raise InvalidFields("no")

    worker = asyncio.create_task(run_worker(queue, reconcile, passes, clock.time))
    queue.add(KEY)
    for _ in range(600):
        clock.advance(1)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    worker.cancel()
    assert set(passes.results) == {"refused"}
    assert 10 < len(passes.results) < 20


async def test_a_reconciliation_can_schedule_another_one() -> None:
    _, queue, clock = await run_one(15.0)
    clock.advance(14)
    assert len(queue) == 0
    clock.advance(1)
    assert len(queue) == 1


async def test_a_pass_that_hangs_delays_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcpproxy.controller.worker.SLOW", 0.0)
    queue: WorkQueue[ProxyKey] = WorkQueue(FakeClock())
    passes, release = Passes(), asyncio.Event()
    slow = [ProxyKey("team", f"slow-{number}") for number in range(10)]

    async def reconcile(key: ProxyKey) -> float | None:
        if key in slow:
            await release.wait()
        return None

    worker = asyncio.create_task(run_worker(queue, reconcile, passes, FakeClock().time))
    for key in [*slow, KEY]:
        queue.add(key)
    await asyncio.wait_for(passes.more.wait(), 5)
    assert passes.results == ["ok"]
    worker.cancel()
    await asyncio.gather(worker, return_exceptions=True)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_passes_do_not_pile_up_at_a_busy_api_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcpproxy.controller.worker.SLOW", 0.0)
    queue: WorkQueue[ProxyKey] = WorkQueue(clock := FakeClock())
    passes, release = Passes(), asyncio.Event()
    begun: asyncio.Queue[ProxyKey] = asyncio.Queue()
    keys = [ProxyKey("team", f"slow-{number}") for number in range(3)]
    times = ResponseTimes(clock.time)
    for _ in range(NEWEST):
        times.record("Service", BUSY)

    async def reconcile(key: ProxyKey) -> float | None:
        begun.put_nowait(key)
        await release.wait()
        return None

    parts = (queue, reconcile, passes, clock.time, None, times.is_busy)
    worker = asyncio.create_task(run_worker(*parts))
    for key in keys:
        queue.add(key)
    assert await begun.get() == keys[0]
    for _ in range(20):
        await asyncio.sleep(0)
    assert begun.empty()
    for _ in range(NEWEST):
        times.record("Service", BUSY / 10)
    release.set()
    assert [await begun.get() for _ in keys[1:]] == keys[1:]
    worker.cancel()
    await asyncio.gather(worker, return_exceptions=True)


async def test_workers_log_the_same_failure_of_one_mcpproxy_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    queue: WorkQueue[ProxyKey] = WorkQueue(clock := FakeClock())
    passes, logged = Passes(), dict[ProxyKey, str]()

    async def reconcile(_: ProxyKey) -> float | None:
        raise Unavailable("no answer")

    parts = (queue, reconcile, passes, clock.time, logged)
    workers = [asyncio.create_task(run_worker(*parts)) for _ in range(3)]
    for number in range(6):
        passes.more.clear()
        queue.add(KEY)
        await asyncio.wait_for(passes.more.wait(), 5)
        assert len(passes.results) == number + 1
    for worker in workers:
        worker.cancel()
    assert [record.levelname for record in caplog.records].count("WARNING") == 1
