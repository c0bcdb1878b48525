"""Templates of the operator's chart, from the objects of the plain manifests."""

import copy
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from scripts.charts.templates import Template, always, member, merged, only_if, raw, scalar

Object = dict[str, Any]

NAME: Final = "mcpproxy-operator"
NAMESPACE: Final = "mcpproxy-system"
"""Namespace in the plain manifests; in the chart it is that of the release."""
_RELEASE: Final = ".Release.Namespace"
_CLUSTER: Final = 'eq .Values.scope "cluster"'
DOCS_URL: Final = "monitoring.docsUrl"
"""Value with the address of the documentation."""
_DOCS: Final = "docs"
"""Address of the documentation in the plain manifests: its path in the repository."""
_OWN: Final = "--namespace=$(POD_NAMESPACE)"


def templates(plain: "Plain") -> dict[str, str]:
    """Return the templates of the chart: file name → text."""
    return {
        "serviceaccount.yaml": _service_account(plain.only("ServiceAccount")),
        "leases.yaml": "---\n".join(
            _labelled(plain.only(kind, f"{NAME}-leases")) for kind in ("Role", "RoleBinding")
        ),
        "cluster-role.yaml": only_if(
            _CLUSTER,
            "---\n".join(_labelled(plain.only(k)) for k in ("ClusterRole", "ClusterRoleBinding")),
        ),
        "roles.yaml": _roles(plain),
        "deployment.yaml": _deployment(plain.only("Deployment"), _runtime_image(plain)),
        "podmonitors.yaml": only_if(
            ".Values.monitoring.podMonitors.enabled",
            "---\n".join(map(_pod_monitor, plain.all("PodMonitor"))),
        ),
        "rules.yaml": only_if(
            ".Values.monitoring.rules.enabled", _rules(plain.only("PrometheusRule"))
        ),
        "dashboard.yaml": only_if(
            ".Values.monitoring.dashboard.enabled", _dashboard(plain.only("ConfigMap"))
        ),
        "networkpolicy.yaml": only_if(
            ".Values.networkPolicy.enabled", _network_policy(plain.only("NetworkPolicy"))
        ),
        "guard.yaml": only_if(
            ".Values.guard.enabled",
            "---\n".join(
                _labelled(plain.only(kind))
                for kind in ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
            ),
        ),
    }


class Plain:
    """The objects of the plain manifests: those to install, and optional ones."""

    def __init__(self, objects: list[Object], namespaced: list[Object]) -> None:
        self._objects = objects
        self._namespaced = namespaced

    def all(self, kind: str) -> list[Object]:
        """Return all objects of a kind, for the scope of the cluster."""
        return [copy.deepcopy(result) for result in self._objects if result["kind"] == kind]

    def only(self, kind: str, name: str | None = None) -> Object:
        """Return the only object of a kind, or that with this name."""
        results = [o for o in self.all(kind) if name in (None, o["metadata"]["name"])]
        assert len(results) == 1, (kind, name, len(results))
        return results[0]

    def namespaced(self, kind: str) -> Object:
        """Return the operator's Role or RoleBinding for one namespace."""
        results = [
            copy.deepcopy(o)
            for o in self._namespaced
            if o["kind"] == kind and o["metadata"]["name"] == NAME
        ]
        assert len(results) == 1, (kind, len(results))
        return results[0]


def _prepared(template: Template, manifest: Object, labels: str | None = None) -> Object:
    """Put holes where the release's namespace and additional labels belong.

    `labels` is the value with the labels of an object that has none in the manifests.
    """
    metadata = manifest["metadata"]
    if "labels" in metadata:
        metadata["labels"][template.lines(merged(".Values.commonLabels"))] = None
    else:
        common = ".Values.commonLabels"
        value = f"(merge (dict) {labels} {common})" if labels else common
        metadata[template.lines(member("labels", value))] = None
    prepared = _replaced(manifest, template)
    assert isinstance(prepared, dict)
    return prepared


def _replaced(value: Any, template: Template) -> Any:
    if isinstance(value, dict):
        return {key: _replaced(inner, template) for key, inner in value.items()}
    if isinstance(value, list):
        return [_replaced(inner, template) for inner in value]
    if isinstance(value, str) and NAMESPACE in value:
        return value.replace(NAMESPACE, template.expression(_RELEASE))
    return value


def _labelled(manifest: Object, change: Callable[[Template, Object], None] | None = None) -> str:
    template = Template()
    prepared = _prepared(template, manifest)
    if change is not None:
        change(template, prepared)
    return template.text(prepared)


def _service_account(manifest: Object) -> str:
    def change(template: Template, account: Object) -> None:
        hole = template.lines(member("annotations", ".Values.serviceAccount.annotations"))
        account["metadata"][hole] = None

    return _labelled(manifest, change)


def _roles(plain: Plain) -> str:
    """Return a Role and a RoleBinding for each namespace that is served."""

    def change(template: Template, manifest: Object) -> None:
        manifest["metadata"]["namespace"] = template.expression("$namespace | quote")

    texts = (
        _labelled(plain.namespaced("Role"), change),
        _labelled(plain.namespaced("RoleBinding"), change),
    )
    # In a loop the dot is the item, and the dollar the release.
    body = re.sub(r"(?<=[ (])\.(?=Values|Release)", "$.", "".join(f"---\n{t}" for t in texts))
    loop = "{{- range $namespace := .Values.namespaces | default (list .Release.Namespace) }}\n"
    return only_if('eq .Values.scope "namespaced"', f"{loop}{body}{{{{- end }}}}\n")


