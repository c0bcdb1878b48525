"""Leases of an instance that counts alone: few of them, and no more calls than the rule allows."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpproxy.api.v1alpha1 import LimitRule
from mcpproxy.proxy.call_limits.account import SubjectAccount
from mcpproxy.proxy.call_limits.rules import CompiledRule
from mcpproxy.proxy.call_limits.store import Lease, LeaseRequest, SubjectKey
from mcpproxy.proxy.call_limits.window import GRAINS, Rate
from mcpproxy.proxy.call_limits.window_table import LocalStore, WindowTable
from tests.support.examples import examples

PERIOD = 10.0


class CountingStore(LocalStore):
    """Store that counts the leases that it grants."""

    leases = 0

    def lease_at_once(self, request: LeaseRequest, now: float) -> Lease:
        self.leases += 1
        return super().lease_at_once(request, now)


class Alone:
    """One subject of an instance that counts alone, with its own clock."""

    def __init__(self, calls: int, burst: int | None = None) -> None:
        spec = LimitRule(name="each", calls=calls, window=f"{PERIOD:.0f}s", burst=burst)
        rule = CompiledRule(spec)
        assert rule.rate is not None
        self.now = 1000.0
        self.admitted: list[float] = []
        self._store = CountingStore(lambda: self.now)
        key = SubjectKey(rule.id, "alice")
        self.account = SubjectAccount(
            *(rule, rule.rate, key, self._store, lambda: self.now), allows_on_failure=True
        )

    @property
    def leases(self) -> int:
        """Number of leases."""
        return self._store.leases

    def call(self, count: int, apart: float) -> None:
        for _ in range(count):
            self.now += apart
            if self.account.take(self.now) == 0.0:
                self.admitted.append(self.now)

    def most(self) -> int:
        """Return the most calls that were admitted within one period."""
        first, most = 0, 0
        for last, at in enumerate(self.admitted):
            while self.admitted[first] <= at - PERIOD:
                first += 1
            most = max(most, last - first + 1)
        return most


_PACES = st.sampled_from([0.0001, 0.001, 0.004, 0.02, 0.077, 0.08, 0.3, 2.0])


@settings(max_examples=examples(300))
@given(
    st.sampled_from([2, 7, 40, 400]),
    st.lists(st.tuples(st.integers(1, 300), _PACES, st.floats(0, 12)), min_size=1, max_size=8),
)
def test_no_period_has_more_calls_than_the_rule_whatever_their_pace(
    calls: int, phases: list[tuple[int, float, float]]
) -> None:
    alone = Alone(calls)
    for count, apart, pause in phases:
        alone.call(count, apart)
        alone.now += pause
        alone.account.collect(alone.now)
    assert alone.most() <= calls


def test_calls_beyond_the_rule_are_admitted_at_its_rate_and_never_above() -> None:
    alone, periods = Alone(400), 10
    alone.call(3 * 400 * periods, PERIOD / (3 * 400))
    assert alone.most() == 400
    assert 0.98 * 400 * periods <= len(alone.admitted) <= 400 * periods


@pytest.mark.parametrize("late", range(0, 300, 10))
def test_calls_of_a_lease_count_until_the_last_of_them_is_old(late: int) -> None:
    alone = Alone(400)
    began = alone.now
    alone.call(120, 1 / 120)
    assert alone.leases < 60, "calls are admitted in advance"
    alone.call(400, 0.0001)
    alone.now = began + PERIOD + late / 1000
    alone.call(100, 0.00001)
    assert alone.most() <= 400


def test_frequent_calls_need_few_leases() -> None:
    alone = Alone(1_000_000)
    alone.call(20_000, 0.0001)
    assert len(alone.admitted) == 20_000
    assert alone.leases < 100


def test_a_whole_period_of_calls_is_admitted_at_once() -> None:
    alone = Alone(500)
    alone.call(600, 0.001)
    assert len(alone.admitted) == 500


def test_calls_that_were_not_made_are_given_back() -> None:
    alone = Alone(400)
    alone.call(100, 0.001)
    alone.now += PERIOD / GRAINS
    alone.account.collect(alone.now)
    alone.call(400, 0.001)
    assert len(alone.admitted) == 400


def test_rules_with_a_burst_lease_each_call() -> None:
    table = WindowTable("")
    request = LeaseRequest(SubjectKey("each", "alice"), Rate(1000, PERIOD, 100), 50, ())
    assert table.lease_alone(request, 1.0).count == 1
