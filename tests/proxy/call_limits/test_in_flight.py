"""Calls in flight at several instances together do not exceed `inFlight`."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from mcpproxy.limits.instances import HOLD_TIME
from mcpproxy.proxy.call_limits.rule_set import GuardedPermit
from tests.proxy.call_limits.crowd import Crowd, a_client, a_rule, admitted

Start = Callable[..., Any]


@pytest.fixture
def crowds(crowds: Start) -> Start:
    """Starts instances with a rule of concurrent calls; they end with the test."""

    def start(count: int, in_flight: int, **options: Any) -> Awaitable[Crowd]:
        crowd: Awaitable[Crowd] = crowds(count, a_rule(inFlight=in_flight), **options)
        return crowd

    return start


async def _fill(crowd: Crowd, times: int) -> list[GuardedPermit]:
    """Begin calls at all instances in turn; return the permits of those that were admitted."""
    addresses = crowd.addresses
    permits = [
        await admitted(crowd.limits[addresses[number % len(addresses)]]) for number in range(times)
    ]
    return [permit for permit in permits if permit is not None]


@pytest.mark.parametrize("in_flight", [1, 2, 5, 16, 64, 400])
async def test_all_instances_together_have_the_calls_in_flight_of_a_rule(
    crowds: Start, in_flight: int
) -> None:
    crowd = await crowds(3, in_flight)
    running = await _fill(crowd, 3 * in_flight + 3)
    # Each instance may keep a few free slots.
    assert in_flight - 3 * (in_flight // 16) <= len(running) <= in_flight


@pytest.mark.parametrize("in_flight", [1, 2, 16])
async def test_one_call_after_the_other_is_admitted_at_any_instance(
    crowds: Start, in_flight: int
) -> None:
    crowd = await crowds(3, in_flight)
    for number in range(30):
        permit = await admitted(crowd.limits[crowd.addresses[number % 3]])
        assert permit is not None, number
        permit.release()
        await crowd.settle()


async def test_slots_of_an_instance_that_was_killed_become_free(crowds: Start) -> None:
    crowd = await crowds(3, 5)
    owner = crowd.owner()
    other = next(address for address in crowd.addresses if address != owner)
    running = [await admitted(crowd.limits[other]) for _ in range(5)]
    assert all(running)
    await crowd.kill(other)
    assert await admitted(crowd.limits[owner]) is None
    crowd.clock.now += HOLD_TIME.value + 0.1
    assert await admitted(crowd.limits[owner]) is not None


@pytest.mark.parametrize("in_flight", [5, 64])
@pytest.mark.parametrize("in_order", [True, False])
async def test_the_end_of_the_owner_admits_no_more_calls_in_flight(
    crowds: Start, in_flight: int, in_order: bool
) -> None:
    crowd = await crowds(4, in_flight)
    owner = crowd.owner()
    others = [crowd.limits[address] for address in crowd.addresses if address != owner]
    running = [await admitted(others[number % 3]) for number in range(in_flight)]
    before = sum(permit is not None for permit in running)
    if in_order:
        await crowd.limits[owner].leave()
    await crowd.kill(owner)
    more = [await admitted(others[number % 3]) for number in range(in_flight)]
    assert before + sum(permit is not None for permit in more) <= in_flight


async def test_an_instance_that_joins_counts_the_calls_that_are_in_flight(crowds: Start) -> None:
    crowd = await crowds(1, 5)
    running = await _fill(crowd, 5)
    new = await crowd.start(2)
    await crowd.settle()
    assert await admitted(crowd.limits[new]) is None
    running.pop().release()
    await crowd.settle()
    crowd.clock.now += 1.0
    assert await admitted(crowd.limits[new]) is not None


async def test_calls_that_stay_in_flight_keep_their_slots(crowds: Start) -> None:
    crowd = await crowds(2, 3)
    running = await _fill(crowd, 3)
    for _ in range(30):
        crowd.clock.now += 1.0
        for limits in crowd.limits.values():
            limits.sweep()
        await crowd.settle()
        assert [await admitted(limits) for limits in crowd.limits.values()] == [None, None]
    assert len(running) == 3


async def test_calls_beyond_the_limit_cost_few_messages(crowds: Start) -> None:
    crowd = await crowds(3, 2)
    running = await _fill(crowd, 2)
    crowd.messages.clear()
    for _ in range(1000):
        assert await _fill(crowd, 1) == []
        crowd.clock.now += 0.001
    # One instance asks at most ten times a second.
    assert crowd.counted_messages <= 11
    assert len(running) == 2


async def test_calls_of_a_large_limit_share_messages(crowds: Start) -> None:
    crowd = await crowds(3, 400)
    for number in range(1000):
        permit = await admitted(crowd.limits[crowd.addresses[number % 3]])
        assert permit is not None
        permit.release()
    assert crowd.counted_messages <= 1000 / 20


@pytest.mark.parametrize("allows", [True, False])
async def test_an_owner_that_does_not_answer_lets_the_policy_decide(
    crowds: Start, allows: bool
) -> None:
    crowd = await crowds(3, 2, allows_on_failure=allows)
    owner = crowd.owner()
    members = crowd.store(owner).members
    assert members is not None
    key = crowd.limits[owner].rules.rules[0].key("p", a_client())
    (other,) = set(crowd.addresses) - {owner, members.successor(key)}
    crowd.cut.add((other, owner))
    permits = [await admitted(crowd.limits[other]) for _ in range(4)]
    assert sum(permit is not None for permit in permits) == (2 if allows else 0)


async def test_nothing_is_held_after_any_number_of_calls(crowds: Start) -> None:
    crowd, chance = await crowds(3, 20), random.Random(7)
    most = 0

    async def call() -> None:
        nonlocal most
        permit = await admitted(crowd.limits[chance.choice(crowd.addresses)])
        most = max(most, sum(sum(limits.running.values()) for limits in crowd.limits.values()))
        for _ in range(chance.randrange(6)):
            await asyncio.sleep(0)
        if permit is not None:
            permit.release()

    for _ in range(40):
        await asyncio.gather(*(call() for _ in range(60)))
        crowd.clock.now += 0.2
    assert most == 20
    for _ in range(3):
        crowd.clock.now += 1.0
        for limits in crowd.limits.values():
            limits.sweep()
        await crowd.settle()
    assert not any(limits.running for limits in crowd.limits.values())
    assert not any(
        crowd.store(address)._counts.holds.held(crowd.clock.now) for address in crowd.addresses
    )
