"""Argo CD from zero with the Helm charts: the Applications of docs/install.md, executed."""

import os
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.argocd import NAMESPACE, SHARED, ArgoCD
from e2e.world import SYSTEM, World, eventually
from scripts import go_tools, images, machine
from scripts.cluster import Cluster

NAME = "mcpproxy-argocd-charts"
WORK = machine.ROOT / ".e2e"
APPLICATIONS = ("mcpproxy-crds", "mcpproxy-operator")
SYNCED = "Synced Healthy"
REPO_SERVER = "deployment/argocd-repo-server"

# The first call on a machine builds Argo CD.
pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def argocd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ArgoCD]:
    """A cluster of its own with an Argo CD that has helm, and nothing else."""
    if not SHARED.exists():
        pytest.skip(f"{SHARED} is not there: it installs Argo CD without a registry")
    env = machine.environment()
    WORK.mkdir(exist_ok=True)
    cluster = Cluster(NAME, env, WORK / "kubeconfig-argocd-charts")
    cluster.delete()
    with ThreadPoolExecutor() as pool:
        built = pool.submit(images.build, env, ("demo", "operator"))
        cluster.create()
        cluster.load(built.result())
    machine.run([str(SHARED / "up"), NAME], env, timeout=1500)
    cd = ArgoCD(cluster, tmp_path_factory.mktemp("git"))
    add_helm(cd, tmp_path_factory.mktemp("image"))
    yield cd
    if not os.environ.get("KEEP"):
        cluster.delete()


def add_helm(argocd: ArgoCD, context: Path) -> None:
    """Give Argo CD's image the helm that upstream's image has."""
    helm = go_tools.helm()
    assert helm is not None, f"helm is missing; install it with: {go_tools.INSTALL}"
    path = "jsonpath={.spec.template.spec.containers[0].image}"
    image = argocd.kubectl("get", REPO_SERVER, "-o", path)
    shutil.copy(helm, context / "helm")
    (context / "Dockerfile").write_text(f"FROM {image}\nCOPY helm /usr/local/bin/helm\n")
    tag = f"{image.partition(':')[0]}:with-helm"
    machine.run(["docker", "build", "--tag", tag, str(context)], argocd.cluster.env)
    argocd.cluster.load([tag])
    argocd.kubectl("set", "image", REPO_SERVER, f"*={tag}")
    argocd.kubectl("rollout", "status", REPO_SERVER, "--timeout=180s")


def applications() -> list[dict[str, Any]]:
    """The Applications of docs/install.md, for the git server in the cluster and our images."""
    text = (machine.ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    (block,) = [item for item in blocks if "kind: Application\n" in item]
    result: list[dict[str, Any]] = list(yaml.safe_load_all(block))
    for application in result:
        source = application["spec"]["source"]
        source |= {"repoURL": "http://git.argocd.svc/apps.git", "targetRevision": "main"}
        source.pop("helm", None)
    return result


def test_the_charts_bring_an_operator_that_serves_and_nothing_drifts(argocd: ArgoCD) -> None:
    shutil.copytree(machine.ROOT / "charts", argocd.folder / "charts")
    env = {**argocd.cluster.env, "KUBECONFIG": str(argocd.cluster.kubeconfig)}
    machine.run([str(SHARED / "push"), str(argocd.folder)], env)
    settings = str(machine.ROOT / "manifests" / "argocd" / "argocd-cm.yaml")
    patch = ("patch", "configmap", "argocd-cm", "--type", "merge", "--patch-file", settings)
    argocd.kubectl(*patch)
    argocd.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(applications()))
    argocd.wait(SYNCED, *APPLICATIONS, seconds=240)
    system = World(argocd.cluster, SYSTEM)
    labels = system.get("namespace", SYSTEM)["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    world = World(argocd.cluster, "default")
    world.kubectl("apply", "-f", "samples/demo-backends.yaml", "-f", "samples/demo.yaml")
    world.wait_ready("demo")
    argocd.refresh(*APPLICATIONS)
    argocd.wait(SYNCED, *APPLICATIONS)
    history = len(argocd.application("mcpproxy-operator")["history"])
    system.kubectl("scale", "deployment/mcpproxy-operator", "--replicas=1")
    eventually(
        "Argo CD heals the replicas",
        lambda: system.get("deployment", "mcpproxy-operator")["spec"]["replicas"] == 2,
    )
    argocd.wait(SYNCED, *APPLICATIONS)
    assert len(argocd.application("mcpproxy-operator")["history"]) == history
    assert {item["metadata"]["namespace"] for item in applications()} == {NAMESPACE}