def _runtime_image(plain: Plain) -> str:
    (container,) = plain.only("Deployment")["spec"]["template"]["spec"]["containers"]
    (result,) = [arg for arg in container["args"] if arg.startswith("--image=")]
    return str(result)


def _deployment(manifest: Object, runtime_image: str) -> str:
    def change(template: Template, deployment: Object) -> None:
        spec = deployment["spec"]
        spec["replicas"] = template.expression("int .Values.replicas")
        metadata = spec["template"]["metadata"]
        labels = template.lines(merged(".Values.podLabels", ".Values.commonLabels"))
        metadata["labels"][labels] = None
        metadata["annotations"][template.lines(merged(".Values.podAnnotations"))] = None
        pod = spec["template"]["spec"]
        for key in ("imagePullSecrets", "nodeSelector", "tolerations", "affinity"):
            pod[template.lines(member(key, f".Values.{key}"))] = None
        hole = template.lines(scalar("priorityClassName", ".Values.priorityClassName"))
        pod[hole] = None
        spread = template.lines(
            member("topologySpreadConstraints", ".Values.topologySpreadConstraints")
        )
        spec["template"]["spec"] = {
            (spread if key == "topologySpreadConstraints" else key): (
                None if key == "topologySpreadConstraints" else value
            )
            for key, value in pod.items()
        }
        (container,) = spec["template"]["spec"]["containers"]
        _container(template, container, runtime_image)

    return _labelled(manifest, change)


def _container(template: Template, container: Object, runtime_image: str) -> None:
    container["image"] = template.expression(_image(".Values.image"))
    args = container["args"]
    place = args.index(runtime_image)
    args[place] = f"--image={template.expression(_image('.Values.runtime.image'))}"
    args.append(template.lines(_further_args))
    resources = template.lines(always("resources", ".Values.resources"))
    filled: Object = {}
    for key, value in container.items():
        if key == "resources":
            filled[resources] = None
            continue
        filled[key] = value
        if key == "image":
            policy = template.lines(raw(*_PULL_POLICY))
            filled[policy] = None
    container.clear()
    container.update(filled)


# Kubernetes' default for a tag that is not `latest`; the plain manifests leave it out.
_PULL_POLICY: Final = (
    '{{- if ne .Values.image.pullPolicy "IfNotPresent" }}',
    "imagePullPolicy: {{ .Values.image.pullPolicy }}",
    "{{- end }}",
)


def _further_args(indent: int) -> str:
    return raw(
        '{{- if eq .Values.scope "namespaced" }}',
        "{{- range .Values.namespaces }}",
        "- --namespace={{ . }}",
        "{{- else }}",
        f"- {_OWN}",
        "{{- end }}",
        "{{- end }}",
        '{{- if ne .Values.logLevel "info" }}',
        "- --log-level={{ .Values.logLevel }}",
        "{{- end }}",
        "{{- range .Values.extraArgs }}",
        "- {{ . | quote }}",
        "{{- end }}",
    )(indent)


def _image(values: str) -> str:
    return f'include "{NAME}.image" (dict "image" {values} "version" .Chart.AppVersion)'


def _pod_monitor(manifest: Object) -> str:
    template = Template()
    prepared = _prepared(template, manifest, ".Values.monitoring.podMonitors.labels")
    for endpoint in prepared["spec"]["podMetricsEndpoints"]:
        endpoint["interval"] = template.expression(".Values.monitoring.podMonitors.interval")
    return template.text(prepared)


def _rules(manifest: Object) -> str:
    template = Template()
    prepared = _prepared(template, manifest, ".Values.monitoring.rules.labels")
    for group in prepared["spec"]["groups"]:
        for rule in group["rules"]:
            page = rule["annotations"]["runbook_url"].removeprefix(f"{_DOCS}/")
            address = template.expression(f".Values.{DOCS_URL}")
            rule["annotations"]["runbook_url"] = f"{address}/{page}"
    return template.text(prepared)


def _dashboard(manifest: Object) -> str:
    template = Template()
    (file,) = manifest["data"]
    manifest["metadata"].pop("labels")
    prepared = _prepared(template, manifest, ".Values.monitoring.dashboard.labels")

    def content(indent: int) -> str:
        pad = " " * indent
        links = f'replace "\\"{_DOCS}/" (printf "\\"%s/" .Values.{DOCS_URL})'
        text = f'.Files.Get "files/{file}" | {links} | indent {indent + 2}'
        return f"{pad}{file}: |\n{{{{ {text} }}}}"

    prepared["data"] = {template.lines(content): None}
    return template.text(prepared)


def _network_policy(manifest: Object) -> str:
    def change(template: Template, policy: Object) -> None:
        for rule in policy["spec"]["egress"]:
            ports: list[Mapping[str, Any]] = rule["ports"]
            if "to" not in rule:
                assert all(port["protocol"] == "TCP" for port in ports)
                rule["ports"] = [
                    template.lines(
                        raw(
                            "{{- range .Values.networkPolicy.apiServerPorts }}",
                            "- protocol: TCP",
                            "  port: {{ int . }}",
                            "{{- end }}",
                        )
                    )
                ]

    return _labelled(manifest, change)
