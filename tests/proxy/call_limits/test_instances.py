"""Instances that count calls together admit no more than one would, with few messages."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from mcpproxy.limits import instances as limits_of_instances
from mcpproxy.proxy.call_limits.instances import owner_store, peers
from mcpproxy.proxy.call_limits.rule_set import RuleSet
from mcpproxy.proxy.call_limits.window import LEASES
from tests.proxy.call_limits.crowd import (
    LEASE,
    PER_MINUTE,
    Crowd,
    a_client,
    a_rule,
    admitted,
)

MINUTES = 10


@dataclass
class Traffic:
    """Results of calls at three times the limit."""

    times: list[float]
    offered: int

    @property
    def most(self) -> int:
        """The most calls that were admitted within one period."""
        most = first = 0
        for last, at in enumerate(self.times):
            while self.times[first] <= at - 60.0:
                first += 1
            most = max(most, last - first + 1)
        return most


async def flooded(
    crowd: Crowd,
    minutes: float = MINUTES,
    then: Callable[[], Any] | None = None,
    after: float = 0.0,
    rate: float = 30.0,
) -> Traffic:
    """Call at all instances in turn, three times as often as the rule allows."""
    start, number, times = crowd.clock.now, 0, []
    while crowd.clock.now < start + minutes * 60:
        if then is not None and crowd.clock.now - start >= after:
            await then()
            then = None
        address = crowd.addresses[number % len(crowd.addresses)]
        permit = await admitted(crowd.limits[address])
        if permit is not None:
            times.append(crowd.clock.now)
            permit.release()
        number += 1
        if number % 30 == 0:
            for limits in crowd.limits.values():
                limits.sweep()
        await asyncio.sleep(0)
        crowd.clock.now += 1 / rate
    await crowd.settle()
    return Traffic(times, number)


@pytest.mark.parametrize("burst", [None, 50])
@pytest.mark.parametrize("instances", [3, 10])
async def test_instances_admit_within_two_percent_of_a_rule(
    crowds: Callable[..., Any], instances: int, burst: int | None
) -> None:
    crowd = await crowds(instances, a_rule(calls=PER_MINUTE, window="1m", burst=burst))
    traffic = await flooded(crowd)
    allowed = PER_MINUTE * MINUTES
    assert abs(len(traffic.times) - allowed) <= allowed * 0.02
    assert traffic.most <= (PER_MINUTE + (burst or 0)) * 1.02
    assert crowd.counted_messages <= len(traffic.times) / 20


@pytest.mark.parametrize("instances", [3, 10])
async def test_leases_take_no_calls_away_from_traffic_below_the_rule(
    crowds: Callable[..., Any], instances: int
) -> None:
    crowd = await crowds(instances)
    traffic = await flooded(crowd, rate=PER_MINUTE / 60 * 0.8)
    assert len(traffic.times) == traffic.offered


async def test_a_small_rule_costs_a_bounded_number_of_messages_in_each_window(
    crowds: Callable[..., Any],
) -> None:
    crowd = await crowds(3, a_rule(calls=60, window="1m"))
    traffic = await flooded(crowd, rate=30.0)
    assert len(traffic.times) >= 60 * MINUTES * 0.98
    # Refused calls, of which there are thirty times more, cost none.
    assert crowd.counted_messages <= (LEASES + 3) * MINUTES


@pytest.mark.parametrize("after", [5.0, 17.0, 61.0, 130.0])
async def test_the_end_of_the_owner_admits_at_most_one_lease_more(
    crowds: Callable[..., Any], after: float
) -> None:
    crowd = await crowds(3)

    async def kill() -> None:
        await crowd.kill(crowd.owner())

    traffic = await flooded(crowd, 4, kill, after)
    assert traffic.most <= PER_MINUTE + LEASE
    assert len(traffic.times) <= PER_MINUTE * 4 + LEASE
    assert len(traffic.times) >= PER_MINUTE * 4 * 0.9


@pytest.mark.parametrize("asks_first", [0, 1])
async def test_the_successor_asks_all_instances_what_the_lost_owner_has_granted(
    crowds: Callable[..., Any], asks_first: int
) -> None:
    crowd = await crowds(4)
    owner, key = crowd.owner(), _key(crowd)
    members = crowd.store(owner).members
    assert members is not None
    others = set(crowd.addresses) - {owner, members.successor(key)}
    served, idle = sorted(others)
    for _ in range(PER_MINUTE):
        await admitted(crowd.limits[served])
    await crowd.settle()
    await crowd.kill(owner)
    asking = (idle, str(members.successor(key)))[asks_first]
    more = [await admitted(crowd.limits[asking]) for _ in range(PER_MINUTE)]
    assert sum(permit is not None for permit in more) <= LEASE


async def test_an_owner_that_served_all_calls_itself_is_succeeded_without_new_calls(
    crowds: Callable[..., Any],
) -> None:
    crowd = await crowds(3)
    owner = crowd.owner()
    for _ in range(PER_MINUTE):
        await admitted(crowd.limits[owner])
        await asyncio.sleep(0)
    await crowd.settle()
    await crowd.kill(owner)
    others = [crowd.limits[address] for address in crowd.addresses]
    more = [await admitted(limits) for limits in others for _ in range(PER_MINUTE)]
    assert sum(permit is not None for permit in more) <= LEASE


async def test_an_instance_that_ends_in_order_hands_over_what_it_has_counted(
    crowds: Callable[..., Any],
) -> None:
    crowd = await crowds(3)
    owner = crowd.owner()
    for _ in range(100):
        await admitted(crowd.limits[owner])
    await crowd.limits[owner].leave()
    await crowd.kill(owner)
    crowd.messages.clear()
    left = [crowd.limits[address] for address in crowd.addresses]
    more = [await admitted(limits) for limits in left for _ in range(PER_MINUTE)]
    assert sum(permit is not None for permit in more) <= PER_MINUTE - 100
    assert not [body for _, body in crowd.messages if b'"greet"' in body], "nobody searched for it"


async def test_an_instance_that_joins_learns_what_others_have_counted(
    crowds: Callable[..., Any],
) -> None:
    crowd = await crowds(1)
    principals = [f"p{number}" for number in range(20)]
    first = crowd.limits[crowd.addresses[0]]
    for principal in principals:
        for _ in range(500):
            await admitted(first, principal)
    new = await crowd.start(2)
    await crowd.settle()
    moved = [principal for principal in principals if crowd.owner(principal) == new]
    assert moved, "the new instance counts for some"
    for principal in moved:
        more = [await admitted(crowd.limits[new], principal) for _ in range(200)]
        assert sum(permit is not None for permit in more) <= 100


async def test_one_principal_does_not_use_up_the_calls_of_another(
    crowds: Callable[..., Any],
) -> None:
    crowd = await crowds(3, a_rule(calls=30, window="1m"))
    counts = {}
    for principal in ("alice", "bob", "carol"):
        calls = [
            await admitted(crowd.limits[address], principal)
            for address in crowd.addresses
            for _ in range(40)
        ]
        counts[principal] = sum(permit is not None for permit in calls)
    assert all(28 <= count <= 30 for count in counts.values()), counts


async def test_a_client_that_waits_as_long_as_required_is_admitted_at_any_instance(
    crowds: Callable[..., Any],
) -> None:
    crowd = await crowds(3, a_rule(calls=20, window="1h", burst=1))
    for round_ in range(6):
        address = crowd.addresses[round_ % 3]
        assert await admitted(crowd.limits[address]) is not None, round_
        await crowd.settle()
        crowd.clock.now += 181.0


async def test_unused_calls_of_a_lease_come_back(crowds: Callable[..., Any]) -> None:
    crowd = await crowds(2, a_rule(calls=300, window="1m"))
    owner = crowd.owner()
    (other,) = set(crowd.addresses) - {owner}
    for _ in range(50):
        assert await admitted(crowd.limits[other])
    await crowd.settle()
    crowd.clock.now += 11.0
    crowd.limits[other].sweep()
    await crowd.settle()
    more = [await admitted(crowd.limits[owner]) for _ in range(300)]
    assert sum(permit is not None for permit in more) == 250


@pytest.mark.parametrize("allows", [True, False])
async def test_the_failure_policy_decides_if_the_owner_is_unreachable_for_one_instance(
    crowds: Callable[..., Any], allows: bool
) -> None:
    crowd = await crowds(3, allows_on_failure=allows)
    owner = crowd.owner()
    ranked = crowd.store(owner).members
    assert ranked is not None
    successor = ranked.successor(RuleSet(crowd.rules).rules[0].key("p", a_client()))
    (other,) = set(crowd.addresses) - {owner, successor}
    crowd.cut.add((other, owner))
    permit = await admitted(crowd.limits[other])
    assert (permit is not None) == allows
    assert crowd.store(other).failure() is not None
    if allows:
        calls = [await admitted(crowd.limits[other]) for _ in range(PER_MINUTE * 2)]
        assert sum(permit is not None for permit in calls) == PER_MINUTE - 1
    crowd.cut.clear()
    crowd.clock.now += 60.0
    assert await admitted(crowd.limits[other]) is not None
    assert crowd.store(other).failure() is None


async def test_a_silent_owner_is_succeeded_by_the_next_instance(
    crowds: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    shorten(monkeypatch, 0.1)
    crowd = await crowds(3)
    owner = crowd.owner()
    crowd.silent.add(owner)
    (other, *_) = set(crowd.addresses) - {owner}
    for _ in range(3):
        assert await admitted(crowd.limits[other]) is not None
        crowd.clock.now += 2.0
    members = crowd.store(other).members
    assert members is not None
    assert members.owner(_key(crowd)) != owner


def shorten(monkeypatch: pytest.MonkeyPatch, seconds: Any) -> None:
    """Let instances wait for each other for a shorter time."""
    short = replace(limits_of_instances.LEASE_TIME, value=seconds)
    for module in (owner_store, peers):
        monkeypatch.setattr(module, "LEASE_TIME", short)


def _key(crowd: Crowd) -> Any:
    return RuleSet(crowd.rules).rules[0].key("p", a_client())


async def test_a_call_waits_for_a_silent_store_for_a_bounded_time(
    crowds: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    shorten(monkeypatch, 0.05)
    crowd = await crowds(2)
    crowd.silent.update(crowd.addresses)
    (other,) = set(crowd.addresses) - {crowd.owner()}
    loop = asyncio.get_running_loop()
    began = loop.time()
    await admitted(crowd.limits[other])
    assert loop.time() - began < 2.0
