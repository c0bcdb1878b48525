"""Each value of the operator's chart has its effect, and wrong values are refused by name."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.yaml_files import parse_yaml
from tests.charts.helm import CHARTS, KUBERNETES, NAMESPACE, Helm, Object

pytestmark = pytest.mark.charts

OPERATOR = CHARTS / "mcpproxy-operator"
DIGEST = "sha256:" + "a" * 64


def deployment(helm: Helm, values: Object) -> Any:
    """The operator's Deployment."""
    return helm.template(OPERATOR, values)["Deployment", NAMESPACE, "mcpproxy-operator"]


def pod(helm: Helm, values: Object) -> Any:
    """The spec of the operator's pods."""
    return deployment(helm, values)["spec"]["template"]["spec"]


def args(helm: Helm, values: Object) -> list[str]:
    """The arguments of the operator."""
    result: list[str] = pod(helm, values)["containers"][0]["args"]
    return result


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ({"registry": "registry.test"}, "registry.test/mcpproxy/operator:0.1.0"),
        ({"registry": "registry.test/", "tag": "t"}, "registry.test/mcpproxy/operator:t"),
        ({"repository": "a/b", "digest": DIGEST, "tag": "t"}, f"a/b@{DIGEST}"),
    ],
)
def test_an_image_is_named_by_registry_repository_and_tag_or_digest(
    helm: Helm, image: Object, name: str
) -> None:
    assert pod(helm, {"image": image})["containers"][0]["image"] == name
    runtime = name.replace("operator", "runtime")
    assert f"--image={runtime}" in args(helm, {"runtime": {"image": image}})


def test_the_pull_policy_reaches_the_container(helm: Helm) -> None:
    (container,) = pod(helm, {"image": {"pullPolicy": "Always"}})["containers"]
    assert container["imagePullPolicy"] == "Always"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("imagePullSecrets", [{"name": "pull"}]),
        ("nodeSelector", {"kubernetes.io/os": "linux"}),
        ("tolerations", [{"key": "a", "operator": "Exists"}]),
        ("affinity", {"nodeAffinity": {}}),
        ("priorityClassName", "system-cluster-critical"),
        ("topologySpreadConstraints", [{"maxSkew": 2}]),
    ],
)
def test_fields_of_the_pod_are_taken_from_the_values(helm: Helm, key: str, value: Any) -> None:
    assert pod(helm, {key: value})[key] == value
    # Helm merges a mapping with the default; null and an empty list remove it.
    assert key not in pod(helm, {key: None if isinstance(value, dict) else type(value)()})


def test_resources_and_replicas_are_taken_from_the_values(helm: Helm) -> None:
    (container,) = pod(helm, {"resources": {"limits": {"memory": "1Gi"}}})["containers"]
    assert container["resources"]["limits"] == {"memory": "1Gi"}
    assert deployment(helm, {"replicas": 0})["spec"]["replicas"] == 0


def test_the_operator_serves_the_listed_namespaces_with_a_role_in_each(helm: Helm) -> None:
    values = {"scope": "namespaced", "namespaces": ["team-a", "team-b"]}
    objects = helm.template(OPERATOR, values)
    kinds = [key[0] for key in objects]
    assert not {"ClusterRole", "ClusterRoleBinding"} & set(kinds)
    for namespace in values["namespaces"]:
        binding = objects["RoleBinding", namespace, "mcpproxy-operator"]
        assert binding["subjects"][0]["namespace"] == NAMESPACE
        assert objects["Role", namespace, "mcpproxy-operator"]["rules"]
    watched = [arg for arg in args(helm, values) if arg.startswith("--namespace")]
    assert watched == ["--namespace=team-a", "--namespace=team-b"]


def test_the_log_level_and_further_arguments_reach_the_operator(helm: Helm) -> None:
    values = {"logLevel": "debug", "extraArgs": ["--lease-duration=30s"]}
    assert args(helm, values)[-2:] == ["--log-level=debug", "--lease-duration=30s"]


