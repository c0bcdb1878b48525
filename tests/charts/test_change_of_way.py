"""An installation by one way is the same after another has continued it at a real API server."""

import copy
import json
from typing import Any, Final

import pytest

from scripts import bundle
from scripts.yaml_files import parse_documents
from tests.apiserver.server import ApiServer
from tests.charts.helm import MANIFESTS, NAMESPACE, Helm, Object, Objects, manifest
from tests.charts.test_helm_apiserver import (
    CRD,
    CRDS,
    OPERATOR,
    apply,
    create_proxy,
    install,
    kubectl,
)
from tests.docs.blocks import blocks

pytestmark = [pytest.mark.charts, pytest.mark.timeout(240)]

OF_THE_SERVER: Final = ("uid", "resourceVersion", "creationTimestamp", "generation")
OF_HELM: Final = ("meta.helm.sh/", "helm.sh/resource-policy")
MANAGED_BY: Final = "app.kubernetes.io/managed-by"
OPERATORS: Final = "operators"
"""Namespace of an installation by the Lifecycle Manager."""


def read(server: ApiServer) -> Objects:
    """The objects of the plain manifests, as the server has them."""
    file = str(MANIFESTS / "install.yaml")
    # Also the namespace that `helm --create-namespace` made.
    items = json.loads(kubectl(server, "get", "-f", file, "-o", "json"))["items"]
    result = {}
    for item in items:
        metadata = item["metadata"]
        result[item["kind"], metadata.get("namespace", ""), metadata["name"]] = item
    assert result.keys() == manifest("install.yaml").keys()
    return result


def without_origin(objects: Objects) -> Objects:
    """The objects without what names their creation and their way of installation."""
    result = copy.deepcopy(objects)
    for item in result.values():
        metadata = item["metadata"]
        item.pop("status", None)
        for member in (*OF_THE_SERVER, "managedFields"):
            metadata.pop(member, None)
        annotations = metadata.pop("annotations", {})
        kept = {key: text for key, text in annotations.items() if not key.startswith(OF_HELM)}
        labels = metadata.get("labels", {})
        labels.pop(MANAGED_BY, None)
        # `helm install --create-namespace` writes the name, and a page the security level.
        if item["kind"] == "Namespace":
            labels.pop("name", None)
            labels.pop("pod-security.kubernetes.io/enforce", None)
        metadata |= {key: part for key, part in (("annotations", kept),) if part}
        metadata["labels"] = labels
    return result


def identities(objects: Objects) -> dict[Any, str]:
    """The UIDs: an object that was replaced has another one."""
    return {key: item["metadata"]["uid"] for key, item in objects.items()}


def proxies(server: ApiServer) -> Object:
    """All MCPProxies with their UIDs, generations and versions."""
    result: Object = json.loads(kubectl(server, "get", "mcpproxies", "-A", "-o", "json"))
    assert result["items"]
    return result


def test_helm_over_kubectl_and_kubectl_over_helm_change_no_object(
    cluster_helm: Helm, server: ApiServer
) -> None:
    apply(server)
    create_proxy(server)
    fresh, untouched = read(server), proxies(server)
    install(cluster_helm, "--take-ownership")
    taken = read(server)
    assert without_origin(taken) == without_origin(fresh)
    assert {item["metadata"]["labels"][MANAGED_BY] for key, item in taken.items() if key[1]} == {
        "Helm"
    }
    # Nobody changed a field by hand, so nothing is in conflict.
    apply(server)
    returned = read(server)
    assert without_origin(returned) == without_origin(fresh)
    assert identities(returned) == identities(taken) == identities(fresh)
    assert proxies(server) == untouched


def test_kubectl_over_helm_gives_the_objects_of_an_installation_by_kubectl(
    cluster_helm: Helm, server: ApiServer
) -> None:
    install(cluster_helm)
    create_proxy(server)
    fresh, untouched = read(server), proxies(server)
    apply(server)
    applied = read(server)
    # Helm creates the namespace without the labels that the manifests give it.
    key = ("Namespace", "", NAMESPACE)
    labels = manifest("install.yaml")[key]["metadata"]["labels"]
    assert labels.items() <= applied[key]["metadata"]["labels"].items()
    applied_last = without_origin(applied)
    others = {name: item for name, item in applied_last.items() if name != key}
    assert {**others, key: None} == {**without_origin(fresh), key: None}
    install(cluster_helm)
    again = read(server)
    assert without_origin(again) == applied_last
    assert identities(again) == identities(fresh)
    assert proxies(server) == untouched


