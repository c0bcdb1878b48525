"""The product under a real Argo CD: installed in waves, quiet, truthful, and easy to get rid of.

Nothing may drift for 30 seconds, and for 300 in the full form, E2E_LONG=1.
"""

import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import pytest

from e2e import pods
from e2e.argocd import CLIENT_SIDE, NAMESPACE, ROOT_APP, SHARED, WAVES, ArgoCD
from e2e.background import repeating
from e2e.world import PROXIES, World, eventually, notes_proxy
from scripts import images, machine
from scripts.cluster import Cluster
from scripts.machine import CommandFailed

NAME = "mcpproxy-argocd"
WORK = machine.ROOT / ".e2e"
DRIFT_SECONDS = 300 if os.environ.get("E2E_LONG") else 30
MOVE_SECONDS = 240
DEADLINE_SECONDS = 600
"""After so long without progress a rollout has failed, as Kubernetes has it."""
COLLECTION_SECONDS = 90
CASCADE_SECONDS = 400
HEAL_SECONDS = 300
LOOKS = 20
"""At the applications, until all is compared anew."""
PROXY_APPS = ("proxies", CLIENT_SIDE)
SYNCED = "Synced Healthy"

# The first call on a machine builds Argo CD.
pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def argocd(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[ArgoCD]:
    """A cluster of its own with Argo CD, which brings everything else."""
    if not SHARED.exists():
        pytest.skip(f"{SHARED} is not there: it installs Argo CD without a registry")
    env = machine.environment()
    WORK.mkdir(exist_ok=True)
    cluster = Cluster(NAME, env, WORK / "kubeconfig-argocd")
    with ThreadPoolExecutor() as pool:
        built = pool.submit(images.build, env, ("demo", "operator"))
        _create(cluster)
        cluster.load(built.result())
    machine.run([str(SHARED / "up"), NAME], env, timeout=1500)
    cd = ArgoCD(cluster, tmp_path_factory.mktemp("git"))
    cd.set_up()
    yield cd
    if request.session.testsfailed:
        for what in (
            ("get", "applications", "-n", NAMESPACE, "-o", "yaml"),
            ("get", "pods,deployments", "-A", "-o", "wide"),
            ("get", PROXIES, "-A", "-o", "yaml"),
        ):
            try:
                said = cluster.kubectl(*what)
            except machine.CommandFailed as error:
                # The last stories take the kind away.
                said = str(error)
            print(f"--- kubectl {' '.join(what)}\n{said}")
    if not os.environ.get("KEEP"):
        cluster.delete()


def _create(cluster: Cluster) -> None:
    """Create the cluster; with KEEP=1 take the one that an earlier run has kept."""
    if cluster.exists():
        if os.environ.get("KEEP"):
            cluster.join()
            return
        cluster.delete()
    cluster.create()


@pytest.fixture(scope="module")
def world(argocd: ArgoCD) -> World:
    """The namespace of the proxies, once everything is there."""
    world = World(argocd.cluster, "agents")
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": world.namespace}}
    argocd.cluster.kubectl("apply", "-f", "-", stdin=json.dumps(namespace))
    pods.add_on(world, "metrics-server")
    pods.tellers(world, "teller")
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "token"}}
    world.apply({**secret, "stringData": {"value": "secret"}})
    argocd.proxies = {"plain": notes_proxy("plain"), "scaling": _many_fields("scaling")}
    argocd.client_side = {"client-side": _many_fields("client-side")}
    argocd.push()
    argocd.install()
    argocd.wait(SYNCED, ROOT_APP, *WAVES, seconds=300)
    return world


def _many_fields(name: str) -> dict[str, Any]:
    """An MCPProxy with an autoscaler, and values in more than one spelling."""
    result = pods.proxy(name, "teller")
    result["spec"]["backends"][0] |= {
        "transport": "streamable-http",
        "protocol": "auto",
        "headers": [
            {"name": "X-Token", "valueFrom": {"secretKeyRef": {"name": "token", "key": "value"}}},
            {"name": "X-Team", "value": "platform"},
        ],
        "forwardHeaders": ["X-User"],
        "timeouts": {"connect": "5000ms", "request": "120s", "idle": "0.5h"},
        "tools": {"include": ["*"], "overrides": [{"name": "tell", "title": "Tell"}]},
        "forward": {"roots": False, "sampling": True},
        "cache": {"ttl": "5m"},
    }
    result["spec"] |= {
        "autoscaling": {
            "minReplicas": 1,
            "maxReplicas": 3,
            "targetCPUUtilizationPercentage": 40,
            "scaleDownAfter": "15s",
        },
        "resources": {
            "requests": {"cpu": "0.05", "memory": "100663296"},
            "limits": {"cpu": 1, "memory": "0.5Gi"},
        },
        "session": {"mode": "Isolated"},
        "health": {"interval": "5s", "unhealthyAfter": 2},
        "disruptionBudget": {"maxUnavailable": "50%"},
        "networkPolicy": {"clients": [{"podSelector": {}}]},
        "service": {"type": "ClusterIP", "annotations": {"example.com/exposure": "internal"}},
        "allowedHosts": ["mcp.example.com"],
        "podTemplate": {
            "annotations": {"example.com/owner": "platform"},
            "tolerations": [{"operator": "Exists", "effect": "PreferNoSchedule"}],
        },
        "suspend": False,
    }
    return result


