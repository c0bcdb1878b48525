"""Deadlines of one length, on a clock that the test turns."""

import heapq
import itertools
from collections.abc import Callable

import pytest

from mcpproxy.proxy.timers import Timer, TimerQueue


class Clock:
    """A loop's clock and timers."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[tuple[float, int, Callable[[], object]]] = []
        self.failures: list[Exception] = []
        self._numbers = itertools.count()

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], object], /) -> object:
        heapq.heappush(self.timers, (when, next(self._numbers), callback))
        return None

    def turn(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while self.timers and self.timers[0][0] <= end:
            when, _, callback = heapq.heappop(self.timers)
            self.now = max(self.now, when)
            try:
                callback()
            except ArithmeticError as error:
                self.failures.append(error)
        self.now = end


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def deadlines(clock: Clock) -> TimerQueue:
    return TimerQueue(clock, 10.0)


@pytest.fixture
def ended() -> list[str]:
    return []


def _start(deadlines: TimerQueue, ended: list[str], name: str) -> Timer:
    return deadlines.start(lambda: ended.append(name))


def test_each_timer_expires_after_its_time(
    clock: Clock, deadlines: TimerQueue, ended: list[str]
) -> None:
    _start(deadlines, ended, "a")
    clock.turn(4)
    _start(deadlines, ended, "b")
    clock.turn(5.9)
    assert ended == []
    clock.turn(0.1)
    assert ended == ["a"]
    clock.turn(3.9)
    assert ended == ["a"]
    clock.turn(0.1)
    assert ended == ["a", "b"]
    assert not deadlines.running


def test_a_timer_that_is_cancelled_does_not_expire(
    clock: Clock, deadlines: TimerQueue, ended: list[str]
) -> None:
    met = _start(deadlines, ended, "a")
    _start(deadlines, ended, "b")
    met.cancel()
    met.cancel()
    clock.turn(20)
    assert ended == ["b"]
    assert not met.missed


def test_restarting_a_timer_gives_it_the_whole_time_again(
    clock: Clock, deadlines: TimerQueue, ended: list[str]
) -> None:
    restarted = _start(deadlines, ended, "a")
    _start(deadlines, ended, "b")
    clock.turn(9)
    restarted.restart()
    clock.turn(9)
    assert ended == ["b"]
    clock.turn(1)
    assert ended == ["b", "a"]


def test_restarting_a_cancelled_timer_starts_it_again(
    clock: Clock, deadlines: TimerQueue, ended: list[str]
) -> None:
    result = _start(deadlines, ended, "a")
    result.cancel()
    clock.turn(30)
    result.restart()
    clock.turn(9)
    assert ended == []
    clock.turn(1)
    assert ended == ["a"]


def test_a_missed_timeout_stays_missed(
    clock: Clock, deadlines: TimerQueue, ended: list[str]
) -> None:
    result = _start(deadlines, ended, "a")
    clock.turn(10)
    assert result.missed
    result.restart()
    clock.turn(30)
    assert ended == ["a"]


def test_many_waiters_share_one_timer(
    clock: Clock, deadlines: TimerQueue, ended: list[str]
) -> None:
    results = [_start(deadlines, ended, str(number)) for number in range(100)]
    for item in results:
        item.restart()
    assert len(clock.timers) == 1
    for item in results:
        item.cancel()
    clock.turn(10)
    assert clock.timers == []
    _start(deadlines, ended, "later")
    clock.turn(10)
    assert ended == ["later"]


def test_an_expired_timer_may_start_another(clock: Clock, deadlines: TimerQueue) -> None:
    ended: list[float] = []

    def again() -> None:
        ended.append(clock.now)
        deadlines.start(again)

    deadlines.start(again)
    clock.turn(35)
    assert ended == [10, 20, 30]


def test_a_timer_that_fails_does_not_keep_others_from_expiring(
    clock: Clock, deadlines: TimerQueue, ended: list[str]
) -> None:
    deadlines.start(lambda: 1 // 0)
    _start(deadlines, ended, "same time")
    clock.turn(5)
    _start(deadlines, ended, "later")
    clock.turn(10)
    _start(deadlines, ended, "after")
    clock.turn(10)
    assert ended == ["same time", "later", "after"]
    assert len(clock.failures) == 1


class _Overdue:
    """An object with a timer of its own."""

    def __init__(self, ended: list[str]) -> None:
        self._ended = ended

    def expire(self) -> None:
        self._ended.append("overdue")


def test_an_entry_that_is_added_without_a_call_expires_in_its_turn(
    clock: Clock, deadlines: TimerQueue, ended: list[str]
) -> None:
    assert not deadlines.ticking
    deadlines.running[_Overdue(ended)] = due = clock.time() + deadlines.seconds
    deadlines.tick_at(due)
    clock.turn(1)
    _start(deadlines, ended, "later")
    clock.turn(9)
    assert (ended, deadlines.ticking) == (["overdue"], True)
    clock.turn(1)
    assert (ended, deadlines.ticking) == (["overdue", "later"], False)
