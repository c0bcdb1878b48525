"""A rate that several senders share."""

from mcpproxy.proxy.core.rate_limiter import SharedRate


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_pipelined_input_does_not_block() -> None:
    rate = SharedRate(100, 50, Clock())
    assert [rate.take(25), rate.take(25)] == [0.0, 0.0]


def test_senders_wait_one_behind_the_other() -> None:
    rate = SharedRate(100, 50, Clock())
    rate.take(50)
    assert [round(rate.take(10), 6) for _ in range(3)] == [0.1, 0.2, 0.3]


def test_a_pause_admits_no_more_calls_than_the_burst() -> None:
    clock = Clock()
    rate = SharedRate(100, 50, clock)
    rate.take(1000)
    clock.now += 3600
    assert rate.take(50) == 0.0
    assert round(rate.take(1), 6) == 0.01