def test_crd_operator_and_proxies_arrive_in_waves_and_are_synced_and_healthy(
    argocd: ArgoCD, world: World
) -> None:
    for name in ("plain", "scaling", "client-side"):
        assert world.is_current(name)
    began = {name: argocd.application(name)["operationState"]["startedAt"] for name in WAVES}
    ended = {name: argocd.application(name)["operationState"]["finishedAt"] for name in WAVES}
    assert _time(ended["crds"]) <= _time(began["operator"])
    assert _time(ended["operator"]) <= _time(began["proxies"])


def test_nothing_drifts_while_autoscalers_move_the_pods_of_proxies_with_many_fields(
    argocd: ArgoCD, world: World
) -> None:
    names = ("scaling", "client-side")
    for name in names:
        eventually(f"{name}: one pod is enough", lambda: _ready(world, name) == 1, MOVE_SECONDS)  # noqa: B023
    argocd.wait(SYNCED, *WAVES)
    specs = {name: world.get(PROXIES, name)["spec"] for name in names}
    history = {name: len(argocd.application(name)["history"]) for name in WAVES}
    seen: set[str] = set()
    moves: dict[str, int] = dict.fromkeys(names, 0)

    def look() -> None:
        argocd.refresh(*WAVES)
        for _ in range(LOOKS):
            seen.update(argocd.states())

    with repeating(look):
        ends = time.monotonic() + DRIFT_SECONDS
        while time.monotonic() < ends or not all(moves.values()):
            name = min(names, key=lambda item: moves[item])
            _move(world, name)
            moves[name] += 1
    print(f"{time.monotonic() - ends + DRIFT_SECONDS:.0f} s, up and down: {moves}; seen {seen}")
    # A proxy is on its way while its autoscaler's pods come up, as a Deployment is to Argo CD.
    assert seen <= {SYNCED, "Synced Progressing"}
    assert {name: len(argocd.application(name)["history"]) for name in WAVES} == history
    assert {name: world.get(PROXIES, name)["spec"] for name in names} == specs


def _move(world: World, name: str) -> None:
    """Let the autoscaler go up under load, and down without it."""
    with pods.calling(world, name, "teller_tell", clients=6, pause=0.0) as caller:
        eventually(f"{name}: more pods", lambda: _ready(world, name) > 1, MOVE_SECONDS)
        caller.check()
    eventually(f"{name}: fewer pods", lambda: _ready(world, name) == 1, MOVE_SECONDS)


def test_a_backend_that_is_down_is_degraded_until_it_is_back(argocd: ArgoCD, world: World) -> None:
    world.kubectl("scale", "deployment/teller", "--replicas=0")
    try:
        argocd.wait("Synced Degraded", "proxies", CLIENT_SIDE)
        conditions = {
            condition["type"]: condition for condition in world.status("client-side")["conditions"]
        }
        assert "teller" in conditions["Ready"]["message"]
    finally:
        world.kubectl("scale", "deployment/teller", "--replicas=1")
    argocd.wait(SYNCED, "proxies", CLIENT_SIDE)


def test_a_rollout_that_hangs_is_progressing_until_git_is_fixed(
    argocd: ArgoCD, world: World
) -> None:
    spec = argocd.proxies["plain"]["spec"]
    good, spec["image"] = spec["image"], "mcpproxy/demo:missing"
    argocd.wait_synced("proxies", argocd.push(), "Progressing")
    assert world.is_current("scaling")
    spec["image"] = good
    argocd.wait_synced("proxies", argocd.push(), "Healthy")


@pods.long
def test_a_rollout_that_has_failed_is_degraded_and_healthy_when_git_is_fixed(
    argocd: ArgoCD, world: World
) -> None:
    spec = argocd.client_side["client-side"]["spec"]
    good, spec["image"] = spec["image"], "mcpproxy/demo:missing"
    commit = argocd.push()
    argocd.wait_synced(CLIENT_SIDE, commit, "Progressing")
    began = time.monotonic()
    argocd.wait_synced(CLIENT_SIDE, commit, "Degraded", seconds=DEADLINE_SECONDS + 60)
    print(f"Degraded {time.monotonic() - began:.0f} s after it began")
    # What ran before still serves.
    with pods.calling(world, "client-side", "teller_tell") as caller:
        caller.wait_calls(20)
        caller.check()
    spec["image"] = good
    argocd.wait_synced(CLIENT_SIDE, argocd.push(), "Healthy")


