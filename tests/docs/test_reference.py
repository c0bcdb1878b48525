"""The reference is what the models say, and says all of it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.reference import PAGE, render
from scripts.yaml_files import parse_documents
from tests.support.crd import spec_schema

ROOT = Path(__file__).parents[2]
TEXT = PAGE.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def fields() -> dict[str, str]:
    """The description of each field of the spec."""
    return dict(_fields(spec_schema()))


def _fields(schema: dict[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """The path of each field below a schema, with its description."""
    for name, field in schema.get("properties", {}).items():
        yield f"{above}.{name}", field.get("description", "")
        yield from _fields(field, f"{above}.{name}")
    for inner in (schema.get("items"), schema.get("additionalProperties")):
        if isinstance(inner, dict):
            yield from _fields(inner, above)


def test_the_reference_is_up_to_date() -> None:
    assert render() == TEXT, "run: make reference"


def test_every_field_has_a_row_with_its_description(fields: dict[str, str]) -> None:
    rows = {line for line in TEXT.splitlines() if line.startswith("|")}
    for path, description in fields.items():
        name = path.rpartition(".")[2]
        said = " ".join(description.split()).replace("|", "\\|")
        assert any(re.match(rf"\| (\*\*)?`{name}`", row) and said in row for row in rows), name


def _given(value: Any, above: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for name, field in value.items():
            yield f"{above}.{name}"
            yield from _given(field, f"{above}.{name}")
    elif isinstance(value, list):
        for entry in value:
            yield from _given(entry, above)


def test_every_field_is_in_some_sample(fields: dict[str, str]) -> None:
    shown: set[str] = set()
    for file in (ROOT / "samples").glob("*.yaml"):
        for document in parse_documents(file.read_text(encoding="utf-8")):
            if document and document.get("kind") == "MCPProxy":
                shown.update(_given(document["spec"]))
    assert fields.keys() - shown == set()


def test_every_link_within_leads_to_a_heading() -> None:
    headings = re.findall(r"^## (.*)$", TEXT, re.MULTILINE)
    anchors = {
        re.sub(r"[^a-z0-9_ -]", "", heading.lower()).replace(" ", "-") for heading in headings
    }
    assert len(anchors) == len(headings)
    linked = re.findall(r"\]\(#([^)]*)\)", TEXT)
    assert len(linked) > 40
    assert set(linked) <= anchors
