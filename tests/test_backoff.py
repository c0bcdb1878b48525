"""Delays between attempts."""

from mcpproxy.backoff import Backoff
from mcpproxy.proxy.workers.worker_process import FIRST, LONGEST


def test_the_delay_doubles_with_each_failure_up_to_the_maximum() -> None:
    backoff = Backoff(FIRST, LONGEST)
    delays = [backoff.record_failure() for _ in range(2000)]
    assert [round(delay, 1) for delay in delays[:4]] == [0.1, 0.2, 0.4, 0.8]
    assert delays[8] < LONGEST == delays[9] == delays[-1] == backoff.next_delay


def test_a_reset_starts_again_with_the_first_delay_and_allows_an_attempt() -> None:
    backoff = Backoff(2.0, 60.0)
    backoff.record_failure(100.0)
    backoff.record_failure(103.0)
    assert backoff.is_waiting(106.9)
    assert not backoff.is_waiting(107.0)
    backoff.reset()
    assert not backoff.is_waiting(103.0)
    assert (backoff.failures, backoff.delay, backoff.next_delay) == (0, 0.0, 2.0)
    assert backoff.record_failure(103.0) == 2.0


def test_jitter_changes_one_delay_and_not_the_sequence() -> None:
    factors = iter((1.5, 0.5, 1.0))
    backoff = Backoff(1.0, 60.0, lambda: next(factors))
    assert [backoff.record_failure() for _ in range(3)] == [1.5, 1.0, 4.0]


def test_a_minimum_raises_the_first_delay_and_not_the_maximum() -> None:
    backoff = Backoff(2.0, 30.0)
    assert [backoff.record_failure(least=10.0) for _ in range(3)] == [10.0, 20.0, 30.0]
