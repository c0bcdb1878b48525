"""Twenty proxies beside a webhook that changes what the operator wrote: nothing is written.

Meanwhile an autoscaler moves the pods of one of them, and only their numbers are told.
E2E_IDLE_SECONDS says how long: 600 is the full form.
"""

import itertools
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from e2e import pods, webhook
from e2e.audit import AuditLog, Write
from e2e.background import repeating
from e2e.pods import calling, pods_of
from e2e.world import CHILDREN, PROXIES, SERVICE_ACCOUNT, Object, World, eventually, steadily
from tests.apiserver.pod_monitor_crd import CRD as POD_MONITOR

COUNT = 20
ELASTIC = "elastic"
STILL = [f"still-{number}" for number in range(1, COUNT)]
IDLE_SECONDS = float(os.environ.get("E2E_IDLE_SECONDS", "600"))
READY_SECONDS = 400
QUIET_SECONDS = 20
MOVE_SECONDS = 240
ANNOTATION = "injector.example.com/injected"
KINDS = f"{CHILDREN},podmonitors"
ON_DEMAND = {"HorizontalPodAutoscaler", "NetworkPolicy", "PodDisruptionBudget", "PodMonitor"}
MOVING = {"replicas", "readyReplicas", "conditions", "backends"}
"""Members of a status that change with the pods."""

pytestmark = [pods.long, pytest.mark.timeout(2400)]


@pytest.fixture(scope="module")
def twenty(new_world: Callable[[str], World]) -> Iterator[World]:
    """Twenty proxies, all Ready, with children of every kind and an injected sidecar in each pod.

    One has an autoscaler that knows figures.
    """
    world = new_world("idle")
    pods.add_on(world, "metrics-server")
    world.apply(POD_MONITOR)
    pods.tellers(world, "teller")
    more = {
        "disruptionBudget": {"maxUnavailable": 1},
        "networkPolicy": {"scrapers": [{"namespaceSelector": {}}]},
        "monitoring": {"podMonitor": {}},
    }
    with webhook.injecting(new_world("webhook"), world):
        for name in STILL:
            # Twenty with the default requests are more than two cores have.
            few = {"requests": {"cpu": "10m", "memory": "96Mi"}}
            world.apply(pods.proxy(name, "teller", replicas=1, resources=few, **more))
        scaling = {"maxReplicas": 3, "targetCPUUtilizationPercentage": 40, "scaleDownAfter": "15s"}
        requests = {"requests": {"cpu": "50m", "memory": "96Mi"}}
        more |= {"autoscaling": {"minReplicas": 1, **scaling}, "resources": requests}
        world.apply(pods.proxy(ELASTIC, "teller", **more))
        for name in (*STILL, ELASTIC):
            world.wait_ready(name, READY_SECONDS)
        yield world
        world.remove()


def test_twenty_idle_proxies_see_no_write_beside_a_webhook_and_an_autoscaler_that_moves_pods(
    twenty: World, audit: AuditLog, tmp_path: Path
) -> None:
    _check_injected(twenty)
    eventually("one pod is enough", lambda: _ready(twenty, ELASTIC) == 1, MOVE_SECONDS)
    eventually("the operator is quiet", lambda: _quiet(audit), READY_SECONDS)
    versions, position, moves = _versions(twenty), audit.position(), list[int]()
    with _statuses(twenty, tmp_path / "statuses") as told, repeating(lambda: _look(twenty, moves)):
        ends = time.monotonic() + IDLE_SECONDS
        cycles = 0
        while time.monotonic() < ends or not cycles:
            with calling(twenty, ELASTIC, "teller_tell", clients=6, pause=0.0) as caller:
                eventually("more pods", lambda: _ready(twenty, ELASTIC) > 1, MOVE_SECONDS)
                caller.check()
            eventually("fewer pods", lambda: _ready(twenty, ELASTIC) == 1, MOVE_SECONDS)
            cycles += 1
        eventually("the operator is quiet", lambda: _quiet(audit), READY_SECONDS)
        took = time.monotonic() - ends + IDLE_SECONDS

    written = audit.writes(position, lambda write: _counts(write, twenty))
    assert [str(write) for write in written if not _of_the_move(write)] == []
    ours = [write for write in written if write.user == SERVICE_ACCOUNT]
    print(
        f"{took:.0f} s: the autoscaler went through {moves} in {cycles} cycles, {len(ours)}"
        f" statuses were written of it, and of {len(STILL)} other proxies nothing"
    )
    assert {write.resource for write in ours} == {"mcpproxies/status"}
    # Each write told something new, and of nothing but the pods.
    assert len(ours) == len(told) - 1
    changes = [_changed(before, after) for before, after in itertools.pairwise(told)]
    assert all(changes)
    assert set().union(*changes) <= MOVING
    assert _changed(versions, _versions(twenty)) == {f"MCPProxy/{ELASTIC}"}


