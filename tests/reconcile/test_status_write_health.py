"""Probes and metrics show that statuses can't be written."""

import asyncio

import pytest

from mcpproxy.cluster.errors import Forbidden, Invalid, ObjectTooLarge, Unavailable
from mcpproxy.cluster.resources import ProxyKey
from mcpproxy.reconcile.status_updates.status_write_health import (
    PATIENCE,
    SLOW,
    StatusWriteHealth,
    await_writes,
)
from tests.reconcile.clock import FakeClock
from tests.reconcile.stage import Stage


async def test_writes_that_are_answered_one_after_the_other_are_not_slow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    health = "mcpproxy.reconcile.status_updates.status_write_health"
    monkeypatch.setattr(f"{health}.SLOW_WRITES", 0.0)
    answered, reports = 0, list[int]()

    async def writes() -> str:
        nonlocal answered
        for _ in range(5):
            answered += 1
            await asyncio.sleep(0)
        await reported.wait()
        return "written"

    async def report() -> None:
        reports.append(answered)
        reported.set()

    reported = asyncio.Event()
    assert await await_writes(writes(), lambda: answered, report) == ("written", True)
    assert reports == [5]


A, B = ProxyKey("team", "a"), ProxyKey("team", "b")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def writes(clock: FakeClock) -> StatusWriteHealth:
    return StatusWriteHealth(clock.now)


def test_statuses_that_fail_for_a_while_are_a_problem(
    writes: StatusWriteHealth, clock: FakeClock
) -> None:
    writes.written(A)
    clock.advance(1)
    writes.failed(A, Forbidden("cannot patch"))
    assert writes.problem() is None
    clock.advance(PATIENCE)
    assert writes.problem() == "cannot write the status of 1 MCPProxies: cannot patch"


def test_one_status_that_fails_beside_others_is_counted_and_no_problem(
    writes: StatusWriteHealth, clock: FakeClock
) -> None:
    writes.failed(A, Forbidden("cannot patch"))
    clock.advance(2 * PATIENCE)
    writes.written(B)
    assert writes.problem() is None
    assert len(writes) == 1


def test_refused_statuses_in_one_namespace_do_not_make_the_operator_unready(
    writes: StatusWriteHealth, clock: FakeClock
) -> None:
    for key in (A, B):
        writes.failed(key, ObjectTooLarge("etcdserver: request is too large"))
    clock.advance(2 * PATIENCE)
    assert writes.problem() is None
    assert len(writes) == 2
    writes.failed(ProxyKey("other", "c"), Invalid("a webhook denied the request"))
    clock.advance(2 * PATIENCE)
    assert writes.problem() is not None


def test_a_write_that_hangs_counts_as_one_that_fails_until_it_ends(
    writes: StatusWriteHealth, clock: FakeClock
) -> None:
    with writes.writing(A):
        assert len(writes) == 0
        clock.advance(SLOW)
        assert len(writes) == 1
        writes.failed(A, Unavailable("no answer in 15 s"))
        assert len(writes) == 1
    assert len(writes) == 1
    writes.written(A)
    assert len(writes) == 0


@pytest.mark.parametrize("end", [StatusWriteHealth.written, StatusWriteHealth.unchanged])
def test_a_status_that_is_written_or_obsolete_is_not_a_failure(
    writes: StatusWriteHealth, clock: FakeClock, end: object
) -> None:
    writes.failed(A, Forbidden("cannot patch"))
    clock.advance(2 * PATIENCE)
    assert callable(end)
    end(writes, A)
    assert writes.problem() is None
    assert len(writes) == 0


async def test_a_pass_notes_a_status_that_is_refused(stage: Stage) -> None:
    def refuse(request: str) -> None:
        if request == "status MCPProxy":
            raise Unavailable("no")

    stage.cluster.before_write = refuse
    stage.user_applies()
    with pytest.raises(Unavailable):
        await stage.reconcile()
    assert len(stage.statuses) == 1
    stage.cluster.before_write = lambda request: None
    await stage.reconcile()
    assert len(stage.statuses) == 0


async def test_a_pass_notes_an_mcpproxy_that_cannot_be_read(stage: Stage) -> None:
    await stage.is_running()
    stage.cluster.unreadable["MCPProxy"] = Forbidden("cannot get")
    with pytest.raises(Forbidden):
        await stage.reconcile()
    assert len(stage.statuses) == 1
