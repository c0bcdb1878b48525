"""Rules admit calls: which ones they count, and how many are in flight."""

import asyncio
import gc
from dataclasses import replace
from typing import Any

import pytest

from mcpproxy.limits import clients
from mcpproxy.proxy.call_limits import call_limits as module
from mcpproxy.proxy.call_limits.call_limits import CallLimits
from mcpproxy.proxy.call_limits.rules import KEPT
from mcpproxy.proxy.call_limits.window_table import LocalStore
from mcpproxy.proxy.core.access import CallLimitExceeded
from tests.proxy.call_limits.crowd import (
    Clock,
    a_client,
    a_request,
    a_rule,
    admitted,
    call_limits,
)


def _limits(*rules: Any, clock: Clock | None = None) -> CallLimits:
    clock = clock or Clock()
    return call_limits(LocalStore(clock), clock, *rules)


async def _count(limits: CallLimits, times: int, **about: Any) -> int:
    """Return the number of these calls that are admitted."""
    permits = [await admitted(limits, **about) for _ in range(times)]
    return sum(permit is not None for permit in permits)


async def test_a_rule_counts_each_principal_by_itself() -> None:
    limits = _limits(a_rule(calls=3, window="1m"))
    assert await _count(limits, 5, principal="alice") == 3
    assert await _count(limits, 5, principal="bob") == 3


async def test_a_rule_for_the_proxy_counts_all_callers_together() -> None:
    limits = _limits(a_rule(calls=3, window="1m", per="Proxy"))
    assert await _count(limits, 2, principal="alice") == 2
    assert await _count(limits, 5, principal="bob", backend="q") == 1


async def test_a_rule_for_backends_counts_each_backend_by_itself() -> None:
    limits = _limits(a_rule(calls=3, window="1m", per="Backend"))
    assert await _count(limits, 5, backend="p") == 3
    assert await _count(limits, 5, backend="q", principal="bob") == 3


async def test_a_rule_with_patterns_counts_only_tools_that_match() -> None:
    limits = _limits(a_rule(calls=2, window="1m", tools=["p_search_*"]))
    assert await _count(limits, 4, target="p_search_all") == 2
    assert await _count(limits, 4, target="p_search_") == 0
    assert await _count(limits, 50, target="p_echo") == 50
    permit = limits.admit_at_once(a_request("p_search_all", "resources/read"), "p", a_client())
    assert permit is not None, "a resource with the name of a tool is no tool"


async def test_a_call_refused_by_one_rule_does_not_count_against_another() -> None:
    clock = Clock()
    limits = _limits(
        a_rule("all", calls=10, window="1m"),
        a_rule("costly", calls=2, window="1m", tools=["p_costly"]),
        clock=clock,
    )
    assert await _count(limits, 6, target="p_costly") == 2
    assert await _count(limits, 20, target="p_echo") == 8


async def test_calls_in_flight_are_counted_until_each_of_them_ends() -> None:
    limits = _limits(a_rule(inFlight=2))
    permits = [await admitted(limits), await admitted(limits)]
    assert await admitted(limits) is None
    assert await admitted(limits, "bob") is not None
    for permit in permits:
        assert permit is not None
        permit.release()
        permit.release()
    assert await _count(limits, 3) == 2
    assert await admitted(limits) is not None


async def test_a_cancelled_call_stays_in_flight_for_a_bounded_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop, later = asyncio.get_running_loop(), []
    monkeypatch.setattr(loop, "call_later", lambda delay, end: later.append((delay, end)))
    limits = _limits(a_rule(inFlight=1))
    permit = await admitted(limits)
    assert permit is not None
    permit.release(is_cancelled=True)
    permit.release()
    del permit
    gc.collect()
    assert await admitted(limits) is None
    ((delay, end),) = later
    assert 0 < delay <= 60
    end()
    assert await admitted(limits) is not None


async def test_a_permit_that_is_garbage_collected_frees_its_slot() -> None:
    limits = _limits(a_rule(inFlight=1))
    permit = await admitted(limits)
    assert await admitted(limits) is None
    del permit
    gc.collect()
    assert await admitted(limits) is not None
    assert not limits.running


async def test_calls_admitted_at_once_end_one_by_one() -> None:
    limits = _limits(a_rule(inFlight=3))
    permits = [limits.admit_at_once(a_request(), "p", a_client()) for _ in range(3)]
    for running, permit in zip((2, 1, 0), permits, strict=True):
        assert permit is not None
        permit.release()
        assert sum(limits.running.values()) == running
    assert await _count(limits, 5) == 3


