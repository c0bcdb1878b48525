"""Two operators: the leader is killed, or both are replaced, and what changes is still done."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from e2e import background, pods
from e2e.audit import AuditLog, Write
from e2e.operators import Operators, lease_watched
from e2e.world import OPERATOR, PROXIES, SERVICE_ACCOUNT, World, eventually, steadily
from scripts import machine

NAME = "led"
LEASE_SECONDS = 10
FAILOVER_SECONDS = 20
QUIET_SECONDS = 5
KINDS = {
    "ConfigMap",
    "Deployment",
    "HorizontalPodAutoscaler",
    "NetworkPolicy",
    "PodDisruptionBudget",
    "Secret",
    "Service",
    "ServiceAccount",
}


@pytest.fixture(scope="module")
def led(new_world: Callable[[str], World]) -> Iterator[World]:
    """A proxy that has a child of every kind there is without an add-on, Ready."""
    world = new_world("leader")
    pods.tellers(world, "teller")
    more = {
        "autoscaling": {"minReplicas": 2, "maxReplicas": 3},
        "disruptionBudget": {"maxUnavailable": 1},
        "networkPolicy": {},
    }
    world.apply(pods.proxy(NAME, "teller", **more))
    world.wait_ready(NAME)
    eventually("both pods are Ready", lambda: world.status(NAME).get("readyReplicas") == 2)
    # It has no figures to look at, or not yet, and the status says so once.
    eventually("the autoscaler has looked", lambda: _scaling(world) != "ScalingUnknown", 90)
    yield world
    world.remove()


@pytest.fixture
def operators(led: World) -> Iterator[Operators]:
    """Both operators, Ready before and after."""
    result = Operators(led.cluster)
    result.wait()
    yield result
    result.wait()


def test_a_killed_operator_is_replaced_within_20_seconds_and_repeats_no_write(
    led: World, operators: Operators, audit: AuditLog
) -> None:
    children, leader = _children(led), operators.leader()
    assert {name.partition("/")[0] for name in children} == KINDS
    assert leader is not None
    kill, position, port = operators.killing(leader), audit.position(), _port(led) + 1
    killed = time.monotonic()
    machine.run(kill, led.cluster.env)
    led.patch(NAME, {"service": {"port": port}})
    eventually(
        "the port is changed",
        lambda: _port(led) == port,
        FAILOVER_SECONDS - (time.monotonic() - killed),
    )
    print(f"followed {time.monotonic() - killed:.1f} s after the kill")
    follower = operators.leader()
    assert follower != leader

    eventually("the status tells of it", lambda: f":{port}/" in led.status(NAME).get("url", ""))
    steadily("the other leads", lambda: operators.leader() == follower, QUIET_SECONDS)
    written = audit.writes(position, _ours)
    assert sorted((write.verb, write.resource, write.name) for write in written) == [
        ("patch", "mcpproxies/status", NAME),
        ("patch", "services", NAME),
    ]
    assert _children(led) == children


def test_both_operators_are_replaced_and_no_change_waits_for_the_end_of_a_lease(
    led: World, operators: Operators, audit: AuditLog
) -> None:
    children, old, position = _children(led), operators.pods(), audit.position()
    with (
        background.followed(operators.world, old) as said,
        lease_watched(operators) as held,
        _changing(led) as delays,
    ):
        operators.world.kubectl("rollout", "restart", OPERATOR)
        operators.wait()
        eventually("one of the new ones leads", lambda: _is_of(operators, operators.pods() - old))
        done = len(delays)
        eventually("changes are done", lambda: len(delays) >= done + 2)
    print(
        f"{len(delays)} changes, the slowest done after {max(delays):.1f} s; {len(held.holders)}"
        f" leaders, for at most {held.longest_without:.1f} s none"
    )
    # Half of it is far more than an orderly handover takes.
    assert max(delays) < LEASE_SECONDS / 2
    assert len(held.holders) > 1
    for name, log in said.items():
        assert log.splitlines()[-1].endswith('"message": "stopped"}'), (name, log)
    assert any("released Lease" in log for log in said.values())
    assert _children(led) == children
    written = audit.writes(position, _ours)
    assert {write.resource for write in written} == {"services", "mcpproxies/status"}
    assert len([write for write in written if write.resource == "services"]) == len(delays)


@contextmanager
def _changing(world: World) -> Iterator[list[float]]:
    """The port of the proxy's Service changes all the time, within: the seconds until it did."""
    delays: list[float] = []

    def change() -> None:
        port = _port(world) + 1
        asked = time.monotonic()
        world.patch(NAME, {"service": {"port": port}})
        eventually("the port is changed", lambda: _port(world) == port)
        delays.append(time.monotonic() - asked)

    with background.repeating(change):
        eventually("a change is done", lambda: delays)
        yield delays


def _scaling(world: World) -> str:
    conditions = {condition["type"]: condition for condition in world.status(NAME)["conditions"]}
    reason: str = conditions["Autoscaled"]["reason"]
    return reason


def _is_of(operators: Operators, pods: set[str]) -> bool:
    return f"pod/{operators.leader()}" in pods


def _children(world: World) -> dict[str, str]:
    """uid of every child, by kind and name."""
    uid = world.get(PROXIES, NAME)["metadata"]["uid"]
    results = [(item["kind"], item["metadata"]) for item in world.owned(uid)]
    return {f"{kind}/{metadata['name']}": metadata["uid"] for kind, metadata in results}


def _port(world: World) -> int:
    port: int = world.get("service", NAME)["spec"]["ports"][0]["port"]
    return port


def _ours(write: Write) -> bool:
    return write.user == SERVICE_ACCOUNT
