"""Twenty proxies beside a webhook that changes what the operator wrote: nothing is written.

E2E_IDLE_SECONDS says how long: 600 is the full form.
"""

import os
from collections.abc import Callable, Iterator

import pytest

from e2e import pods, webhook
from e2e.audit import AuditLog, Write
from e2e.pods import calling, pods_of
from e2e.world import PROXIES, SERVICE_ACCOUNT, World, eventually, steadily

COUNT = 20
ELASTIC = "elastic"
STILL = [f"still-{number}" for number in range(1, COUNT)]
IDLE_SECONDS = float(os.environ.get("E2E_IDLE_SECONDS", "600"))
READY_SECONDS = 400
QUIET_SECONDS = 20
MOVE_SECONDS = 240
ANNOTATION = "injector.example.com/injected"

pytestmark = [pods.long, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def twenty(new_world: Callable[[str], World]) -> Iterator[World]:
    """Twenty proxies, all Ready, each pod with an injected sidecar; one has an autoscaler."""
    world = new_world("idle")
    pods.tellers(world, "teller")
    with webhook.injecting(new_world("webhook"), world):
        for name in STILL:
            world.apply(pods.proxy(name, "teller", replicas=1))
        scaling = {"maxReplicas": 3, "targetCPUUtilizationPercentage": 40, "scaleDownAfter": "15s"}
        requests = {"requests": {"cpu": "50m", "memory": "96Mi"}}
        autoscaled = {"autoscaling": {"minReplicas": 1, **scaling}, "resources": requests}
        world.apply(pods.proxy(ELASTIC, "teller", **autoscaled))
        for name in (*STILL, ELASTIC):
            world.wait_ready(name, READY_SECONDS // 2)
        yield world
        world.remove()


def test_twenty_idle_proxies_see_no_write_beside_a_webhook(twenty: World, audit: AuditLog) -> None:
    _check_injected(twenty)
    eventually("the operator is quiet", lambda: _quiet(audit), READY_SECONDS)
    versions, position = _versions(twenty), audit.position()
    steadily("all pods are there", lambda: _are_ready(twenty), IDLE_SECONDS)
    assert [str(write) for write in audit.writes(position, _ours)] == []
    assert _versions(twenty) == versions
    assert len([key for key in versions if key.startswith("MCPProxy/")]) == COUNT


def test_an_autoscaler_that_moves_pods_causes_no_write_but_of_their_numbers(
    twenty: World, audit: AuditLog
) -> None:
    pods.add_on(twenty, "metrics-server")
    eventually("one pod is enough", lambda: _moved(twenty, set()) == 1, MOVE_SECONDS)
    eventually("the operator is quiet", lambda: _quiet(audit), READY_SECONDS)
    versions, moves, position = _versions(twenty), set[int](), audit.position()
    with calling(twenty, ELASTIC, "teller_tell", clients=6, pause=0.0) as caller:
        eventually("more pods", lambda: _moved(twenty, moves) > 1, MOVE_SECONDS)
        print(f"{caller.check()} calls")
    eventually("fewer pods", lambda: _moved(twenty, moves) == 1, MOVE_SECONDS)
    eventually("the operator is quiet", lambda: _quiet(audit), READY_SECONDS)

    written = audit.writes(position, _ours)
    assert [str(write) for write in written if not _of_the_move(write)] == []
    told = [write for write in written if _of_the_move(write)]
    print(f"{len(told)} statuses written as the ready pods went through {sorted(moves)}")
    # Each pod that comes or goes changes `replicas` once and `readyReplicas` once.
    assert 0 < len(told) <= 4 * max(moves)
    after = _versions(twenty)
    changed = {key for key in versions if versions[key] != after.get(key)}
    assert changed == {f"Deployment/{ELASTIC}", f"MCPProxy/{ELASTIC}"}


def _check_injected(world: World) -> None:
    for name in STILL:
        pod = pods_of(world, name)[0]
        assert pod["metadata"]["annotations"][ANNOTATION] == "yes"
        assert len(pod["spec"]["containers"]) == 2
        assert world.get("deployment", name)["metadata"]["annotations"][ANNOTATION] == "yes"


def _of_the_move(write: Write) -> bool:
    """Whether it is what the status says of the pods that an autoscaler moves."""
    return (write.resource, write.name) == ("mcpproxies/status", ELASTIC)


def _quiet(audit: AuditLog) -> bool:
    """Whether the operator writes nothing for a while."""
    position = audit.position()
    steadily("time passes", lambda: True, QUIET_SECONDS)
    return not audit.writes(position, _ours)


def _ours(write: Write) -> bool:
    return write.user == SERVICE_ACCOUNT


def _are_ready(world: World) -> bool:
    deployments = [world.get("deployment", name) for name in (STILL[0], STILL[-1])]
    return all(one["status"].get("readyReplicas") == 1 for one in deployments)


def _moved(world: World, moves: set[int]) -> int:
    replicas = int(world.get("deployment", ELASTIC)["status"].get("readyReplicas", 0))
    moves.add(replicas)
    return replicas


def _versions(world: World) -> dict[str, str]:
    """resourceVersion of every proxy and of all that the operator made."""
    proxies = world.all(PROXIES)
    uids = {one["metadata"]["uid"] for one in proxies}
    children = [
        one
        for one in world.all("deployments,services,configmaps,secrets,serviceaccounts")
        for owner in one["metadata"].get("ownerReferences", [])
        if owner["uid"] in uids
    ]
    return {
        f"{one['kind']}/{one['metadata']['name']}": one["metadata"]["resourceVersion"]
        for one in (*proxies, *children)
    }
