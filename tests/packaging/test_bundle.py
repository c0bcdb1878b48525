"""The bundle for the Operator Lifecycle Manager installs the objects of the plain manifests."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from mcpproxy.api.v1alpha1 import MCPProxySpec
from scripts import bundle

ROOT = Path(__file__).parents[2]
FILES = bundle.files()
VERSION = yaml.safe_load(FILES[f"manifests/{bundle.PACKAGE}.clusterserviceversion.yaml"])
PLAIN = list(yaml.safe_load_all((ROOT / "manifests" / "install.yaml").read_text(encoding="utf-8")))
STRATEGY = VERSION["spec"]["install"]["spec"]


def plain(kind: str, name: str) -> Any:
    """An object of the plain manifests."""
    (result,) = [o for o in PLAIN if (o["kind"], o["metadata"]["name"]) == (kind, name)]
    return result


@pytest.mark.parametrize("path", FILES)
def test_the_bundle_is_as_generated(path: str) -> None:
    text = (ROOT / "bundle" / path).read_text(encoding="utf-8")
    assert text == FILES[path], "run: make manifests"


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
    definition = yaml.safe_load(FILES[f"manifests/{name}.crd.yaml"])
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
    (account,) = [o["metadata"]["name"] for o in PLAIN if o["kind"] == "ServiceAccount"]
    assert result["serviceAccountName"] == account


def test_every_object_of_the_plain_manifests_has_its_place_in_the_bundle() -> None:
    kinds = {o["kind"] for o in PLAIN}
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
