"""The commands of docs/install.md on a cluster: kubectl, Helm over it, Helm anew, and back."""

import subprocess
from pathlib import Path

import pytest

from e2e.world import OPERATOR, PROXIES, SYSTEM, World
from scripts import go_tools
from scripts.cluster import Cluster
from scripts.machine import ROOT
from tests.docs.blocks import blocks, script

NAMESPACE = "installed"
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def world(spare: Cluster) -> World:
    """A namespace of a cluster whose operator was installed with kubectl."""
    spare.kubectl("create", "namespace", NAMESPACE)
    return World(spare, NAMESPACE)


def shell(world: World, directory: Path, *commands: str) -> str:
    """Run commands with helm on the PATH, in the namespace of the world."""
    helm = go_tools.helm()
    assert helm is not None, f"helm is missing; install it with: {go_tools.INSTALL}"
    assert world.cluster.kubeconfig is not None
    programs = directory / "programs"
    programs.mkdir(exist_ok=True)
    if not (programs / "helm").exists():
        (programs / "helm").symlink_to(helm)
    copy = directory / "kubeconfig"
    copy.write_bytes(world.cluster.kubeconfig.read_bytes())
    env = {**world.cluster.env, "KUBECONFIG": str(copy)}
    env["PATH"] = f"{programs}:{env['PATH']}"
    context = f"kubectl config set-context --current --namespace={world.namespace}\n"
    done = subprocess.run(
        ["bash", "-c", f"set -euo pipefail\n{context}" + "\n".join(commands)],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def page(*kinds: str) -> str:
    """The commands of docs/install.md that are marked so, in the order of the kinds."""
    return script([block for kind in kinds for block in blocks("install.md", kind)])


def pods(world: World) -> set[str]:
    """The pods of the proxy."""
    result = world.kubectl("get", "pods", "-l", "app.kubernetes.io/instance=demo", "-o", "name")
    return set(result.split())


def test_a_first_proxy_is_ready_after_an_installation_by_kubectl(
    world: World, tmp_path: Path
) -> None:
    shell(world, tmp_path, page("run: kubectl", "nodes: kubectl", "nodes: first"))
    assert world.is_current("demo")


def test_helm_takes_the_installation_over_and_no_proxy_restarts(
    world: World, tmp_path: Path
) -> None:
    before, uid = pods(world), world.get(PROXIES, "demo")["metadata"]["uid"]
    shell(world, tmp_path, page("run: take-over", "nodes: helm"))
    assert pods(world) == before
    assert world.get(PROXIES, "demo")["metadata"]["uid"] == uid
    world.wait_ready("demo")


def test_proxies_serve_on_after_helm_uninstalls_and_a_new_installation_finds_them(
    world: World, tmp_path: Path
) -> None:
    before = pods(world)
    uninstall = [
        f"helm uninstall {name} -n {SYSTEM} --wait"
        for name in ("mcpproxy-operator", "mcpproxy-crds")
    ]
    shell(world, tmp_path, *uninstall)
    assert World(world.cluster, SYSTEM).find(*OPERATOR.split("/")) is None
    assert pods(world) == before
    shell(world, tmp_path, page("run: helm", "nodes: helm"))
    world.patch("demo", {"replicas": 2})
    world.wait_ready("demo")


def test_kubectl_takes_the_installation_back(world: World, tmp_path: Path) -> None:
    shell(world, tmp_path, page("run: give-back", "nodes: kubectl"))
    assert "mcpproxy-operator" not in shell(world, tmp_path, f"helm list -n {SYSTEM} --short")
    world.wait_ready("demo")
