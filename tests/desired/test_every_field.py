"""No field of the contract is without effect: taking it away or changing it changes a child."""

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import yaml

from mcpproxy import desired
from mcpproxy.api import crd, manifest
from tests.builders import OPTIONS, OWNER
from tests.samples.test_samples import OURS, SAMPLES, fields

IN_CLUSTER = replace(OPTIONS, operator_namespace="mcpproxy-system")
WITHOUT_CHILD = {".suspend", ".catalog.approvedHash"}
"""The one keeps the operator from bringing about what the others ask for; with the other the
operator compares what the pods report."""


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
        return [found for one in value[:1] for found in ([*value, f"{one}x"], [f"{one}0"])]
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
            "https://other.example.com/otlp",
            "Report",
            "f" * 64,
        )
        return [f"{value}x", "7s", "0.0.0.0/0", "10.2.3.0/26", "192.0.2.2/32", *words]
    return []


def children(whole: dict[str, Any]) -> str | None:
    """All children, in bytes; None if the manifest is refused."""
    try:
        proxy = manifest.parse(whole)
    except manifest.ManifestError:
        return None
    return json.dumps(desired.build(proxy, IN_CLUSTER, OWNER))


def has_effect(whole: dict[str, Any], holder: Any, name: str) -> bool:
    """Whether some other value of this field, or none, makes other children."""
    before, value = children(whole), holder[name]
    assert before is not None
    try:
        del holder[name]
        if children(whole) not in (None, before):
            return True
        for other in others(value):
            holder[name] = other
            if children(whole) not in (None, before):
                return True
    finally:
        holder[name] = value
    return False


def test_every_field_changes_what_is_made_of_an_mcpproxy() -> None:
    (version,) = crd.definition()["spec"]["versions"]
    every = set(fields(version["schema"]["openAPIV3Schema"]["properties"]["spec"]))
    effective: set[str] = set()
    for name in OURS:
        text = (SAMPLES / f"{name}.yaml").read_text(encoding="utf-8")
        whole = copy.deepcopy(next(d for d in _documents(text) if d["kind"] == "MCPProxy"))
        for path, holder, field in places(whole["spec"]):
            if path not in effective and has_effect(whole, holder, field):
                effective.add(path)
    leaves = {path for path in every if not any(one.startswith(f"{path}.") for one in every)}
    leaves -= {path for path in every if any(one.startswith(f"{path}[]") for one in every)}
    assert leaves - effective == WITHOUT_CHILD


def _documents(text: str) -> list[dict[str, Any]]:
    return [found for found in yaml.safe_load_all(text) if found]
