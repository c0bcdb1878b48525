"""Pydantic's JSON schema of a model, made a structural schema of Kubernetes.

Structural schemas know no `$ref`, no `null` type and no `additionalProperties` beside
`properties`; unknown fields are refused by the API server's own strict validation.
"""

from typing import Any

from pydantic import BaseModel

Schema = dict[str, Any]

_DROPPED = frozenset({"title", "default"})
_NULL = {"type": "null"}


def to_structural_schema(model: type[BaseModel]) -> Schema:
    """The structural schema of `model`, described by its docstrings."""
    generated = model.model_json_schema(by_alias=True)
    definitions = generated.pop("$defs", {})
    return _converted(generated, definitions)


def _converted(schema: Schema, definitions: dict[str, Schema]) -> Schema:
    found = _without_null(_resolved(schema, definitions), definitions)
    result = {key: value for key, value in found.items() if key not in _DROPPED}
    if "const" in result:
        result["enum"] = [result.pop("const")]
    if "properties" in result:
        result.pop("additionalProperties", None)
        result["properties"] = {
            name: _converted(field, definitions) for name, field in result["properties"].items()
        }
    for key in ("items", "additionalProperties"):
        if isinstance(result.get(key), dict):
            result[key] = _converted(result[key], definitions)
    if "description" in result:
        result["description"] = _paragraphs(result["description"])
    first: Schema = {key: result[key] for key in ("description", "type") if key in result}
    return {**first, **result}


def _resolved(schema: Schema, definitions: dict[str, Schema]) -> Schema:
    """The definition that `schema` refers to; what stands beside the reference wins."""
    if "$ref" not in schema:
        return schema
    own = {key: value for key, value in schema.items() if key != "$ref"}
    return {**definitions[schema["$ref"].removeprefix("#/$defs/")], **own}


def _without_null(schema: Schema, definitions: dict[str, Schema]) -> Schema:
    choices = schema.get("anyOf", [])
    if _NULL not in choices:
        return schema
    (value,) = [choice for choice in choices if choice != _NULL]
    own = {key: value for key, value in schema.items() if key != "anyOf"}
    return {**_resolved(value, definitions), **own}


def _paragraphs(text: str) -> str:
    """`text` with the line breaks of its source gone; blank lines still part paragraphs."""
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))