def test_every_object_has_the_common_labels_and_no_selector_has_them(helm: Helm) -> None:
    everything = {
        "commonLabels": {"team": "agents"},
        "podLabels": {"pod": "yes", "team": "own"},
        "podAnnotations": {"note": "n"},
        "serviceAccount": {"annotations": {"role": "r"}},
        "monitoring": {k: {"enabled": True} for k in ("podMonitors", "rules", "dashboard")},
        "networkPolicy": {"enabled": True, "apiServerPorts": [16443]},
        "guard": {"enabled": True},
    }
    objects = helm.template(OPERATOR, everything)
    assert {result["metadata"]["labels"]["team"] for result in objects.values()} == {"agents"}
    spec = deployment(helm, everything)["spec"]
    assert spec["selector"] == {"matchLabels": {"app.kubernetes.io/name": "mcpproxy-operator"}}
    assert spec["template"]["metadata"]["labels"]["team"] == "own"
    assert spec["template"]["metadata"]["labels"]["pod"] == "yes"
    assert spec["template"]["metadata"]["annotations"]["note"] == "n"
    account = objects["ServiceAccount", NAMESPACE, "mcpproxy-operator"]
    assert account["metadata"]["annotations"] == {"role": "r"}
    policy = objects["NetworkPolicy", NAMESPACE, "mcpproxy-operator"]
    assert policy["spec"]["egress"][0]["ports"] == [{"protocol": "TCP", "port": 16443}]


def test_prometheus_finds_monitors_and_rules_by_their_labels(helm: Helm) -> None:
    labels = {"release": "prometheus"}
    on = {"enabled": True, "labels": labels}
    values = {"monitoring": {"podMonitors": {**on, "interval": "1m"}, "rules": on, "dashboard": on}}
    objects = helm.template(OPERATOR, values)
    for (kind, _, _), result in objects.items():
        if kind in ("PodMonitor", "PrometheusRule"):
            assert result["metadata"]["labels"] == labels
        if kind == "PodMonitor":
            assert {
                podmetricsendpoint["interval"]
                for podmetricsendpoint in result["spec"]["podMetricsEndpoints"]
            } == {"1m"}
    dashboard = objects["ConfigMap", NAMESPACE, "mcpproxy-dashboard"]
    assert dashboard["metadata"]["labels"] == labels | {"grafana_dashboard": "1"}


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"replica": 2}, "replica"),
        ({"replicas": "two"}, "/replicas"),
        ({"scope": "all"}, "/scope"),
        ({"image": {"digest": "sha256:1"}}, "/image/digest"),
        ({"image": {"name": "a"}}, "name"),
        ({"namespaces": ["Team_A"]}, "/namespaces/0"),
        ({"extraArgs": ["verbose"]}, "/extraArgs/0"),
        ({"podLabels": {"app.kubernetes.io/name": "a"}}, "/podLabels"),
        ({"networkPolicy": {"apiServerPorts": []}}, "/networkPolicy/apiServerPorts"),
        ({"monitoring": {"podMonitors": {"interval": "often"}}}, "interval"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(
    helm: Helm, tmp_path: Path, values: Object, named: str
) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    arguments = ("template", "release", str(OPERATOR), "-f", str(file))
    done = helm.run(*arguments, "--kube-version", KUBERNETES, check=False)
    assert done.returncode != 0
    assert named in done.stderr


@pytest.mark.parametrize("chart", ["mcpproxy-operator", "mcpproxy-crds"])
def test_helm_lint_has_no_warning(helm: Helm, chart: str) -> None:
    assert "[WARNING]" not in helm.run("lint", "--strict", str(CHARTS / chart)).stdout


def test_every_value_is_documented() -> None:
    values = parse_yaml((OPERATOR / "values.yaml").read_text(encoding="utf-8"))
    schema = json.loads((OPERATOR / "values.schema.json").read_text(encoding="utf-8"))
    text = (OPERATOR / "README.md").read_text(encoding="utf-8")
    leaves = list(_leaves(schema, ()))
    assert len(leaves) > 30
    for path in leaves:
        assert f"| `{'.'.join(path)}` |" in text
        place = values
        for key in path:
            place = place[key]


def _leaves(schema: Object, path: tuple[str, ...]) -> Any:
    for name, inner in schema["properties"].items():
        if inner.get("additionalProperties") is False:
            yield from _leaves(inner, (*path, name))
        elif name != "global":
            yield (*path, name)
