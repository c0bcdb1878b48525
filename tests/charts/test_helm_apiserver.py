"""The charts at a real API server, before and after the plain manifests."""

import json
import time
from collections.abc import Iterator

import pytest

from scripts import bundle
from scripts.yaml_files import parse_documents
from tests.apiserver.server import ApiServer
from tests.charts.helm import CHARTS, KUBERNETES, MANIFESTS, NAMESPACE, Helm, Object
from tests.support.builders import an_mcpproxy

pytestmark = [pytest.mark.charts, pytest.mark.timeout(180)]

CRDS = ("mcpproxy-crds", str(CHARTS / "mcpproxy-crds"))
OPERATOR = ("mcpproxy-operator", str(CHARTS / "mcpproxy-operator"))
DEPLOYMENT = "deployment/mcpproxy-operator"
CRD = "crd/mcpproxies.mcpproxy.dev"


def kubectl(server: ApiServer, *arguments: str, stdin: str | None = None) -> str:
    """Standard output of kubectl, which must succeed."""
    done = server.kubectl(*arguments, input=stdin)
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


def install(helm: Helm, *options: str) -> None:
    """Install or upgrade both charts, as docs/install.md says."""
    for release in (CRDS, OPERATOR):
        helm.run("upgrade", "--install", *release, "-n", NAMESPACE, "--create-namespace", *options)


def apply(server: ApiServer, *options: str) -> str:
    """Apply the plain manifests, as docs/install.md says."""
    file = str(MANIFESTS / "install.yaml")
    return kubectl(server, "apply", "--server-side", *options, "-f", file)


def deployment(server: ApiServer) -> Object:
    """The operator's Deployment."""
    document: Object = json.loads(kubectl(server, "-n", NAMESPACE, "get", DEPLOYMENT, "-o", "json"))
    return document


def create_proxy(server: ApiServer) -> None:
    """Create an MCPProxy."""
    kubectl(server, "wait", "--for=condition=Established", CRD, "--timeout=30s")
    spec = an_mcpproxy().spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    proxy = {
        "apiVersion": "mcpproxy.dev/v1alpha1",
        "kind": "MCPProxy",
        "metadata": {"name": "tools", "namespace": "default"},
        "spec": spec,
    }
    # A kind that has just been established is refused until its storage is ready.
    deadline = time.monotonic() + 20
    while (done := server.kubectl("apply", "-f", "-", input=json.dumps(proxy))).returncode != 0:
        assert time.monotonic() < deadline, done.stderr


def test_the_api_server_accepts_what_helm_template_prints(helm: Helm, server: ApiServer) -> None:
    kubectl(server, "create", "namespace", NAMESPACE)
    enabled = ("guard", "networkPolicy", "monitoring.dashboard")
    values = ("--set", ",".join(f"{name}.enabled=true" for name in enabled))
    for release, options in ((CRDS, ()), (OPERATOR, ()), (OPERATOR, values)):
        printed = helm.run(
            *("template", *release, "-n", NAMESPACE, "--kube-version", KUBERNETES, *options)
        ).stdout
        dry = ("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-")
        assert "serverside-applied (server dry run)" in kubectl(server, *dry, stdin=printed)


def test_the_api_server_accepts_what_the_lifecycle_manager_creates(server: ApiServer) -> None:
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "operators"}}
    kubectl(server, "apply", "-f", "-", stdin=json.dumps(namespace))
    version = bundle.service_version()
    strategy = version["spec"]["install"]["spec"]
    created: list[Object] = [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": item["name"], "labels": item["label"]},
            "spec": item["spec"],
        }
        for item in strategy["deployments"]
    ]
    for place, kind in (("clusterPermissions", "ClusterRole"), ("permissions", "Role")):
        for permission in strategy[place]:
            account = permission["serviceAccountName"]
            created.append({**_rbac(kind, account), "rules": permission["rules"]})
    created += list(parse_documents(next(_definitions())))
    everything = {"apiVersion": "v1", "kind": "List", "items": created}
    strict = ("apply", "--server-side", "--dry-run=server", "--validate=strict", "-n", "operators")
    assert "(server dry run)" in kubectl(server, *strict, "-f", "-", stdin=json.dumps(everything))


def _rbac(kind: str, name: str) -> Object:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": name},
    }


def _definitions() -> Iterator[str]:
    for path, text in bundle.files().items():
        if path.endswith(".crd.yaml"):
            yield text


def test_the_notes_of_a_release_name_the_next_commands(
    cluster_helm: Helm, server: ApiServer
) -> None:
    release = ("upgrade", "--install", "-n", NAMESPACE, "--create-namespace")
    early = cluster_helm.run(*release, *OPERATOR).stdout
    assert "has no CustomResourceDefinition of MCPProxies" in early
    assert "mcpproxy-operator" in cluster_helm.run(*release, *CRDS).stdout
    kubectl(server, "wait", "--for=condition=Established", CRD, "--timeout=30s")
    notes = cluster_helm.run(*release, *OPERATOR).stdout
    assert "has no CustomResourceDefinition" not in notes
    _, _, command = notes.partition("kubectl apply -f - <<YAML\n")
    manifest, _, _ = command.partition("  YAML")
    kubectl(server, "apply", "--dry-run=server", "-f", "-", stdin=manifest)


def test_uninstalling_leaves_the_kind_and_the_proxies(
    cluster_helm: Helm, server: ApiServer
) -> None:
    install(cluster_helm)
    create_proxy(server)
    for name, _ in (OPERATOR, CRDS):
        cluster_helm.run("uninstall", name, "-n", NAMESPACE)
    assert "tools" in kubectl(server, "get", "mcpproxies", "-n", "default")
    gone = server.kubectl("-n", NAMESPACE, "get", DEPLOYMENT)
    assert "NotFound" in gone.stderr
    # The definition that was kept still names its release, so the same release adopts it.
    install(cluster_helm)
    assert "tools" in kubectl(server, "get", "mcpproxies", "-n", "default")


def test_helm_upgrades_what_kustomize_installed(cluster_helm: Helm, server: ApiServer) -> None:
    apply(server)
    create_proxy(server)
    refused = cluster_helm.run("install", *OPERATOR, "-n", NAMESPACE, check=False)
    assert "--take-ownership" in refused.stderr or "cannot be imported" in refused.stderr
    install(cluster_helm, "--take-ownership", "--set", "replicas=1", "--skip-schema-validation")
    assert deployment(server)["spec"]["replicas"] == 1
    assert "tools" in kubectl(server, "get", "mcpproxies", "-n", "default")


def test_kustomize_upgrades_what_helm_installed(cluster_helm: Helm, server: ApiServer) -> None:
    for release, options in ((CRDS, ()), (OPERATOR, ("--set", "replicas=1"))):
        cluster_helm.run(
            *("upgrade", "--install", *release, "-n", NAMESPACE, "--create-namespace", *options)
        )
    create_proxy(server)
    refused = server.kubectl("apply", "--server-side", "-f", str(MANIFESTS / "install.yaml"))
    assert refused.returncode != 0
    # Only the value that differs is in conflict: the rest has both managers.
    assert 'conflict with "helm" using apps/v1: .spec.replicas' in refused.stderr
    apply(server, "--force-conflicts")
    assert deployment(server)["spec"]["replicas"] == 2
    assert "tools" in kubectl(server, "get", "mcpproxies", "-n", "default")
