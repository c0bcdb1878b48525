"""Structured results of any shape, as legacy clients get them."""

import json
from typing import Any

import pytest
from msgspec import Raw

from mcpproxy.proxy.core.translation.structured_content import (
    MAX_STEPS,
    may_hold_other_values,
    to_legacy_content,
    to_legacy_tools,
)

NODE = {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}}}
INT_LIST = {"type": "array", "items": {"type": "integer"}}


def _translated(schema: Any) -> Any:
    tool = {"name": "t", "inputSchema": {"type": "object"}, "outputSchema": schema}
    (load,) = json.loads(to_legacy_tools(json.dumps([tool]).encode()))
    return load.get("outputSchema")


@pytest.mark.parametrize(
    "schema",
    [
        INT_LIST,
        {"type": ["array", "null"]},
        {"enum": ["a", "b"]},
        {"const": 1},
        {"anyOf": [{"type": "string"}, {"type": "integer"}]},
        {"allOf": [{"type": "string"}, {"minLength": 1}]},
    ],
)
def test_a_schema_that_admits_no_object_becomes_the_schema_of_a_field(schema: Any) -> None:
    wanted = {"type": "object", "properties": {"result": schema}, "required": ["result"]}
    assert _translated(schema) == wanted


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#/$defs/Node", "$defs": {"Node": NODE}},
        {"anyOf": [{"type": "object"}, {"type": "object", "title": "b"}]},
        {"oneOf": [{"$ref": "#/definitions/A"}], "definitions": {"A": {"type": "object"}}},
    ],
)
def test_a_schema_that_admits_only_objects_has_the_type_object(schema: Any) -> None:
    assert _translated(schema) == {**schema, "type": "object"}


@pytest.mark.parametrize(
    "schema",
    [
        {},
        True,
        {"anyOf": [{"type": "object"}, {"type": "string"}]},
        {"type": ["object", "null"]},
        {"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/A"}}},
        {"$ref": "https://example.com/schema"},
        {"type": "array", "items": {"$ref": "#"}},
        {"type": "array", "items": {"$ref": "#/items"}},
        {"anyOf": [{"type": "object"}] * (MAX_STEPS + 1)},
    ],
)
def test_fields_unknown_to_the_legacy_era_are_left_out(schema: Any) -> None:
    assert _translated(schema) is None


def test_definitions_and_dialect_stay_where_references_find_them() -> None:
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "array",
        "items": {"$ref": "#/$defs/Node"},
        "$defs": {"Node": NODE},
    }
    assert _translated(schema) == {
        "$schema": schema["$schema"],
        "type": "object",
        "properties": {"result": {"type": "array", "items": {"$ref": "#/$defs/Node"}}},
        "required": ["result"],
        "$defs": {"Node": NODE},
    }


@pytest.mark.parametrize(
    "tools",
    [
        [],
        [{"name": "t"}],
        [{"name": "t", "outputSchema": {"type": "object"}}],
        [{"name": "t", "outputSchema": None}],
    ],
)
def test_a_list_without_modern_fields_stays_the_same_object(tools: Any) -> None:
    body = json.dumps(tools).encode()
    assert to_legacy_tools(body) is body


@pytest.mark.parametrize("value", [[1], "x", 1, False, None])
def test_content_other_than_an_object_becomes_the_field_of_an_object(value: Any) -> None:
    content = json.dumps(value).encode()
    assert json.loads(bytes(to_legacy_content(Raw(content)))) == {"result": value}
    assert may_hold_other_values(b'{"structuredContent": ' + content + b"}")


def test_content_that_is_an_object_is_unchanged() -> None:
    content = Raw(b'{"result": [1]}')
    assert to_legacy_content(content) is content
    assert not may_hold_other_values(b'{"structuredContent": {"a":[1]}}')
    assert not may_hold_other_values(b'{"content":[{"text":"structuredContent"}]}')