def test_the_chart_of_the_kind_takes_over_a_definition_of_the_manifests_alone(
    cluster_helm: Helm, server: ApiServer
) -> None:
    apply(server)
    create_proxy(server)
    before, untouched = read(server), proxies(server)
    refused = cluster_helm.run("install", *CRDS, "-n", NAMESPACE, check=False)
    assert "invalid ownership metadata" in refused.stderr
    cluster_helm.run("install", *CRDS, "-n", NAMESPACE, "--take-ownership")
    assert without_origin(read(server)) == without_origin(before)
    assert identities(read(server)) == identities(before)
    assert proxies(server) == untouched
    refused = cluster_helm.run("install", *OPERATOR, "-n", NAMESPACE, check=False)
    assert "invalid ownership metadata" in refused.stderr


def managed_objects() -> list[Object]:
    """The objects that the Lifecycle Manager creates of the bundle, without its own kinds."""
    strategy = bundle.service_version()["spec"]["install"]["spec"]
    labels = {"olm.managed": "true", "olm.owner": bundle.service_version()["metadata"]["name"]}
    api = "rbac.authorization.k8s.io"
    result: list[Object] = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": OPERATORS}}
    ]
    accounts = set()
    for place, kind in (("clusterPermissions", "ClusterRole"), ("permissions", "Role")):
        for number, permission in enumerate(strategy[place]):
            account = permission["serviceAccountName"]
            accounts.add(account)
            name = f"{labels['olm.owner']}-{place.lower()}-{number}"
            role = {"apiVersion": f"{api}/v1", "kind": kind, "metadata": {"name": name}}
            result.append({**role, "rules": permission["rules"]})
            subject = {"kind": "ServiceAccount", "name": account, "namespace": OPERATORS}
            reference = {"apiGroup": api, "kind": kind, "name": name}
            binding = {"apiVersion": f"{api}/v1", "kind": f"{kind}Binding"}
            metadata = {"metadata": {"name": name}}
            result.append({**binding, **metadata, "roleRef": reference, "subjects": [subject]})
    for name in sorted(accounts):
        account_object = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}
        result.append(account_object)
    for item in strategy["deployments"]:
        metadata = {"name": item["name"], "labels": item["label"]}
        deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata}
        result.append({**deployment, "spec": item["spec"]})
    for item in result:
        metadata = item["metadata"]
        metadata["labels"] = {**metadata.get("labels", {}), **labels}
        if item["kind"] not in ("Namespace", "ClusterRole", "ClusterRoleBinding"):
            metadata["namespace"] = OPERATORS
    return result


def write_managed(server: ApiServer) -> None:
    """Create the objects as the Lifecycle Manager does; it replaces a definition that exists."""
    items = {"apiVersion": "v1", "kind": "List", "items": managed_objects()}
    kubectl(server, "create", "-f", "-", stdin=json.dumps(items))
    (definition,) = (text for path, text in bundle.files().items() if path.endswith(".crd.yaml"))
    (document,) = parse_documents(definition)
    kubectl(server, "replace", "-f", "-", stdin=json.dumps(document))


def commands(kind: str) -> list[tuple[str, ...]]:
    """The commands of a block of docs/install.md, without the word kubectl."""
    (block,) = blocks("install.md", kind)
    lines = [line.split() for line in block.commands.splitlines() if line]
    assert all(line[0] == "kubectl" for line in lines)
    return [tuple(line[1:]) for line in lines]


@pytest.mark.parametrize("next_way", ["kubectl", "helm"])
def test_the_lifecycle_manager_follows_kubectl_and_another_way_the_lifecycle_manager(
    cluster_helm: Helm, server: ApiServer, next_way: str
) -> None:
    apply(server)
    create_proxy(server)
    fresh, untouched = read(server), proxies(server)
    for command in commands("run: remove-operator"):
        kubectl(server, *command)
    write_managed(server)
    definition = json.loads(kubectl(server, "get", CRD, "-o", "json"))
    key = ("CustomResourceDefinition", "", definition["metadata"]["name"])
    assert definition["metadata"]["uid"] == fresh[key]["metadata"]["uid"]
    assert definition["spec"] == fresh[key]["spec"]
    assert proxies(server) == untouched
    # The Lifecycle Manager keeps the definition when its operator is removed.
    names = "deployments,serviceaccounts,roles,rolebindings,clusterroles,clusterrolebindings"
    kubectl(server, "delete", names, "-A", "-l", "olm.managed=true")
    if next_way == "helm":
        install(cluster_helm, "--take-ownership")
    else:
        apply(server)
    assert without_origin(read(server)) == without_origin(fresh)
    assert proxies(server) == untouched
