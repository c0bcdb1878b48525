"""Twenty proxies, a webhook that changes what the operator wrote, an autoscaler: no write.

E2E_IDLE_SECONDS says how long: 600 is the full form.
"""

import os
from collections.abc import Callable, Iterator

import pytest

from e2e import pods, webhook
from e2e.audit import AuditLog, Write
from e2e.pods import calling, pods_of
from e2e.world import PROXIES, SERVICE_ACCOUNT, Object, World, eventually, steadily

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
    pods.add_on(world, "metrics-server")
    pods.tellers(world, "teller")
    with webhook.injecting(new_world("webhook"), world):
        for name in STILL:
            world.apply(pods.proxy(name, "teller", replicas=1))
        scaling = {"maxReplicas": 3, "targetCPUUtilizationPercentage": 60, "scaleDownAfter": "15s"}
        requests = {"requests": {"cpu": "100m", "memory": "96Mi"}}
        autoscaled = {"autoscaling": {"minReplicas": 1, **scaling}, "resources": requests}
        world.apply(pods.proxy(ELASTIC, "teller", **autoscaled))
        for name in (*STILL, ELASTIC):
            world.wait_ready(name, READY_SECONDS // 2)
        yield world
        world.kubectl("delete", PROXIES, "--all", "--wait=true")
    world.kubectl("delete", "namespace", world.namespace, "--wait=false")


def test_twenty_idle_proxies_see_no_write_beside_a_webhook_and_an_autoscaler(
    twenty: World, audit: AuditLog
) -> None:
    _check_injected(twenty)
    eventually("the autoscaler has figures", lambda: _hpa(twenty).get("currentMetrics"), 150)
    eventually("the operator is quiet", lambda: _quiet(audit), READY_SECONDS)
    versions, moves = _versions(twenty), set[int]()
    position = audit.position()
    with calling(twenty, ELASTIC, "teller_tell", clients=6, pause=0.0) as caller:
        eventually("more pods", lambda: _moved(twenty, moves) > 1, MOVE_SECONDS)
        caller.check()
    eventually("fewer pods", lambda: _moved(twenty, moves) == 1, MOVE_SECONDS)
    steadily("one pod", lambda: _moved(twenty, moves) == 1, IDLE_SECONDS)

    written = audit.writes(position, lambda write: write.user == SERVICE_ACCOUNT)
    moved = [write for write in written if _of_the_move(write)]
    assert [str(write) for write in written if not _of_the_move(write)] == []
    # Each pod that comes or goes is a change of `replicas` and one of `readyReplicas`, at most.
    print(f"{len(moved)} statuses written as the pods went through {sorted(moves)}")
    assert 0 < len(moved) <= 4 * max(moves)
    after = _versions(twenty)
    changed = {key for key in versions if versions[key] != after.get(key)}
    assert changed <= {f"Deployment/{ELASTIC}", f"MCPProxy/{ELASTIC}"}
    assert after.keys() == versions.keys()


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
    return not audit.writes(position, lambda write: write.user == SERVICE_ACCOUNT)


def _hpa(world: World) -> Object:
    found: Object = world.get("horizontalpodautoscaler", ELASTIC)["status"]
    return found


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
