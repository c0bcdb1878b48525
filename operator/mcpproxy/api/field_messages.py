"""Messages about the fields of an MCPProxy that pydantic found to be invalid. Pure."""

import json
import re
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, get_args

from pydantic import BaseModel, ValidationError

from mcpproxy.api.manifest_errors import Problem

MAX_SHOWN: Final = 60
"""Maximum length of a value in a message."""
_DURATION: Final = "must be a duration such as 5s, 1m30s or 250ms"
_HTTP: Final = "must begin with http:// or https:// and a host, without a user name or a fragment"
PATTERNS: Final[Mapping[str, str]] = {
    r"^https?://": _HTTP,
    r"^[a-z]([-a-z0-9]*[a-z0-9])?$": "must be lower case letters, digits and -, starting with a"
    " letter",
    r"^[a-z0-9]([-a-z0-9": "must be lower case letters, digits, - and . as in names of Kubernetes",
    r"^/": "must begin with / and have no query",
    r"^[A-Za-z_]": "must be a name of an environment variable: letters, digits and _",
    r"^[^\x00]*$": "must have no null character",
    r"^\.?[-_a-zA-Z0-9]": "must be letters, digits, -, _ and .",
    r"^[A-Za-z0-9!#$%&": "must be the name of an HTTP header: letters, digits and -",
    r"^[^\x00\r\n]*$": "must be one line",
    r"^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?": "must be a host name",
    r"^([0-9]+": _DURATION,
    r"^([1-9][0-9]{0,4})(ms": _DURATION,
    r"^[A-Za-z0-9_-]*$": "must be letters, digits, _ and -",
    r"^[A-Za-z0-9_./-]+$": "must be letters, digits, _, ., / and -",
    r"^[0-9a-f]{64}$": "must be a SHA-256 in 64 hexadecimal digits",
    r"^([A-Za-z0-9]([A-Za-z0-9._-]*": "must be the name of an extension, such as"
    " io.modelcontextprotocol/tasks",
    r"^[!-~]+$": "must be the name of an image, without spaces",
    r"^(\+?": "must be a quantity such as 500m or 256Mi",
    r"^(100|": "must be a percentage such as 50%",
    r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}": "must be the value of a label",
    r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.": "must be the key of a label",
    r"^[0-9A-Fa-f:.]+/": "must be a range of addresses such as 10.0.0.0/8",
    r"^(\*|((\*\.)?": "must be a host such as mcp.example.com or mcp.example.com:8443, without"
    " http://",
    r"^(\*|[A-Za-z]": "must be an origin such as https://app.example.com",
    r"^[^\x00-\x1f\x7f]+$": "must have no control characters",
    r"^[\x20-\x7e]+$": "must be printable ASCII characters",
    r"^[\x21-\x7e]+$": "must be printable ASCII characters without spaces",
    r"^([A-Za-z0-9._-]+|\[": "must be a host and a port, such as valkey.example.com:6379",
    r"^([a-z][a-z0-9+.-]*:[^": "must be an absolute URI without a fragment",
    r"^[!#-\[\]-~]+$": "must be a scope, without spaces and quotes",
    r"^[A-Za-z0-9][A-Za-z0-9._-]*$": "must be letters, digits, ., _ and -, starting with one of the"
    " first two",
    r"^([^\x00-\x20.]+\.)*": "must be a path such as user.email",
}
"""Beginning of a pattern in the models → requirement in words. The longest beginning counts."""
_KINDS: Final[Mapping[str, str]] = {
    "bool_type": "true or false",
    "dict_type": "a mapping",
    "float_type": "a number",
    "int_from_float": "an integer",
    "int_type": "an integer",
    "list_type": "a list",
    "model_type": "a mapping",
    "string_type": "a string",
}
_SIZES: Final[Mapping[str, str]] = {
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "string_too_long": "must have at most {max_length} characters",
    "string_too_short": "must have at least {min_length} characters",
    "too_long": "must have at most {max_length} entries",
    "too_short": "must have at least {min_length} entries",
}
_SECRET: Final = re.compile(r"(value|token|password|secret|authorization|key)\]?$", re.I)
"""Fields whose values are not shown."""


