"""The sample manifests."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mcpproxy.api import manifest
from scripts.yaml_files import parse_documents, parse_yaml

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "samples"


OURS = sorted(
    path.stem for path in SAMPLES.glob("*.yaml") if "kind: MCPProxy" in path.read_text("utf-8")
)


def test_there_is_a_sample_of_the_least_and_of_the_most() -> None:
    assert {"minimal", "full", "demo"} < set(OURS)


@pytest.mark.parametrize("name", OURS)
def test_the_samples_are_valid(name: str) -> None:
    text = (SAMPLES / f"{name}.yaml").read_text(encoding="utf-8")
    assert manifest.load(text).metadata.name == name


def fields(schema: dict[str, Any], path: str = "") -> Iterator[str]:
    """The paths of all fields of a structural schema; `[]` stands for an item of a list."""
    if "items" in schema:
        yield from fields(schema["items"], f"{path}[]")
    for name, inner in schema.get("properties", {}).items():
        yield f"{path}.{name}"
        yield from fields(inner, f"{path}.{name}")


def used(value: Any, path: str = "") -> Iterator[str]:
    """The paths of all fields of a manifest."""
    if isinstance(value, list):
        for item in value:
            yield from used(item, f"{path}[]")
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield f"{path}.{name}"
            yield from used(inner, f"{path}.{name}")


def test_the_samples_use_every_field_of_the_crd() -> None:
    crd = parse_yaml((ROOT / "crds" / "mcpproxies.mcpproxy.dev.yaml").read_text("utf-8"))
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    shown = [parse_yaml((SAMPLES / f"{name}.yaml").read_text("utf-8")) for name in OURS]
    assert set(fields(schema)) - {field for item in shown for field in used(item["spec"])} == set()


def test_the_services_of_the_demo_exist_and_listen_on_the_named_ports() -> None:
    text = (SAMPLES / "demo-backends.yaml").read_text(encoding="utf-8")
    objects = parse_documents(text)
    offered = {
        (item["metadata"]["name"], port["port"])
        for item in objects
        if item["kind"] == "Service"
        for port in item["spec"]["ports"]
    }
    demo = manifest.load((SAMPLES / "demo.yaml").read_text(encoding="utf-8"))
    asked = {
        (backend.service.name, backend.service.port)
        for backend in demo.spec.backends
        if backend.service is not None
    }
    assert asked == offered


def test_the_demos_programs_are_in_the_repository() -> None:
    demo = manifest.load((SAMPLES / "demo.yaml").read_text(encoding="utf-8"))
    scripts = [
        argument
        for backend in demo.spec.backends
        if backend.stdio is not None
        for argument in backend.stdio.args or []
    ]
    assert scripts
    assert all((ROOT / script).is_file() for script in scripts)
