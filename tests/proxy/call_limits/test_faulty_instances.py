"""Instances that send wrong or too many messages change the counts of others within bounds."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from mcpproxy.limits import instances as limits_of_instances
from mcpproxy.limits.limit import Limit
from mcpproxy.proxy.call_limits.instances import peers
from mcpproxy.proxy.call_limits.rule_set import RuleSet
from mcpproxy.proxy.instances import members as members_module
from tests.proxy.call_limits.crowd import LEASE, PER_MINUTE, a_client, a_request, admitted


async def test_an_instance_cannot_have_more_than_a_lease_at_a_time(
    crowds: Callable[..., Any],
) -> None:
    crowd = await crowds(2)
    owner = crowd.owner()
    key = RuleSet(crowd.rules).rules[0].key("p", a_client())
    subject = {"rule": key.rule, "subject": key.subject, "calls": 600, "period": 60.0, "burst": 0}
    message = {
        "type": "lease",
        "sender": "10.9.9.9:1",
        "subject": subject,
        "wanted": 1_000_000,
        "snapshot": [],
    }
    answer = json.loads(await crowd.deliver(owner, json.dumps(message).encode()))
    assert answer["count"] == LEASE


@pytest.mark.parametrize(
    "change",
    [
        {"wanted": -5},
        {"wanted": "all"},
        {"subject": {"rule": "r", "subject": "x" * 600, "calls": 1, "period": 1, "burst": 0}},
        {"subject": {"rule": "r", "subject": "", "calls": 0, "period": 60, "burst": 0}},
        {"subject": {"rule": "r", "subject": "", "calls": 5, "period": 0, "burst": 0}},
        {"snapshot": [{"counter": "c", "sequence": -1, "history": []}]},
        {"snapshot": [{"counter": "c", "sequence": 1, "history": [[-1.0, 1]]}]},
        {"snapshot": [{"counter": "c", "sequence": 1, "history": [[1.0, 1]] * 40}]},
        {"snapshot": [{"counter": "c", "sequence": 1, "history": []}] * 40},
        {"type": "other"},
    ],
    ids=str,
)
async def test_a_malformed_message_of_an_instance_is_refused(
    crowds: Callable[..., Any], change: dict[str, Any]
) -> None:
    crowd = await crowds(2)
    message: dict[str, Any] = {
        "type": "lease",
        "sender": "10.9.9.9:1",
        "subject": {"rule": "r", "subject": "", "calls": 5, "period": 60.0, "burst": 0},
        "wanted": 1,
        "snapshot": [],
        **change,
    }
    with pytest.raises(ValueError, match=r"\w"):
        await crowd.deliver(crowd.addresses[0], json.dumps(message).encode())


async def test_an_instance_cannot_give_back_more_than_a_lease_at_a_time(
    crowds: Callable[..., Any],
) -> None:
    crowd = await crowds(2)
    owner = crowd.owner()
    key = RuleSet(crowd.rules).rules[0].key("p", a_client())
    for _ in range(PER_MINUTE):
        await admitted(crowd.limits[owner])
    subject = {"rule": key.rule, "subject": key.subject, "calls": 600, "period": 60.0, "burst": 0}
    message = {
        "type": "withdraw",
        "sender": "10.9.9.9:1",
        "subject": subject,
        "count": 600,
        "counter": "another process",
        "booked": crowd.clock.now,
    }
    await crowd.deliver(owner, json.dumps(message).encode())
    assert await admitted(crowd.limits[owner]) is None, "this process has counted the calls"
    message["counter"] = crowd.store(owner)._counts.counter
    await crowd.deliver(owner, json.dumps(message).encode())
    crowd.clock.now += 1.0
    (other,) = set(crowd.addresses) - {owner}
    more = [await admitted(crowd.limits[other]) for _ in range(PER_MINUTE)]
    assert sum(permit is not None for permit in more) <= LEASE


async def test_messages_beyond_the_limit_are_not_sent(
    crowds: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    crowd = await crowds(2)
    limit: Limit = replace(limits_of_instances.COUNTING_TASKS, value=2)
    monkeypatch.setattr(peers, "COUNTING_TASKS", limit)
    owner = crowd.owner()
    for _ in range(PER_MINUTE):
        crowd.limits[owner].admit_at_once(a_request(), "p", a_client())
    assert limit.reached > 0
    assert len(crowd.store(owner)._peers._tasks) <= 2
    await crowd.settle()


async def test_instances_beyond_the_limit_are_not_known(
    crowds: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    crowd = await crowds(1)
    monkeypatch.setattr(members_module, "KNOWN", replace(limits_of_instances.KNOWN, value=3))
    for number in range(10):
        message = {"type": "greet", "sender": f"10.9.9.{number}:1"}
        await crowd.deliver(crowd.addresses[0], json.dumps(message).encode())
    members = crowd.store(crowd.addresses[0]).members
    assert members is not None
    assert len(members.others) == 3
