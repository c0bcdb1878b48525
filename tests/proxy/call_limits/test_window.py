"""A window admits as many calls as its rate says, and no more."""

from hypothesis import given, settings
from hypothesis import strategies as st

from mcpproxy.proxy.call_limits.window import GRAINS, MAX_HISTORY, CallWindow, Rate
from tests.support.examples import examples

GAPS = st.lists(st.floats(0.0, 5.0), min_size=1, max_size=200)
RATES = st.builds(
    lambda calls, period, burst: Rate(calls, period, min(burst, calls)),
    st.integers(1, 30),
    st.floats(1.0, 60.0),
    st.integers(0, 30),
)


def _taken(window: CallWindow, gaps: list[float]) -> list[float]:
    """The times at which calls with these gaps between them are admitted."""
    now, taken = 100.0, []
    for gap in gaps:
        now += gap
        if window.available(1, now):
            window.book(1, now)
            taken.append(now)
    return taken


@given(RATES, GAPS)
@settings(max_examples=examples(300), deadline=None)
def test_no_period_has_more_calls_than_its_rate_allows(rate: Rate, gaps: list[float]) -> None:
    taken = _taken(CallWindow(rate), gaps)
    most = rate.calls + rate.burst
    for last in taken:
        within = [at for at in taken if last - rate.period < at <= last]
        assert len(within) <= most


@given(st.integers(1, 30), st.floats(1.0, 60.0), st.integers(1, 30), GAPS)
@settings(max_examples=examples(200), deadline=None)
def test_calls_after_a_burst_are_spread_evenly(
    calls: int, period: float, burst: int, gaps: list[float]
) -> None:
    taken = _taken(CallWindow(Rate(calls, period, min(burst, calls))), gaps)
    for first, start in enumerate(taken):
        for last in range(first, len(taken)):
            most = min(burst, calls) + (taken[last] - start) * calls / period
            assert last - first + 1 <= most + 1e-3


@given(RATES, GAPS)
@settings(max_examples=examples(200), deadline=None)
def test_a_call_is_admitted_after_the_wait_and_not_before(rate: Rate, gaps: list[float]) -> None:
    window = CallWindow(rate)
    now = _taken(window, gaps)[-1]
    while window.available(1, now):
        window.book(1, now)
    wait = window.wait(1, now)
    assert wait > 0
    assert not window.available(1, now + wait * 0.99 - 1e-3)
    assert window.available(1, now + wait + 1e-3)


def test_a_window_keeps_a_bounded_number_of_entries() -> None:
    window, now = CallWindow(Rate(1_000_000, 10.0, 0)), 0.0
    for _ in range(20_000):
        now += 0.001
        assert window.available(1, now)
        window.book(1, now)
    assert len(window._entries) <= GRAINS + 2
    assert len(window.history(now)) <= MAX_HISTORY


def test_calls_that_are_given_back_are_available_again() -> None:
    window = CallWindow(Rate(10, 60.0, 0))
    window.book(10, 5.0)
    window.give_back(4, 5.0)
    assert window.available(10, 6.0) == 4
    window.give_back(100, 5.0)
    assert window.available(100, 6.0) == 10


def test_more_than_was_counted_cannot_be_given_back() -> None:
    window = CallWindow(Rate(10, 60.0, 5))
    window.book(2, 5.0)
    window.give_back(1000, 5.0)
    window.give_back(1000, 99.0)
    assert window.available(1000, 5.0) == 5


@given(GAPS)
@settings(max_examples=examples(100), deadline=None)
def test_a_window_that_adopts_a_history_admits_no_more_than_the_one_it_is_of(
    gaps: list[float],
) -> None:
    rate = Rate(20, 30.0, 0)
    first, second = CallWindow(rate), CallWindow(rate)
    now = _taken(first, gaps)[-1]
    second.adopt(first.history(now), now)
    for later in range(40):
        assert second.available(20, now + later) <= first.available(20, now + later)
    assert second.total == first.total
