"""Values of the operator's chart: values.yaml, values.schema.json and the table of its README."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml

Schema = Mapping[str, Any]

_TEXT: Final[Schema] = {"type": "string"}
_FLAG: Final[Schema] = {"type": "boolean"}
_TEXTS: Final[Schema] = {"type": "object", "additionalProperties": {"type": "string"}}
_LABELS: Final[Schema] = {
    **_TEXTS,
    "properties": {f"app.kubernetes.io/{name}": False for name in ("name", "part-of")},
}
"""Labels except those that selectors and the manifests use."""
_OBJECT: Final[Schema] = {"type": "object"}
_OBJECTS: Final[Schema] = {"type": "array", "items": {"type": "object"}}
_NAME: Final[Schema] = {
    "type": "string",
    "minLength": 1,
    "maxLength": 63,
    "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
}
_DIGEST: Final[Schema] = {"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"}
_INTERVAL: Final[Schema] = {"type": "string", "pattern": "^([0-9]+(ms|s|m|h))+$"}
_PORTS: Final[Schema] = {
    "type": "array",
    "minItems": 1,
    "items": {"type": "integer", "minimum": 1, "maximum": 65535},
}


@dataclass(frozen=True, slots=True)
class Value:
    """One value: its dotted path, default, schema and description."""

    path: str
    default: Any
    schema: Schema
    description: str


def of_operator(deployment: Mapping[str, Any], images: Mapping[str, str]) -> tuple[Value, ...]:
    """Return the values of the chart; defaults come from the Deployment in manifests/base.

    `images` are the names of the images `operator` and `runtime`, without tag.
    """
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    return (
        *_image("image", images["operator"], "the operator"),
        Value(
            "image.pullPolicy",
            "IfNotPresent",
            {"enum": ["Always", "IfNotPresent", "Never"]},
            "Pull policy of the operator's image",
        ),
        *_image("runtime.image", images["runtime"], "proxies without `spec.image`"),
        Value("imagePullSecrets", [], _OBJECTS, "Secrets for pulling the operator's image"),
        Value(
            "replicas",
            deployment["spec"]["replicas"],
            {"type": "integer", "minimum": 0, "maximum": 10},
            "Replicas of the operator. One of them is the leader",
        ),
        Value(
            "scope",
            "cluster",
            {"enum": ["cluster", "namespaced"]},
            "`cluster`: serve all namespaces, with a ClusterRole. `namespaced`: serve the listed"
            " namespaces, with a Role in each",
        ),
        Value(
            "namespaces",
            [],
            {"type": "array", "uniqueItems": True, "items": _NAME},
            "Namespaces to serve if `scope` is `namespaced`. Empty: the namespace of the release",
        ),
        Value(
            "logLevel",
            "info",
            {"enum": ["debug", "info", "warning", "error"]},
            "Log level of the operator",
        ),
        Value(
            "extraArgs",
            [],
            {"type": "array", "items": {"type": "string", "pattern": "^--"}},
            "Further arguments of `mcpproxy operator`",
        ),
        Value("resources", container["resources"], _OBJECT, "Compute resources of the operator"),
        Value("nodeSelector", {}, _TEXTS, "Labels of the nodes that the operator may run on"),
        Value("tolerations", [], _OBJECTS, "Taints that the operator's pods tolerate"),
        Value("affinity", {}, _OBJECT, "Affinity of the operator's pods"),
        Value(
            "topologySpreadConstraints",
            pod["topologySpreadConstraints"],
            _OBJECTS,
            "Distribution of the operator's pods",
        ),
        Value("priorityClassName", "", _TEXT, "PriorityClass of the operator's pods"),
        Value("commonLabels", {}, _LABELS, "Labels that are added to every object of the chart"),
        Value("podLabels", {}, _LABELS, "Labels that are added to the operator's pods"),
        Value("podAnnotations", {}, _TEXTS, "Annotations that are added to the operator's pods"),
        Value("serviceAccount.annotations", {}, _TEXTS, "Annotations of the ServiceAccount"),
        *_monitoring(),
        *_protection(),
    )


def _image(path: str, repository: str, user: str) -> tuple[Value, ...]:
    return (
        Value(
            f"{path}.registry",
            "",
            _TEXT,
            f"Registry of the image of {user}, such as `registry.example.com`. Empty: the default"
            " of the container runtime",
        ),
        Value(
            f"{path}.repository",
            repository,
            {"type": "string", "minLength": 1},
            f"Repository of the image of {user}",
        ),
        Value(f"{path}.tag", "", _TEXT, "Tag of the image. Empty: the `appVersion` of the chart"),
        Value(
            f"{path}.digest",
            "",
            _DIGEST,
            "Digest of the image, such as `sha256:...`. With a digest, the tag is not used",
        ),
    )


def _monitoring() -> tuple[Value, ...]:
    return (
        Value(
            "monitoring.podMonitors.enabled",
            False,
            _FLAG,
            "Create PodMonitors for the operator and for all proxies. The Prometheus operator must"
            " be installed",
        ),
        Value("monitoring.podMonitors.interval", "30s", _INTERVAL, "Interval between two scrapes"),
        Value("monitoring.podMonitors.labels", {}, _TEXTS, "Labels by which Prometheus finds them"),
        Value("monitoring.rules.enabled", False, _FLAG, "Create a PrometheusRule with the alerts"),
        Value("monitoring.rules.labels", {}, _TEXTS, "Labels by which Prometheus finds it"),
        Value(
            "monitoring.docsUrl",
            "docs",
            {"type": "string", "minLength": 1},
            "Address of the documentation, for the runbook links of alerts and the links of the"
            " dashboard, such as `https://git.example.com/mcpproxy/docs`",
        ),
        Value(
            "monitoring.dashboard.enabled",
            False,
            _FLAG,
            "Create a ConfigMap with the dashboard for Grafana",
        ),
        Value(
            "monitoring.dashboard.labels",
            {"grafana_dashboard": "1"},
            _TEXTS,
            "Labels by which Grafana's sidecar finds it",
        ),
    )


def _protection() -> tuple[Value, ...]:
    return (
        Value(
            "networkPolicy.enabled",
            False,
            _FLAG,
            "Restrict the traffic of the operator's pods to metrics and probes, DNS, the API server"
            " and the proxies",
        ),
        Value(
            "networkPolicy.apiServerPorts",
            [443, 6443],
            _PORTS,
            "Ports of the API server, as the pods reach it",
        ),
        Value(
            "guard.enabled",
            False,
            _FLAG,
            "Create a ValidatingAdmissionPolicy that confines the operator to objects of"
            " MCPProxies (Kubernetes 1.30 or newer)",
        ),
    )


OF_CRDS: Final = (
    Value(
        "keep",
        True,
        _FLAG,
        "Keep the CustomResourceDefinition, and with it all MCPProxies, if the release is"
        " uninstalled",
    ),
)


def values_yaml(values: Iterable[Value], source: str) -> str:
    """Return values.yaml: each default under a comment with its description."""
    lines = [f"# Generated by `make manifests` from {source}; do not edit this file."]
    written: set[tuple[str, ...]] = set()
    for value in values:
        *parents, key = value.path.split(".")
        for depth in range(len(parents)):
            above = tuple(parents[: depth + 1])
            if above not in written:
                written.add(above)
                lines.append(f"{'  ' * depth}{above[-1]}:")
        pad = "  " * len(parents)
        lines.append(f"{pad}# {value.description}.")
        text = yaml.safe_dump({key: value.default}, sort_keys=False, indent=2)
        lines += [f"{pad}{line}" for line in text.splitlines()]
    return "\n".join(lines) + "\n"


def values_schema(values: Iterable[Value], title: str) -> str:
    """Return values.schema.json, which refuses values that the chart does not have."""
    root = _closed()
    for value in values:
        *parents, key = value.path.split(".")
        place = root
        for parent in parents:
            place = place["properties"].setdefault(parent, _closed())
        place["properties"][key] = {**value.schema, "description": f"{value.description}."}
    # A parent chart passes `global` to all its subcharts.
    root["properties"]["global"] = {"type": "object"}
    head = {"$schema": "http://json-schema.org/draft-07/schema#", "title": title}
    return json.dumps(head | root, indent=2) + "\n"


def _closed() -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": {}}


def values_table(values: Iterable[Value]) -> str:
    """Return a Markdown table of the values."""
    rows = ["| Value | Default | Description |", "|---|---|---|"]
    for value in values:
        default = json.dumps(value.default)
        rows.append(f"| `{value.path}` | `{default}` | {value.description} |")
    return "\n".join(rows) + "\n"
