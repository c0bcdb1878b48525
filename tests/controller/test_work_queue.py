"""A key waits once, is worked on by one worker at a time, and backs off."""

import asyncio

import pytest

from mcpproxy.controller.work_queue import LAST_RETRY, LASTING_RETRY, PATIENCE, WorkQueue
from tests.reconcile.clock import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def queue(clock: FakeClock) -> WorkQueue[str]:
    return WorkQueue(clock)


async def taken(queue: WorkQueue[str]) -> list[str]:
    """The keys that workers get now, none of them finished."""
    actual: list[str] = []
    while True:
        getting = asyncio.ensure_future(queue.get())
        await asyncio.wait([getting], timeout=0)
        if not getting.done():
            getting.cancel()
            return actual
        actual.append(getting.result())


async def test_a_key_that_is_added_twice_is_processed_once(queue: WorkQueue[str]) -> None:
    queue.add("a")
    queue.add("b")
    queue.add("a")
    assert len(queue) == 2
    assert await taken(queue) == ["a", "b"]


async def test_a_key_that_is_added_during_its_pass_is_processed_again_afterwards(
    queue: WorkQueue[str],
) -> None:
    queue.add("a")
    assert await taken(queue) == ["a"]
    queue.add("a")
    queue.add("a")
    assert await taken(queue) == []
    queue.done("a")
    assert await taken(queue) == ["a"]
    queue.done("a")
    assert await taken(queue) == []


async def test_a_worker_that_waits_gets_a_key_as_soon_as_it_is_added(
    queue: WorkQueue[str],
) -> None:
    waiting = asyncio.ensure_future(queue.get())
    await asyncio.wait([waiting], timeout=0)
    queue.add("a")
    assert await waiting == "a"


async def test_a_delayed_key_is_processed_after_its_delay(
    queue: WorkQueue[str], clock: FakeClock
) -> None:
    queue.add_after("a", 5)
    clock.advance(4.9)
    assert await taken(queue) == []
    clock.advance(0.1)
    assert await taken(queue) == ["a"]


async def test_keys_without_delay_come_first(queue: WorkQueue[str], clock: FakeClock) -> None:
    for key in ("a", "b", "c"):
        queue.add_after(key, 1)
    clock.advance(1)
    queue.add("d")
    queue.add("b")
    assert len(queue) == 4
    assert await taken(queue) == ["d", "b", "a", "c"]
    assert len(queue) == 0


async def test_a_delayed_key_waits_for_others_no_longer_than_its_patience(
    queue: WorkQueue[str], clock: FakeClock
) -> None:
    queue.add_after("a", 1)
    clock.advance(1)
    clock.advance(PATIENCE - 1)
    queue.add("b")
    clock.advance(2)
    queue.add("c")
    assert await taken(queue) == ["b", "a", "c"]


async def test_a_key_that_became_urgent_during_its_pass_comes_first_afterwards(
    queue: WorkQueue[str], clock: FakeClock
) -> None:
    queue.add_after("a", 1)
    queue.add_after("b", 1)
    clock.advance(1)
    assert await queue.get() == "a"
    queue.add("a")
    queue.done("a")
    assert await taken(queue) == ["a", "b"]


async def test_a_key_with_several_delays_is_processed_once_after_the_shortest(
    queue: WorkQueue[str], clock: FakeClock
) -> None:
    queue.add_after("a", 60)
    queue.add_after("a", 1)
    queue.add_after("a", 30)
    clock.advance(1)
    assert await taken(queue) == ["a"]
    queue.done("a")
    clock.advance(100)
    assert await taken(queue) == []


@pytest.mark.parametrize(("lasts", "longest"), [(False, LAST_RETRY), (True, LASTING_RETRY)])
async def test_retries_back_off_to_a_limit_until_the_key_is_forgotten(
    queue: WorkQueue[str], clock: FakeClock, lasts: bool, longest: float
) -> None:
    delays = []
    for _ in range(12):
        delays.append(queue.retry("a", lasts=lasts))
        clock.advance(delays[-1])
        assert await taken(queue) == ["a"]
        queue.done("a")
    assert delays[:4] == [0.5, 1.0, 2.0, 4.0]
    assert delays[-1] == longest
    # Another kind of failure says nothing about this one.
    assert queue.retry("a", lasts=not lasts) == 0.5
    queue.forget("a")
    assert queue.retry("a") == 0.5


async def test_a_change_does_not_wait_for_a_retry(queue: WorkQueue[str]) -> None:
    for _ in range(12):
        queue.retry("a", lasts=True)
    queue.add("a")
    assert await taken(queue) == ["a"]


async def test_retries_of_one_key_do_not_delay_another(queue: WorkQueue[str]) -> None:
    for _ in range(5):
        queue.retry("a")
    assert queue.retry("b") == 0.5


async def test_jitter_spreads_retries(clock: FakeClock) -> None:
    queue: WorkQueue[str] = WorkQueue(clock, jitter=lambda: 1.2)
    assert queue.retry("a") == pytest.approx(0.6)
