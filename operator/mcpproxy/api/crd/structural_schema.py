"""Conversion of a pydantic JSON schema to a structural schema of Kubernetes.

Structural schemas have no `$ref`, no `null` type and no `additionalProperties` next to
`properties`. The strict validation of the API server rejects unknown fields.
"""

from typing import Any

from pydantic import BaseModel

Schema = dict[str, Any]

_DROPPED = frozenset({"title", "default"})
_NULL = {"type": "null"}


def to_structural_schema(model: type[BaseModel]) -> Schema:
    """Return the structural schema of `model`, with descriptions from its docstrings."""
    generated = model.model_json_schema(by_alias=True)
    definitions = generated.pop("$defs", {})
    return _convert(generated, definitions)


def _convert(schema: Schema, definitions: dict[str, Schema]) -> Schema:
    resolved = _without_null(_resolve(schema, definitions), definitions)
    result = {key: value for key, value in resolved.items() if key not in _DROPPED}
    if "const" in result:
        result["enum"] = [result.pop("const")]
    if "properties" in result:
        result.pop("additionalProperties", None)
        result["properties"] = {
            name: _convert(field, definitions) for name, field in result["properties"].items()
        }
    for key in ("items", "additionalProperties"):
        if isinstance(result.get(key), dict):
            result[key] = _convert(result[key], definitions)
    if "description" in result:
        result["description"] = _paragraphs(result["description"])
    first: Schema = {key: result[key] for key in ("description", "type") if key in result}
    return {**first, **result}


def _resolve(schema: Schema, definitions: dict[str, Schema]) -> Schema:
    """Return the definition that `schema` refers to, overridden by the other keys of `schema`."""
    if "$ref" not in schema:
        return schema
    own = {key: value for key, value in schema.items() if key != "$ref"}
    return _override(definitions[schema["$ref"].removeprefix("#/$defs/")], own)


def _override(definition: Schema, own: Schema) -> Schema:
    """Return `definition` with the keys of `own`, whose description gets the facts of the other."""
    merged = {**definition, **own}
    if "description" in own and "description" in definition:
        merged["description"] = _merge_descriptions(own["description"], definition["description"])
    return merged


def _merge_descriptions(field: str, model: str) -> str:
    """Insert all sentences of `model` but the first, which is a summary, before the default of
    `field`."""
    _, _, facts = _paragraphs(model).replace("\n\n", " ").partition(". ")
    text, default, value = _paragraphs(field).rpartition("Default: ")
    if not default:
        text, value = value, ""
    return " ".join(filter(None, (text.strip(), facts, default + value)))


def _without_null(schema: Schema, definitions: dict[str, Schema]) -> Schema:
    choices = schema.get("anyOf", [])
    if _NULL not in choices:
        return schema
    (value,) = [choice for choice in choices if choice != _NULL]
    own = {key: value for key, value in schema.items() if key != "anyOf"}
    return _override(_resolve(value, definitions), own)


def _paragraphs(text: str) -> str:
    """Return `text` without the line breaks of its source. Blank lines still separate
    paragraphs."""
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))