async def test_a_call_ends_in_the_slots_in_which_it_began() -> None:
    limits = _limits(a_rule(inFlight=1))
    for _ in range(3):
        # Without a call, the slots are given up, and new ones take their place.
        permit = limits.admit_at_once(a_request(), "p", a_client())
        assert permit is not None
        assert await admitted(limits) is None
        permit.release()
        limits.sweep()
        assert not limits._slots


async def test_a_subject_that_was_forgotten_is_counted_by_its_new_account(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "COUNTED_SUBJECTS", replace(clients.COUNTED_SUBJECTS, value=2))
    limits = _limits(a_rule(calls=30, window="1m"))
    (accounts,) = limits._accounts.values()
    count = 0
    for number in range(200):
        count += await _count(limits, 1)
        await admitted(limits, f"p{number}")
        await admitted(limits, f"q{number}")
        assert len(accounts) <= 2
    assert count == 30


async def test_a_call_beyond_its_rate_is_not_in_flight() -> None:
    limits = _limits(a_rule(calls=1, window="1m", inFlight=5))
    permit = await admitted(limits)
    assert await _count(limits, 10) == 0
    assert list(limits.running.values()) == [1]
    assert permit is not None


async def test_the_error_names_the_rule_and_the_time_to_wait() -> None:
    clock = Clock()
    limits = _limits(a_rule("team", calls=2, window="30s"), clock=clock)
    assert await _count(limits, 2) == 2
    clock.now += 10.0
    with pytest.raises(CallLimitExceeded, match=r"rule team of spec\.limits allows 2 calls") as e:
        await limits.admit(a_request(), "p", a_client())
    assert e.value.code == -32000
    assert e.value.data["limit"] == "team"
    assert 19_000 < e.value.data["retryAfterMs"] <= 20_000
    assert e.value.retry_after == 20
    clock.now += e.value.data["retryAfterMs"] / 1000
    assert await admitted(limits) is not None
    assert limits.limited == {"team": 1}


async def test_subjects_beyond_the_limit_are_forgotten_rule_by_rule(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limit = replace(clients.COUNTED_SUBJECTS, value=8)
    monkeypatch.setattr(module, "COUNTED_SUBJECTS", limit)
    limits = _limits(
        a_rule("each", calls=1, window="1m", tools=["p_a"]),
        a_rule("other", calls=1, window="1m", tools=["p_b"]),
    )
    await admitted(limits, "alice", "p_b")
    for number in range(100):
        await admitted(limits, f"p{number}", "p_a")
    assert limit.reached > 0
    assert [len(accounts) for accounts in limits._accounts.values()] == [4, 1]
    assert await admitted(limits, "alice", "p_b") is None, "the other rule has its own share"


async def test_a_subject_that_keeps_calling_is_not_forgotten_for_those_that_call_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "COUNTED_SUBJECTS", replace(clients.COUNTED_SUBJECTS, value=8))
    limits = _limits(a_rule(calls=100, window="1m"))
    await admitted(limits, "alice")
    (accounts,) = limits._accounts.values()
    (kept,) = accounts.values()
    for number in range(100):
        await admitted(limits, f"p{number}")
        await admitted(limits, "alice")
    assert kept in accounts.values()
    assert len(accounts) == 8


async def test_names_that_clients_invent_take_bounded_room() -> None:
    limits = _limits(a_rule(calls=1_000_000, window="1m", tools=["p_*", "*?x*"]))
    for number in range(3 * KEPT):
        await admitted(limits, target=f"p_{number}")
    await admitted(limits, target="p_" + "x" * 100_000)
    assert len(limits.rules.known) <= KEPT
    assert sum(len(name) for _, name, *_ in limits.rules.known) < KEPT * 20


async def test_a_rule_that_matches_no_tool_is_named() -> None:
    limits = _limits(
        a_rule("used", calls=1, window="1m", tools=["p_*"]),
        a_rule("unused", calls=1, window="1m", tools=["q_*"]),
        a_rule("every", inFlight=5),
    )
    assert limits.unused(["p_echo"]) == ["unused"]


async def test_without_instances_a_single_call_costs_no_message_and_no_task() -> None:
    limits = _limits(a_rule(calls=600, window="1m"))
    assert limits.admit_at_once(a_request(), "p", a_client()) is not None
