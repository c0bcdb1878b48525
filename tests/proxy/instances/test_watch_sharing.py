"""Instances agree which of them watches a backend, also while messages or instances are lost."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mcpproxy.api import manifest
from mcpproxy.limits.instances import WATCH_TASKS
from mcpproxy.proxy.bootstrap import instance_names
from mcpproxy.proxy.config.options import RuntimeOptions
from mcpproxy.proxy.config.proxy_config import ProxyConfig
from mcpproxy.proxy.instances.members import ROUND, Members
from mcpproxy.proxy.instances.watch_sharing import CLAIM_TIME, SUCCESSION
from mcpproxy.proxy.protocol.kinds import KINDS, TOOLS
from tests.proxy.instances.watch_crowd import BACKEND, GROUP, Crowd, states
from tests.support.builders import a_manifest


@pytest.fixture
async def crowd() -> AsyncIterator[Crowd]:
    """Five instances that have found each other."""
    result = Crowd()
    for number in range(1, 6):
        result.start(number)
    await result.round(2)
    yield result
    await result.close()


def _message(sender: str, **fields: Any) -> bytes:
    content = {"sender": sender, "group": GROUP, "process": f"{sender}#1", **fields}
    return json.dumps(content).encode()


async def test_the_instance_with_the_highest_rank_watches(crowd: Crowd) -> None:
    assert crowd.watchers == crowd.ranked()[:1]
    await crowd.round(10)
    assert crowd.watchers == crowd.ranked()[:1]


async def test_watches_of_several_backends_are_spread(crowd: Crowd) -> None:
    members = next(iter(crowd.sharings.values())).members
    owners = {members.owner(("watch", f"b{number}")) for number in range(64)}
    assert len(owners) == 5


async def test_instances_that_watch_nothing_send_only_greetings(crowd: Crowd) -> None:
    (watcher,) = crowd.watchers
    crowd.messages.clear()
    await crowd.round(4)
    tellers = [sender for sender, _, body in crowd.messages if b'"asks":true' not in body]
    assert set(tellers) == {watcher}
    assert len(tellers) == 4 * 4


async def test_the_next_instance_watches_when_the_watcher_is_killed(crowd: Crowd) -> None:
    first, second = crowd.ranked()[:2]
    await crowd.kill(first)
    await crowd.round(4)
    assert crowd.watchers == [second]


async def test_a_silent_watcher_is_relied_on_for_a_bounded_time(crowd: Crowd) -> None:
    first, second, *others = crowd.ranked()
    for address in (second, *others):
        crowd.cut |= {(first, address), (address, first)}
    crowd.clock.now += CLAIM_TIME - 1.0
    for address in (second, *others):
        crowd.sharings[address].divide()
    assert crowd.watchers == [first]
    # No instance has found out yet that it cannot be reached.
    for seconds in (1.0, SUCCESSION):
        crowd.clock.now += seconds
        for address in (second, *others):
            crowd.sharings[address].divide()
    assert set(crowd.watchers) == {first, second}


async def test_instances_that_are_cut_off_from_all_others_watch_themselves(crowd: Crowd) -> None:
    addresses = list(crowd.watches)
    crowd.cut |= {(sender, receiver) for sender in addresses for receiver in addresses}
    await crowd.round(8)
    assert crowd.watchers == addresses
    crowd.cut.clear()
    await crowd.round(5)
    assert crowd.watchers == crowd.ranked()[:1]


async def test_both_sides_of_a_partition_have_a_watcher(crowd: Crowd) -> None:
    for number in range(6, 9):
        crowd.start(number)
    await crowd.round(2)
    ranked = crowd.ranked()
    even, odd = ranked[::2], ranked[1::2]
    crowd.cut |= {(a, b) for a in even for b in odd} | {(b, a) for a in even for b in odd}
    await crowd.round(8)
    assert set(crowd.watchers) == {ranked[0], ranked[1]}


@pytest.mark.parametrize("fault", ["stream", "backend"])
async def test_another_instance_watches_if_the_first_one_cannot(crowd: Crowd, fault: str) -> None:
    first, second = crowd.ranked()[:2]
    if fault == "stream":
        crowd.watches[first].stream.works = False
    else:
        crowd.watches[first].is_current = False
    await crowd.round(2)
    assert set(crowd.watchers) == {first, second}
    crowd.watches[first].stream.works = crowd.watches[first].is_current = True
    await crowd.round(2)
    assert crowd.watchers == [first]


async def test_an_instance_that_ends_hands_its_watch_over_at_once(crowd: Crowd) -> None:
    first, second = crowd.ranked()[:2]
    await crowd.sharings[first].leave()
    crowd.watches.pop(first)
    for sharing in crowd.sharings.values():
        sharing.divide()
    assert crowd.watchers == [second]
    # It still answers, while its last calls end.
    await crowd.round(4)
    assert all(first not in each.members.others for each in crowd.sharings.values())
    assert crowd.watchers == [second]


async def test_instances_of_another_configuration_choose_their_own_watcher(crowd: Crowd) -> None:
    for number in range(6, 10):
        crowd.start(number, "another")
    await crowd.round(4)
    old, new = list(crowd.watches)[:5], list(crowd.watches)[5:]
    ranked = crowd.ranked()
    firsts = [next(address for address in ranked if address in group) for group in (old, new)]
    assert set(crowd.watchers) == set(firsts)


async def test_a_list_with_another_digest_is_requested_once(crowd: Crowd) -> None:
    (watcher,) = crowd.watchers
    for address, watch in crowd.watches.items():
        watch.list(b"old")
        watch.lists.kinds.clear()
        watch.tailored.kinds.clear()
        if address == watcher:
            watch.list(b"new")
    await crowd.round(3)
    others = [watch for address, watch in crowd.watches.items() if address != watcher]
    assert [watch.lists.kinds for watch in others] == [[TOOLS]] * 4
    assert [watch.tailored.kinds for watch in others] == [[TOOLS]] * 4
    assert not crowd.watches[watcher].lists.kinds
    for watch in others:
        # Nothing of the watcher's list was taken over.
        components = watch.catalog.get(BACKEND, TOOLS)
        assert components is not None
        assert components.items == (b"old",)


async def test_a_list_that_the_watcher_has_requested_again_counts_as_that_new(
    crowd: Crowd,
) -> None:
    (watcher,) = crowd.watchers
    now = crowd.clock.now
    for address, watch in crowd.watches.items():
        watch.list(b"same", at=now - 200.0 if address != watcher else now - 1.0)
    await crowd.round()
    for address, watch in crowd.watches.items():
        components = watch.catalog.get(BACKEND, TOOLS)
        assert components is not None
        if address != watcher:
            assert components.fetched_at > now - 200.0
        assert not watch.lists.kinds


async def test_an_announcement_without_a_change_reaches_lists_of_some_clients(
    crowd: Crowd,
) -> None:
    (watcher,) = crowd.watchers
    crowd.watches[watcher].share.count_announcement(TOOLS)
    await crowd.round(2)
    for address, watch in crowd.watches.items():
        assert watch.tailored.kinds == ([] if address == watcher else [TOOLS])
        assert not watch.lists.kinds


async def test_an_instance_without_lists_does_not_compare_them(crowd: Crowd) -> None:
    (watcher,) = crowd.watchers
    crowd.watches[watcher].list(b"new")
    other = crowd.ranked()[1]
    crowd.watches[other].is_current = False
    await crowd.round()
    assert not crowd.watches[other].lists.kinds
    crowd.watches[other].is_current = True
    await crowd.round()
    assert crowd.watches[other].lists.kinds == [TOOLS]


async def test_a_message_of_another_configuration_changes_nothing(crowd: Crowd) -> None:
    first, other = crowd.ranked()[:2]
    watched = {BACKEND: states(*["x"] * len(KINDS))}
    crowd.sharings[other].answer(_message(first, watched=watched, group="another"))
    assert not crowd.watches[other].lists.kinds
    crowd.sharings[other].answer(_message(first, watched=watched))
    assert len(crowd.watches[other].lists.kinds) == len(KINDS)


async def test_a_claim_of_a_lower_rank_changes_nothing(crowd: Crowd) -> None:
    first, *_, last = crowd.ranked()
    message = _message(last, watched={BACKEND: states(*["x"] * len(KINDS))})
    crowd.sharings[first].answer(message)
    await crowd.round()
    assert crowd.watchers == [first]
    assert not crowd.watches[first].lists.kinds


async def test_senders_that_do_not_prove_their_address_are_met_in_a_bounded_number(
    crowd: Crowd,
) -> None:
    first, other = crowd.ranked()[:2]
    sharing, before = crowd.sharings[other], WATCH_TASKS.reached
    known = sharing.members.others
    for number in range(100):
        watched = {BACKEND: states(*["x"] * len(KINDS))}
        sharing.answer(_message(f"10.1.0.{number}:8080", watched=watched))
    assert len(sharing._meeting) == WATCH_TASKS.value
    assert WATCH_TASKS.reached == before + 100 - WATCH_TASKS.value
    await crowd.round()
    assert sharing.members.others == known
    assert not sharing._meeting
    assert crowd.watchers == [first]
    assert not crowd.watches[other].lists.kinds


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"reachable": "10.0.0.1"}, (("tools-instances.team.svc", 8080),)),
        ({"reachable": "10.0.0.1", "instances": (("a", 1),)}, (("a", 1),)),
        # The Service has no ports of single workers, and other machines may not be pods.
        ({"reachable": "10.0.0.1", "own_port": 9000}, ()),
        ({}, ()),
    ],
)
def test_pods_look_for_others_at_their_service(
    options: dict[str, Any], names: tuple[tuple[str, int], ...]
) -> None:
    configuration = ProxyConfig(manifest.parse(a_manifest("tools")), "0" * 64, Path.cwd())
    assert instance_names(configuration, RuntimeOptions(**options)) == names


async def test_a_name_without_addresses_is_looked_up_less_and_less_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 6:
            raise asyncio.CancelledError

    async def look(host: str, port: int) -> list[str]:
        raise OSError("no such name")

    async def greet(address: str) -> list[str]:
        return []

    monkeypatch.setattr(asyncio, "sleep", pause)
    members = Members("a:1", [("tools-instances", 8080)], greet, lambda: 0.0, look=look)
    with pytest.raises(asyncio.CancelledError):
        await members.run()
    assert set(pauses) == {ROUND}
    pauses.clear()
    members = Members(
        "a:1", [("tools-instances", 8080)], greet, lambda: 0.0, look=look, longest_round=60.0
    )
    with pytest.raises(asyncio.CancelledError):
        await members.run()
    assert pauses == [10.0, 20.0, 40.0, 60.0, 60.0, 60.0]
