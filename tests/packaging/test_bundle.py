"""The bundle for the Operator Lifecycle Manager installs the objects of the plain manifests."""

import functools
import json
from pathlib import Path
from typing import Any

import pytest

from mcpproxy.api.v1alpha1 import MCPProxySpec
from scripts import bundle
from scripts.yaml_files import parse_documents, parse_yaml

ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / "bundle"
MANIFESTS = BUNDLE / "manifests"
VERSION = parse_yaml(
    (MANIFESTS / f"{bundle.PACKAGE}.clusterserviceversion.yaml").read_text(encoding="utf-8")
)
STRATEGY = VERSION["spec"]["install"]["spec"]


@functools.cache
def objects() -> list[Any]:
    """The objects of the plain manifests."""
    return parse_documents((ROOT / "manifests" / "install.yaml").read_text(encoding="utf-8"))


def plain(kind: str, name: str) -> Any:
    """An object of the plain manifests."""
    (result,) = [o for o in objects() if (o["kind"], o["metadata"]["name"]) == (kind, name)]
    return result


def test_the_bundle_is_as_generated() -> None:
    paths = [path for path in BUNDLE.rglob("*") if path.is_file()]
    written = {path.relative_to(BUNDLE).as_posix(): path.read_text("utf-8") for path in paths}
    assert written == bundle.files(), "run: make manifests"


def test_the_bundle_has_the_deployment_and_the_kind_of_the_plain_manifests() -> None:
    deployment = plain("Deployment", "mcpproxy-operator")
    assert STRATEGY["deployments"] == [
        {
            "name": deployment["metadata"]["name"],
            "label": deployment["metadata"]["labels"],
            "spec": deployment["spec"],
        }
    ]
    name = "mcpproxies.mcpproxy.dev"
    definition = parse_yaml((MANIFESTS / f"{name}.crd.yaml").read_text(encoding="utf-8"))
    assert definition == plain("CustomResourceDefinition", name)


@pytest.mark.parametrize(
    ("kind", "role", "place"),
    [
        ("ClusterRole", "mcpproxy-operator", "clusterPermissions"),
        ("Role", "mcpproxy-operator-leases", "permissions"),
    ],
)
def test_the_account_of_the_bundle_has_the_permissions_of_the_plain_manifests(
    kind: str, role: str, place: str
) -> None:
    (result,) = STRATEGY[place]
    assert result["rules"] == plain(kind, role)["rules"]
    (account,) = [o["metadata"]["name"] for o in objects() if o["kind"] == "ServiceAccount"]
    assert result["serviceAccountName"] == account


def test_every_object_of_the_plain_manifests_has_its_place_in_the_bundle() -> None:
    kinds = {o["kind"] for o in objects()}
    # The Lifecycle Manager creates bindings and the account; it installs into a namespace.
    created = {"Namespace", "ServiceAccount", "RoleBinding", "ClusterRoleBinding"}
    assert kinds - created == {"CustomResourceDefinition", "Deployment", "ClusterRole", "Role"}


def test_every_field_of_a_proxy_has_a_descriptor() -> None:
    (owned,) = VERSION["spec"]["customresourcedefinitions"]["owned"]
    described = {item["path"] for item in owned["specDescriptors"]}
    assert described == {field.alias for field in MCPProxySpec.model_fields.values()}
    for specdescriptor in owned["specDescriptors"] + owned["statusDescriptors"]:
        assert specdescriptor["description"]
        assert specdescriptor["displayName"][0].isupper()


def test_the_examples_of_the_bundle_are_valid_proxies() -> None:
    examples = json.loads(VERSION["metadata"]["annotations"]["alm-examples"])
    assert len(examples) == 2
    for example in examples:
        MCPProxySpec.model_validate(example["spec"])


def test_only_installations_for_all_namespaces_are_supported() -> None:
    supported = [
        installmode["type"]
        for installmode in VERSION["spec"]["installModes"]
        if installmode["supported"]
    ]
    assert supported == ["AllNamespaces"]
