"""The generated CRD: what it says, and that the committed file is what is generated."""

import functools
from pathlib import Path
from typing import Any

import pytest
import yaml

from mcpproxy.cli import main
from scripts.yaml_files import LOADER
from tests.support.crd import version

CRD_FILE = Path(__file__).parents[2] / "crds" / "mcpproxies.mcpproxy.dev.yaml"
# What KEP-1111 and KEP-2335 forbid or what would drift under GitOps.
FORBIDDEN = {"$ref", "$defs", "title", "const", "default", "nullable", "oneOf", "allOf"}


def schemas(schema: dict[str, Any], path: str = "") -> list[tuple[str, dict[str, Any]]]:
    """Every schema below `schema`, with its path."""
    below = [(f"{path}.{name}", field) for name, field in schema.get("properties", {}).items()]
    below += [
        (f"{path}[{key}]", schema[key])
        for key in ("items", "additionalProperties")
        if isinstance(schema.get(key), dict)
    ]
    return [(path, schema), *[result for at, item in below for result in schemas(item, at)]]


@functools.cache
def all_schemas() -> list[tuple[str, dict[str, Any]]]:
    return schemas(version()["schema"]["openAPIV3Schema"])


def test_the_committed_crd_is_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["crd"]) == 0
    assert capsys.readouterr().out == CRD_FILE.read_text(), f"run: mcpproxy crd > {CRD_FILE.name}"


def test_the_file_has_no_anchors() -> None:
    text = CRD_FILE.read_text()
    assert not any(isinstance(token, yaml.AnchorToken) for token in yaml.scan(text, Loader=LOADER))


def test_the_schema_has_nothing_that_is_not_structural_and_no_default_but_that_of_the_status() -> (
    None
):
    for path, schema in all_schemas():
        allowed = {"default"} if path == ".status" else set()
        assert not (FORBIDDEN - allowed) & schema.keys(), path
        assert "type" in schema or schema.get("x-kubernetes-int-or-string"), path
        assert not ("properties" in schema and "additionalProperties" in schema), path


def test_every_field_is_described_for_kubectl_explain() -> None:
    unsaid = [
        path
        for path, schema in all_schemas()
        if not path.endswith("]") and path != ".metadata" and not schema.get("description")
    ]
    assert unsaid == []


def test_descriptions_do_not_carry_the_line_breaks_of_the_source() -> None:
    for path, schema in all_schemas():
        for paragraph in schema.get("description", "").split("\n\n"):
            assert "\n" not in paragraph, path


def test_every_list_text_and_map_of_the_spec_is_bounded_for_the_cost_of_cel() -> None:
    bounds = {"array": "maxItems", "string": "maxLength"}
    for path, schema in schemas(version()["schema"]["openAPIV3Schema"]["properties"]["spec"]):
        bound = bounds.get(schema.get("type", ""))
        if bound and "enum" not in schema and ".annotations" not in path:
            assert bound in schema, path
        if isinstance(schema.get("additionalProperties"), dict):
            assert "maxProperties" in schema, path


def test_columns_are_those_of_the_design() -> None:
    columns = version()["additionalPrinterColumns"]
    assert [column["name"] for column in columns if "priority" not in column] == [
        *("Ready", "Status", "Backends", "Tools", "Pods", "Age")
    ]
    assert [item["name"] for item in columns if item.get("priority") == 1] == [
        *("URL", "Prompts", "Resources", "Session", "Reason", "Message")
    ]


def test_columns_and_scale_point_at_fields_that_exist() -> None:
    known = {path for path, _ in all_schemas()} | {".metadata.creationTimestamp"}
    scale = version()["subresources"]["scale"]
    paths = [
        additionalprintercolumn["jsonPath"]
        for additionalprintercolumn in version()["additionalPrinterColumns"]
    ]
    for path in [*paths, *scale.values()]:
        assert path.replace('[?(@.type=="Ready")]', "[items]") in known, path
