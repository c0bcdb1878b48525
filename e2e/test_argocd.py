"""The product under a real Argo CD: installed in waves, quiet, truthful, and easy to get rid of.

ARGOCD_DRIFT_SECONDS says how long nothing may drift: 300 is the full form.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import pytest

from e2e.argocd import NAMESPACE, ROOT_APP, SHARED, WAVES, ArgoCD
from e2e.world import PROXIES, World, eventually, notes_proxy, steadily
from scripts import images, machine
from scripts.cluster import Cluster

NAME = "mcpproxy-argocd"
WORK = machine.ROOT / ".e2e"
DRIFT_SECONDS = float(os.environ.get("ARGOCD_DRIFT_SECONDS", "30"))
COLLECTION_SECONDS = 90
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
    found = ArgoCD(cluster, tmp_path_factory.mktemp("git"))
    found.set_up()
    yield found
    if request.session.testsfailed:
        for what in (
            ("get", "applications", "-n", NAMESPACE, "-o", "yaml"),
            ("get", "pods,deployments", "-A", "-o", "wide"),
            ("get", PROXIES, "-A", "-o", "yaml"),
        ):
            print(f"--- kubectl {' '.join(what)}\n{cluster.kubectl(*what)}")
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
    argocd.proxies = {"plain": notes_proxy("plain"), "scaling": notes_proxy("scaling")}
    del argocd.proxies["scaling"]["spec"]["replicas"]
    argocd.proxies["scaling"]["spec"]["autoscaling"] = {"minReplicas": 1, "maxReplicas": 3}
    argocd.push()
    argocd.install()
    argocd.wait(SYNCED, ROOT_APP, *WAVES, seconds=240)
    return World(argocd.cluster, "agents")


def test_crd_operator_and_proxies_arrive_in_waves_and_are_synced_and_healthy(
    argocd: ArgoCD, world: World
) -> None:
    for name in ("plain", "scaling"):
        assert world.is_current(name)
    began = {name: argocd.application(name)["operationState"]["startedAt"] for name in WAVES}
    ended = {name: argocd.application(name)["operationState"]["finishedAt"] for name in WAVES}
    assert _time(ended["crds"]) <= _time(began["operator"])
    assert _time(ended["operator"]) <= _time(began["proxies"])


def test_nothing_drifts_while_an_autoscaler_moves_replicas(argocd: ArgoCD, world: World) -> None:
    versions = {name: world.get(PROXIES, name)["spec"] for name in argocd.proxies}
    world.kubectl("scale", "deployment/scaling", "--replicas=2")
    eventually("both replicas are reported", lambda: _replicas(world) == 2)
    argocd.wait(SYNCED, *WAVES)
    for name in WAVES:
        argocd.kubectl("annotate", "application", name, "argocd.argoproj.io/refresh=hard")
    history = {name: len(argocd.application(name)["history"]) for name in WAVES}

    def quiet() -> bool:
        return all(argocd.state(name) == SYNCED for name in WAVES)

    steadily("all are synced and healthy", quiet, DRIFT_SECONDS)
    assert {name: len(argocd.application(name)["history"]) for name in WAVES} == history
    assert {name: world.get(PROXIES, name)["spec"] for name in argocd.proxies} == versions
    assert world.get("deployment", "scaling")["spec"]["replicas"] == 2


def test_a_rollout_that_hangs_is_progressing_until_git_is_put_right(
    argocd: ArgoCD, world: World
) -> None:
    spec = argocd.proxies["plain"]["spec"]
    good, spec["image"] = spec["image"], "mcpproxy/demo:missing"
    argocd.wait_synced("proxies", argocd.push(), "Progressing")
    assert world.is_current("scaling")
    spec["image"] = good
    argocd.wait_synced("proxies", argocd.push(), "Healthy")


def test_a_spec_that_cannot_be_built_is_degraded_until_git_is_put_right(
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


def test_without_the_operator_and_without_the_crd_nothing_hangs(
    argocd: ArgoCD, world: World
) -> None:
    uid = world.get(PROXIES, "scaling")["metadata"]["uid"]
    argocd.kubectl("delete", "application", ROOT_APP, "--timeout=60s")
    argocd.delete("operator")
    # Else Argo CD tries to heal what it has no kind for, and deletes nothing before it gives up.
    argocd.stop_healing("proxies")
    argocd.cluster.kubectl("delete", "crd", PROXIES, "--timeout=60s")
    eventually("the children are gone", lambda: not world.owned(uid), COLLECTION_SECONDS)
    argocd.delete("proxies", "crds")
    left = argocd.cluster.kubectl("get", "namespace", "mcpproxy-system", "--ignore-not-found")
    assert left == ""


def _replicas(world: World) -> int | None:
    found: int | None = world.status("scaling").get("readyReplicas")
    return found


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
