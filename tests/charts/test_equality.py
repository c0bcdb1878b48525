"""The charts create the objects of the plain manifests."""

import pytest

from tests.charts.helm import CHARTS, Helm, Object, by_name, kustomized, manifest

pytestmark = pytest.mark.charts

OPERATOR = CHARTS / "mcpproxy-operator"
CRDS = CHARTS / "mcpproxy-crds"
NOT_IN_THE_CHART = {"Namespace", "CustomResourceDefinition"}
"""Helm creates the namespace (--create-namespace), and the other chart the kind."""


def without(objects: dict[tuple[str, str, str], Object]) -> dict[tuple[str, str, str], Object]:
    """The objects that the operator's chart creates."""
    return {key: result for key, result in objects.items() if key[0] not in NOT_IN_THE_CHART}


@pytest.mark.parametrize(
    ("file", "values"),
    [("install.yaml", {}), ("install-namespaced.yaml", {"scope": "namespaced"})],
)
def test_the_chart_creates_the_objects_of_the_plain_manifests(
    helm: Helm, file: str, values: Object
) -> None:
    plain = manifest(file)
    assert {key[0] for key in plain} & NOT_IN_THE_CHART
    assert helm.template(OPERATOR, values) == without(plain)


@pytest.mark.parametrize(
    ("folder", "values"),
    [
        (
            "monitoring",
            {"monitoring": {k: {"enabled": True} for k in ("podMonitors", "rules", "dashboard")}},
        ),
        ("network-policy", {"networkPolicy": {"enabled": True}}),
        ("guard", {"guard": {"enabled": True}}),
    ],
)
def test_optional_values_create_the_objects_of_the_optional_manifests(
    helm: Helm, folder: str, values: Object
) -> None:
    plain = helm.template(OPERATOR)
    more = helm.template(OPERATOR, values)
    assert {key: result for key, result in more.items() if key not in plain} == kustomized(folder)
    assert {key: actual for key, actual in more.items() if key in plain} == plain


def test_the_chart_of_the_kind_creates_the_definition_of_the_plain_manifests(helm: Helm) -> None:
    (value,) = helm.template(CRDS, {"keep": False}).values()
    plain = manifest("install.yaml")
    assert value == plain["CustomResourceDefinition", "", "mcpproxies.mcpproxy.dev"]


def test_helm_keeps_the_definition_unless_it_is_configured_not_to(helm: Helm) -> None:
    (kept,) = helm.template(CRDS).values()
    assert kept["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
    assert by_name([kept]) == helm.template(CRDS, {"keep": False})