def _check_injected(world: World) -> None:
    for name in (*STILL, ELASTIC):
        pod = pods_of(world, name)[0]
        assert pod["metadata"]["annotations"][ANNOTATION] == "yes"
        assert len(pod["spec"]["containers"]) == 2
        assert world.get("deployment", name)["metadata"]["annotations"][ANNOTATION] == "yes"


def _counts(write: Write, world: World) -> bool:
    """Return True for writes of the operator, and for those of other programs to its children.

    Children of a Deployment, and Events, are not the operator's.
    """
    if write.user == SERVICE_ACCOUNT or write.resource.startswith("mcpproxies"):
        return True
    system = write.user.startswith("system:")
    return system and write.namespace == world.namespace and write.resource != "events"


def _of_the_move(write: Write) -> bool:
    """Return True for writes that an autoscaler that moves pods causes in others."""
    told = {
        "mcpproxies/status",
        "deployments/scale",
        "deployments/status",
        "deployments",
        "horizontalpodautoscalers/status",
        "poddisruptionbudgets/status",
    }
    return write.name == ELASTIC and write.resource in told


def _quiet(audit: AuditLog) -> bool:
    """Return True if the operator writes nothing for a while."""
    position = audit.position()
    steadily("time passes", lambda: True, QUIET_SECONDS)
    return not audit.writes(position, lambda write: write.user == SERVICE_ACCOUNT)


def _look(world: World, moves: list[int]) -> None:
    """Note how many pods the autoscaler has; all others have to be there all the time."""
    ready = {
        item["metadata"]["name"]: item["status"].get("readyReplicas", 0)
        for item in world.all("deployments")
    }
    assert {name: ready[name] for name in STILL} == dict.fromkeys(STILL, 1)
    if not moves or moves[-1] != ready[ELASTIC]:
        moves.append(ready[ELASTIC])


def _ready(world: World, name: str) -> int:
    return int(world.get("deployment", name)["status"].get("readyReplicas", 0))


@contextmanager
def _statuses(world: World, file: Path) -> Iterator[list[Object]]:
    """All statuses of the elastic proxy, one after the other; complete after the block."""
    form = "jsonpath={.status}{'\\n'}"
    command = world.cluster.command(
        "-n", world.namespace, "get", PROXIES, ELASTIC, "-w", "-o", form
    )
    told: list[Object] = []
    # A file takes more than a pipe that nobody reads meanwhile.
    with (
        file.open("w") as output,
        subprocess.Popen(command, env=world.cluster.env, stdout=output) as process,
    ):
        try:
            yield told
        finally:
            process.terminate()
    told += map(json.loads, file.read_text(encoding="utf-8").splitlines())


def _changed(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    return {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}


def _versions(world: World) -> dict[str, str]:
    """resourceVersion of every proxy and of all that the operator made.

    Others write to children of the elastic one: there it is the generation and the uid.
    """
    proxies = world.all(PROXIES)
    owners = {proxy["metadata"]["uid"] for proxy in proxies}
    children = [
        item
        for item in world.all(KINDS)
        for owner in item["metadata"].get("ownerReferences", [])
        if owner["uid"] in owners
    ]
    assert len(proxies) == COUNT
    assert {child["kind"] for child in children} >= ON_DEMAND
    return {
        f"{entry['kind']}/{entry['metadata']['name']}": _version(entry)
        for entry in proxies + children
    }


def _version(result: Object) -> str:
    metadata = result["metadata"]
    if metadata["name"] == ELASTIC and result["kind"] != "MCPProxy":
        # An autoscaler changes the generation of the Deployment.
        fixed = result["kind"] == "Deployment" or metadata.get("generation")
        return f"{metadata['uid']} {fixed}"
    version: str = metadata["resourceVersion"]
    return version
