"""The installed objects: roles, the operator's Deployment, install.yaml."""

import functools
import os
import tomllib
from pathlib import Path
from typing import Any

import pytest

from mcpproxy.api import constants
from mcpproxy.cluster import rbac
from mcpproxy.controller.kopf_settings import STOP_SECONDS
from scripts import images, manifests
from scripts.yaml_files import parse_documents, parse_yaml

ROOT = Path(__file__).parents[2]
INSTALL = ROOT / "manifests" / "install.yaml"


def installed(kind: str, file: str = INSTALL.name) -> list[dict[str, Any]]:
    """The objects of a kind in install.yaml, or in another file."""
    return [item for item in _objects(file) if item["kind"] == kind]


@functools.cache
def _objects(file: str) -> list[dict[str, Any]]:
    return parse_documents((ROOT / "manifests" / file).read_text(encoding="utf-8"))


@pytest.mark.parametrize(("overlay", "kind"), [("cluster", "ClusterRole"), ("namespaced", "Role")])
def test_the_roles_are_the_operators_own_list_of_permissions(overlay: str, kind: str) -> None:
    path = ROOT / "manifests" / "overlays" / overlay / "role.yaml"
    assert path.read_text(encoding="utf-8") == manifests.role(kind), "run: make manifests"
    assert parse_yaml(path.read_text(encoding="utf-8"))["rules"] == list(rbac.RULES)


def test_no_role_lets_the_operator_read_secrets_or_write_the_users_objects() -> None:
    for role in installed("ClusterRole"):
        for rule in role["rules"]:
            assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"]
            if "secrets" in rule["resources"]:
                assert rule["verbs"] == ["create"]
            if constants.PLURAL in rule["resources"]:
                assert set(rule["verbs"]) <= {"get", "list", "watch"}


@pytest.mark.apiserver
@pytest.mark.parametrize(("overlay", "file"), manifests.INSTALLS.items())
def test_the_install_manifest_matches_its_sources(overlay: str, file: str) -> None:
    if not os.environ.get("KUBEBUILDER_ASSETS"):
        pytest.skip(f"KUBEBUILDER_ASSETS is not set: kubectl builds {file}")
    text = (ROOT / "manifests" / file).read_text(encoding="utf-8")
    assert text == manifests.install(overlay), "run: make manifests"


def test_the_permissions_for_leases_are_the_operators_own_list() -> None:
    text = (ROOT / "manifests" / "base" / "leases.yaml").read_text(encoding="utf-8")
    assert text == manifests.leases(), "run: make manifests"


@pytest.mark.parametrize("file", manifests.INSTALLS.values())
def test_leases_are_touched_in_the_operators_own_namespace_and_one_alone_is_changed(
    file: str,
) -> None:
    rules = [
        (role["kind"], role["metadata"].get("namespace"), rule)
        for kind in ("ClusterRole", "Role")
        for role in installed(kind, file)
        for rule in role["rules"]
        if "leases" in rule["resources"]
    ]
    assert {(kind, namespace) for kind, namespace, _ in rules} == {("Role", "mcpproxy-system")}
    for _, _, rule in rules:
        assert rule["verbs"] == ["create"] or rule["resourceNames"] == [constants.FIELD_MANAGER]


def test_a_namespaced_installation_has_nothing_outside_of_its_namespace() -> None:
    text = (ROOT / "manifests" / "install-namespaced.yaml").read_text(encoding="utf-8")
    for document in parse_documents(text):
        if document["kind"] != "Namespace":
            assert document["metadata"]["namespace"] == "mcpproxy-system"
    [deployment] = installed("Deployment", "install-namespaced.yaml")
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    assert "--namespace=$(POD_NAMESPACE)" in container["args"]
    assert "POD_NAMESPACE" in [item["name"] for item in container["env"]]


@pytest.mark.parametrize("file", manifests.INSTALLS.values())
def test_two_operators_elect_a_leader(file: str) -> None:
    [deployment] = installed("Deployment", file)
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    assert deployment["spec"]["replicas"] == 2
    assert "--leader-elect" in container["args"]


@pytest.mark.parametrize("file", manifests.INSTALLS.values())
def test_an_operator_has_ended_by_itself_before_its_pods_grace_is_over(file: str) -> None:
    [deployment] = installed("Deployment", file)
    pod = deployment["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] >= STOP_SECONDS + 5


def test_install_yaml_holds_the_crd_as_generated() -> None:
    crd = parse_yaml((ROOT / "crds" / f"{constants.CRD_NAME}.yaml").read_text(encoding="utf-8"))
    assert installed("CustomResourceDefinition") == [crd]


def test_the_operators_pod_meets_the_restricted_profile() -> None:
    [deployment] = installed("Deployment")
    pod = deployment["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_images_bear_the_version_of_the_distribution() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == images.TAG
    [deployment] = installed("Deployment")
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"] == images.name("operator")
    assert f"--image={images.name('runtime')}" in container["args"]
    for sample in ("demo.yaml", "demo-backends.yaml"):
        text = (ROOT / "samples" / sample).read_text(encoding="utf-8")
        assert f"image: {images.name('demo')}\n" in text