def test_a_spec_that_cannot_be_built_is_degraded_until_git_is_fixed(
    argocd: ArgoCD, world: World
) -> None:
    spec = argocd.proxies["plain"]["spec"]
    broken = {"name": "broken", "url": "http://broken.example.com:99999/mcp"}
    spec["backends"].append(broken)
    argocd.wait_synced("proxies", argocd.push(), "Degraded")
    spec["backends"].remove(broken)
    argocd.wait_synced("proxies", argocd.push(), "Healthy")


def test_a_suspended_proxy_is_suspended(argocd: ArgoCD, world: World) -> None:
    spec = argocd.proxies["plain"]["spec"]
    spec["suspend"] = True
    argocd.wait_synced("proxies", argocd.push(), "Suspended")
    del spec["suspend"]
    argocd.wait_synced("proxies", argocd.push(), "Healthy")


def test_a_proxy_that_is_taken_out_of_git_goes_with_all_its_children(
    argocd: ArgoCD, world: World
) -> None:
    uid = world.get(PROXIES, "plain")["metadata"]["uid"]
    assert world.owned(uid)
    del argocd.proxies["plain"]
    argocd.wait_synced("proxies", argocd.push(), "Healthy")
    eventually("it is gone", lambda: world.find(PROXIES, "plain") is None)
    eventually("its children are gone", lambda: not world.owned(uid), COLLECTION_SECONDS)


def test_the_parent_application_deletes_all_applications_with_their_objects(
    argocd: ArgoCD, world: World
) -> None:
    uid = world.get(PROXIES, "scaling")["metadata"]["uid"]
    argocd.cascade(ROOT_APP)
    argocd.kubectl("delete", "application", ROOT_APP, f"--timeout={CASCADE_SECONDS}s")
    left = argocd.kubectl("get", "applications", "-o", "name")
    assert left == ""
    eventually("the children are gone", lambda: not world.owned(uid), COLLECTION_SECONDS)
    _nothing_is_left(argocd)


def test_without_the_operator_and_without_the_crd_nothing_hangs(
    argocd: ArgoCD, world: World
) -> None:
    _install_again(argocd)
    uid = world.get(PROXIES, "scaling")["metadata"]["uid"]
    argocd.kubectl("delete", "application", ROOT_APP, "--timeout=60s")
    argocd.delete("operator")
    # Else Argo CD tries to heal what it has no kind for, and deletes nothing before it gives up.
    argocd.stop_healing("proxies", CLIENT_SIDE)
    argocd.cluster.kubectl("delete", "crd", PROXIES, "--timeout=60s")
    eventually("the children are gone", lambda: not world.owned(uid), COLLECTION_SECONDS)
    argocd.delete("proxies", CLIENT_SIDE, "crds")
    _nothing_is_left(argocd)


@pods.long
def test_the_crds_application_first_while_all_others_heal(argocd: ArgoCD, world: World) -> None:
    _install_again(argocd)
    argocd.kubectl("delete", "application", ROOT_APP, "--timeout=60s")
    argocd.cluster.kubectl("delete", "crd", PROXIES, "--timeout=60s")
    eventually("it is back", lambda: _is_there(argocd, world, "scaling"), HEAL_SECONDS)
    argocd.wait(SYNCED, *WAVES, seconds=HEAL_SECONDS)
    argocd.delete("crds")
    began = time.monotonic()
    argocd.cluster.kubectl("delete", "crd", PROXIES, "--timeout=60s", "--ignore-not-found")
    argocd.kubectl("delete", "application", *PROXY_APPS, f"--timeout={CASCADE_SECONDS}s")
    print(f"proxies without a kind were deleted within {time.monotonic() - began:.0f} s")
    argocd.delete("operator")
    _nothing_is_left(argocd)


def _is_there(argocd: ArgoCD, world: World, name: str) -> bool:
    """Return True if a proxy exists and is Ready; its kind may be missing."""
    if not argocd.cluster.kubectl("get", "crd", PROXIES, "--ignore-not-found"):
        return False
    try:
        return world.find(PROXIES, name) is not None and world.is_current(name)
    except CommandFailed:
        return False


def _install_again(argocd: ArgoCD) -> None:
    argocd.install()
    argocd.wait(SYNCED, ROOT_APP, *WAVES, seconds=300)


def _nothing_is_left(argocd: ArgoCD) -> None:
    for kind, name in (("namespace", "mcpproxy-system"), ("deployments", "--all-namespaces")):
        result = argocd.cluster.kubectl("get", kind, name, "--ignore-not-found", "-o", "name")
        assert "mcpproxy" not in result


def _ready(world: World, name: str) -> int:
    """Pods that are Ready, when those are all there are; as the status says."""
    status = world.status(name)
    total, ready = status.get("replicas", 0), status.get("readyReplicas", 0)
    return int(ready) if ready == total else 0


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
