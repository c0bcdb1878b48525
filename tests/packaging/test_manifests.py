"""What users install: roles, the operator's Deployment, install.yaml."""

import os
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from mcpproxy.api import names
from mcpproxy.cluster import rbac
from scripts import images, manifests

ROOT = Path(__file__).parents[2]
INSTALL = ROOT / "manifests" / "install.yaml"


def installed(kind: str) -> list[dict[str, Any]]:
    """The objects of a kind in install.yaml."""
    objects = yaml.safe_load_all(INSTALL.read_text(encoding="utf-8"))
    return [one for one in objects if one["kind"] == kind]


@pytest.mark.parametrize(("overlay", "kind"), [("cluster", "ClusterRole"), ("namespaced", "Role")])
def test_the_roles_are_the_operators_own_list_of_permissions(overlay: str, kind: str) -> None:
    path = ROOT / "manifests" / "overlays" / overlay / "role.yaml"
    assert path.read_text(encoding="utf-8") == manifests.role(kind), "run: make manifests"
    assert yaml.safe_load(path.read_text(encoding="utf-8"))["rules"] == list(rbac.RULES)


def test_no_role_lets_the_operator_read_secrets_or_write_the_users_objects() -> None:
    for role in installed("ClusterRole"):
        for rule in role["rules"]:
            assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"]
            if "secrets" in rule["resources"]:
                assert rule["verbs"] == ["create"]
            if names.PLURAL in rule["resources"]:
                assert set(rule["verbs"]) <= {"get", "list", "watch"}


@pytest.mark.apiserver
def test_install_yaml_is_what_its_sources_give() -> None:
    if not os.environ.get("KUBEBUILDER_ASSETS"):
        pytest.skip("KUBEBUILDER_ASSETS is not set: kubectl builds install.yaml")
    assert INSTALL.read_text(encoding="utf-8") == manifests.install(), "run: make manifests"


def test_install_yaml_holds_the_crd_as_generated() -> None:
    crd = yaml.safe_load((ROOT / "crds" / f"{names.CRD_NAME}.yaml").read_text(encoding="utf-8"))
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
