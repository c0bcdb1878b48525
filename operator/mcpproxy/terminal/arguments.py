"""Arguments of a tool on the command line: `name=value`, typed by the tool's input schema."""

import difflib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}


class ArgumentError(ValueError):
    """An argument does not fit the tool; the message names it and the remedy."""


def parse_arguments(
    words: Sequence[str], text: str | None, schema: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the arguments of a call.

    `words` are `name=value`, or `name:=JSON` for a value of any type; `text` is a JSON object with
    further arguments, or None; `schema` is the tool's `inputSchema`. Raise ArgumentError.
    """
    arguments = {} if text is None else _parse_object(text)
    properties = _object(schema.get("properties"))
    for word in words:
        name, value = _parse_word(word, properties)
        if name in arguments:
            raise ArgumentError(f"{name} is given twice")
        arguments[name] = value
    _check_names(arguments, schema, properties)
    return arguments


def describe_arguments(schema: Mapping[str, Any]) -> str:
    """Return the arguments of a tool in one line, optional ones in brackets."""
    required = _names(schema.get("required"))
    texts = []
    for name, member in _object(schema.get("properties")).items():
        text = f"{name}={'|'.join(_types_of(member)) or 'any'}"
        texts.append(text if name in required else f"[{text}]")
    return " ".join(texts)


def _parse_object(text: str) -> dict[str, Any]:
    value = _parse_json("--json", text)
    if not isinstance(value, dict):
        raise ArgumentError(f"--json: expected a JSON object, found {_kind(value)}")
    return value


def _parse_word(word: str, properties: Mapping[str, Any]) -> tuple[str, Any]:
    name, equals, value = word.partition("=")
    if not equals or not name.removesuffix(":"):
        raise ArgumentError(f"{word!r}: expected name=value, or name:=JSON")
    if name.endswith(":") and name not in properties:
        name = name[:-1]
        return name, _parse_json(name, value)
    return name, _typed(name, value, _types_of(properties.get(name)))


def _typed(name: str, text: str, types: Sequence[str]) -> Any:
    """Return the value of a text as the first type of the schema that it fits."""
    if "string" in types or not types:
        others = [kind for kind in types if kind != "string"]
        value = _json_or_none(text) if others else None
        return value if value is not None and _fits(value, others) else text
    value = _json_or_none(text)
    if value is None and text != "null":
        raise ArgumentError(f"{name}: expected {' or '.join(types)}, found {text!r}")
    if not _fits(value, types):
        raise ArgumentError(f"{name}: expected {' or '.join(types)}, found {_kind(value)} {text}")
    return value


def _check_names(
    arguments: Mapping[str, Any], schema: Mapping[str, Any], properties: Mapping[str, Any]
) -> None:
    missing = [name for name in _names(schema.get("required")) if name not in arguments]
    if missing:
        raise ArgumentError(f"{missing[0]} is required; arguments: {describe_arguments(schema)}")
    if schema.get("additionalProperties") is not False or "patternProperties" in schema:
        return
    for name in arguments:
        if name not in properties:
            near = difflib.get_close_matches(name, properties, 1)
            hint = f"did you mean {near[0]}?" if near else "the tool has "
            hint += "" if near else describe_arguments(schema) or "no arguments"
            raise ArgumentError(f"{name} is not an argument of the tool; {hint}")


def _types_of(member: Any) -> list[str]:
    """Return the JSON types that a schema allows, as far as it names them; empty for any type."""
    if not isinstance(member, dict):
        return []
    kind = member.get("type")
    if isinstance(kind, str):
        return [kind] if kind in _TYPES else []
    if isinstance(kind, list):
        return [name for name in kind if isinstance(name, str) and name in _TYPES]
    if isinstance(values := member.get("enum"), list):
        return list(dict.fromkeys(_kind(value) for value in values))
    parts = [part for key in ("anyOf", "oneOf") for part in _list(member.get(key))]
    types = [_types_of(part) for part in parts]
    if not all(types):
        return []
    return list(dict.fromkeys(name for names in types for name in names))


def _fits(value: Any, types: Sequence[str]) -> bool:
    if isinstance(value, bool):
        return "boolean" in types
    if isinstance(value, float) and value.is_integer() and "integer" in types:
        return True
    return any(isinstance(value, _TYPES[kind]) for kind in types)


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    return next(name for name, types in _TYPES.items() if isinstance(value, types))


def _parse_json(name: str, text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ArgumentError(f"{name}: invalid JSON: {error}") from None


def _json_or_none(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return None


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _names(value: Any) -> list[str]:
    return [name for name in _list(value) if isinstance(name, str)]