def problems_of(error: ValidationError, model: type[BaseModel]) -> Iterator[Problem]:
    """Yield a problem for each error of the validation of `model`."""
    items = error.errors(include_url=False)
    misspelled = {
        (*location[:-1], nearest(str(location[-1]), _fields(model, location[:-1])))
        for location in (item["loc"] for item in items if item["type"] == "extra_forbidden")
    }
    for item in items:
        location = item["loc"]
        if item["type"] == "missing" and location in misspelled:
            continue
        message = _message(item, model)
        field = _path(location)
        # Validators that know their field name it themselves.
        message = message.removeprefix(f"{field}: ").removeprefix(f"{field} ") if field else message
        yield Problem(message, field)


def _path(location: Sequence[int | str]) -> str:
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    return path


def _message(item: Mapping[str, Any], model: type[BaseModel]) -> str:
    kind, context, location = item["type"], item.get("ctx") or {}, item["loc"]
    shown = _shown(location, item.get("input"))
    if kind == "extra_forbidden":
        return unknown_field(str(location[-1]), _fields(model, location[:-1]))
    if kind == "missing":
        return "required field is missing; add it"
    if kind in ("literal_error", "enum"):
        allowed = re.findall(r"'([^']*)'", str(context.get("expected", "")))
        hint = did_you_mean(item.get("input"), allowed) if len(allowed) > 1 else ""
        return f"expected {_any_of(allowed)}{shown}{hint}"
    if kind in _KINDS:
        return f"expected {_KINDS[kind]}{shown or _shape(item.get('input'))}"
    if kind == "string_pattern_mismatch":
        return f"{describe_pattern(str(context['pattern']))}{shown}"
    if kind in _SIZES:
        return _SIZES[kind].format_map(context) + (
            shown if kind.endswith(("than", "equal")) else ""
        )
    return str(item["msg"]).removeprefix("Value error, ")


def describe_pattern(pattern: str) -> str:
    """Return the requirement of a pattern of the models in words."""
    fitting = [start for start in PATTERNS if pattern.startswith(start)]
    return PATTERNS[max(fitting, key=len)] if fitting else f"must match {pattern}"


def unknown_field(name: str, fields: Sequence[str]) -> str:
    """Return the message about a field that an object does not have."""
    hint = did_you_mean(name, fields)
    return f"unknown field{hint}" if hint else "unknown field; remove it or correct its spelling"


def did_you_mean(text: Any, choices: Sequence[str]) -> str:
    """Return `; did you mean X?` with the choice most similar to a text, or an empty text."""
    near = nearest(text, choices) if isinstance(text, str) else None
    return f"; did you mean {near}?" if near else ""


def nearest(text: str, choices: Sequence[str]) -> str | None:
    """Return the choice most similar to a text, or None if all differ too much."""
    import difflib  # Pods do without it.

    by_lower = {choice.lower(): choice for choice in choices}
    near = difflib.get_close_matches(text[:MAX_SHOWN].lower(), by_lower, 1)
    return by_lower[near[0]] if near else None


def _any_of(words: Sequence[str]) -> str:
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1] if words else ""]))


def _shown(location: Sequence[int | str], value: Any) -> str:
    """Return `, found VALUE` for a value that may be shown."""
    name = next((str(part) for part in reversed(location) if isinstance(part, str)), "")
    if not isinstance(value, str | int | float | bool) or _SECRET.search(name):
        return ""
    if isinstance(value, str) and ("@" in value or "?" in value):
        # URLs may contain credentials.
        return ""
    text = json.dumps(value, ensure_ascii=False)
    return f", found {text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + '…'}"


def _shape(value: Any) -> str:
    if value is None:
        return ", found nothing"
    if isinstance(value, dict | list):
        return ", found a mapping" if isinstance(value, dict) else ", found a list"
    return ", found a string" if isinstance(value, str) else ", found another value"


def _fields(model: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    """Return the names of the fields of the object at a location; empty if unknown."""
    current: type[BaseModel] | None = model
    for part in location:
        if isinstance(part, str) and current is not None:
            by_name = {info.alias or name: info for name, info in current.model_fields.items()}
            field = by_name.get(part)
            current = None if field is None else _model_in(field.annotation)
    if current is None:
        return []
    return [info.alias or name for name, info in current.model_fields.items()]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Return the model in an optional field or a list."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return annotation if issubclass(annotation, BaseModel) else None
    models = (_model_in(part) for part in get_args(annotation))
    return next((model for model in models if model is not None), None)
