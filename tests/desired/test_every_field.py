"""No field of the contract is without effect: taking it away or changing it changes a child.

A field that the runtime heeds changes what the pods mount; that the runtime then does something
else is for tests/fields to say. Any other field changes something besides that.
"""

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from mcpproxy import desired
from mcpproxy.api import manifest
from mcpproxy.api.manifest_errors import ManifestError
from mcpproxy.desired import config_map
from scripts.yaml_files import parse_documents
from tests.fields.schema import is_the_runtimes, leaves
from tests.samples.test_samples import OURS, SAMPLES
from tests.support.builders import OPTIONS, OWNER

IN_CLUSTER = replace(OPTIONS, operator_namespace="mcpproxy-system")
_NODES = ".podTemplate.affinity.nodeAffinity"
_TERMS = f"{_NODES}.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[]"
_PREFERENCE = f"{_NODES}.preferredDuringSchedulingIgnoredDuringExecution[].preference"
WITHOUT_CHILD = {
    f"{_TERMS}.matchFields[].key",
    f"{_PREFERENCE}.matchFields[].key",
    ".suspend",
    ".catalog.approvedHash",
    ".backends[].optional",
    ".backends[].auth.passthrough",
    ".authentication.jwt[].insecureHttp",
    ".backends[].auth.clientCredentials.insecureHttp",
    ".backends[].auth.tokenExchange.insecureHttp",
    ".backends[].auth.tokenExchange.actor.client",
    ".backends[].auth.idJag.insecureHttp",
    ".backends[].auth.idJag.identityProvider.insecureHttp",
    ".authorization.rules[].who.any",
}
"""The first keeps the operator from bringing about what the others ask for; with the next two it
judges what the pods report. The others permit what other fields ask for, or have no second value:
without them, or with false, what holds them is refused."""


def places(value: Any, path: str = "") -> Iterator[tuple[str, Any, str]]:
    """Every field below `value`: its path in the schema, what holds it, its name there."""
    if isinstance(value, list):
        for item in value:
            yield from places(item, f"{path}[]")
    elif isinstance(value, dict):
        for name in list(value):
            yield f"{path}.{name}", value, name
            yield from places(value[name], f"{path}.{name}")


def others(value: Any) -> list[Any]:
    """Values that a field might have in place of this one."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, value - 1]
    if isinstance(value, list):
        return [result for item in value[:1] for result in ([*value, f"{item}x"], [f"{item}0"])]
    if isinstance(value, str):
        words = (
            "Always",
            "Exists",
            "DoesNotExist",
            "In",
            "NotIn",
            "Lt",
            "DoNotSchedule",
            "ScheduleAnyway",
            "NodePort",
            "UDP",
            "None",
            "other.example.com:6379",
            "https://other.example.com/otlp",
            "Report",
            "f" * 64,
        )
        return [f"{value}x", "7s", "0.0.0.0/0", "10.2.3.0/26", "192.0.2.2/32", *words]
    return []


def children(whole: dict[str, Any], *, mounted: bool) -> str | None:
    """Return the mounted files of the pods, or all other children; None for refused manifests."""
    try:
        proxy = manifest.parse(whole)
    except ManifestError:
        return None
    if mounted:
        return manifest.runtime_manifest(proxy)
    built = [
        item for item in desired.build(proxy, IN_CLUSTER, OWNER) if item["kind"] != "ConfigMap"
    ]
    return json.dumps(built).replace(config_map.name(proxy), "what is mounted")


def has_effect(whole: dict[str, Any], path: str, holder: Any, name: str) -> bool:
    """Return True if some other value of this field, or none, changes the children."""
    mounted = is_the_runtimes(path)
    before, value = children(whole, mounted=mounted), holder[name]
    assert before is not None
    try:
        del holder[name]
        if children(whole, mounted=mounted) not in (None, before):
            return True
        for other in others(value):
            holder[name] = other
            if children(whole, mounted=mounted) not in (None, before):
                return True
    finally:
        holder[name] = value
    return False


def test_every_field_changes_the_children_of_an_mcpproxy() -> None:
    effective: set[str] = set()
    for name in OURS:
        text = (SAMPLES / f"{name}.yaml").read_text(encoding="utf-8")
        whole = copy.deepcopy(next(d for d in _documents(text) if d["kind"] == "MCPProxy"))
        for path, holder, field in places(whole["spec"]):
            if path not in effective and has_effect(whole, path, holder, field):
                effective.add(path)
    assert leaves() - effective == WITHOUT_CHILD


def _documents(text: str) -> list[dict[str, Any]]:
    return [document for document in parse_documents(text) if document]
