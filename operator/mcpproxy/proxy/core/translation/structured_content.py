"""Translation of structured tool results; the legacy era allows objects only.

Tools of modern backends may return any JSON value as structured content, with any JSON Schema. For
legacy clients, a value that is not an object (null, for example) becomes the field `result` of an
object, as in the official SDKs for functions that return a list or a text.
"""

import re
from collections.abc import Sequence
from typing import Any, Final

from msgspec import Raw

from mcpproxy.proxy.protocol import jsonrpc

MEMBER: Final = "result"
_DEFINITIONS: Final = ("$defs", "definitions")
_LOCAL: Final = re.compile(rb'"\$(?:ref|dynamicRef)"\s*:\s*"#(?!/\$defs/|/definitions/)')
"""References into a schema that would break once it is nested in another schema."""
_NOT_OBJECT: Final = re.compile(rb'"structuredContent"\s*:\s*[^{\s]')
MAX_STEPS: Final = 64
"""Number of subschemas to examine before the type of a schema counts as unknown."""


def may_hold_other_values(result: bytes) -> bool:
    """Return True if the structured content of a result may be something other than an object."""
    return b'"structuredContent"' in result and _NOT_OBJECT.search(result) is not None


def to_legacy_content(content: Raw) -> Raw:
    """Return structured content for a legacy client."""
    return content if bytes(content)[:1] == b"{" else jsonrpc.encode_raw({MEMBER: content})


def to_legacy_tools(body: bytes) -> bytes:
    """Return a list of tools for legacy clients; the same bytes object if nothing changes."""
    if b'"outputSchema"' not in body:
        return body
    before = jsonrpc.decode_array(Raw(body))
    after = [_legacy_tool(item) for item in before]
    if all(new is old for new, old in zip(after, before, strict=True)):
        return body
    return b"[" + b",".join(map(bytes, after)) + b"]"


def _legacy_tool(item: Raw) -> Raw:
    if b'"outputSchema"' not in bytes(item):
        return item
    tool = jsonrpc.decode_object(item)
    original = tool.get("outputSchema")
    if original is None or original == jsonrpc.NULL:
        return item
    schema = jsonrpc.decode(original)
    if isinstance(schema, dict) and schema.get("type") == "object":
        return item
    changed = _legacy_schema(schema, bytes(original))
    if changed is None:
        del tool["outputSchema"]
    else:
        tool["outputSchema"] = jsonrpc.encode_raw(changed)
    return jsonrpc.encode_raw(tool)


def _legacy_schema(schema: Any, written: bytes) -> dict[str, Any] | None:
    """Return an equivalent schema of objects, or None if there is none."""
    if not isinstance(schema, dict):
        return None
    objects = _Shape(schema).objects(schema)
    if objects:
        return {**schema, "type": "object"}
    if objects is None or (_LOCAL.search(written) is not None and "$id" not in schema):
        return None
    within = {name: value for name, value in schema.items() if name not in _DEFINITIONS}
    hoisted = {name: schema[name] for name in _DEFINITIONS if name in schema}
    dialect = {"$schema": within.pop("$schema")} if "$schema" in within else {}
    return {
        **dialect,
        "type": "object",
        "properties": {MEMBER: within},
        "required": [MEMBER],
        **hoisted,
    }


class _Shape:
    """Test of whether a schema admits objects."""

    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root
        self._steps = 0

    def objects(self, schema: Any) -> bool | None:
        """Return True if it admits objects only, False if it admits none, and None if undecided."""
        self._steps += 1
        if self._steps > MAX_STEPS or not isinstance(schema, dict):
            return None
        declared = schema.get("type")
        if declared is not None:
            kinds = declared if isinstance(declared, list) else [declared]
            return _common_value([kind == "object" for kind in kinds])
        if "const" in schema or isinstance(schema.get("enum"), list):
            values = schema["enum"] if "enum" in schema else [schema["const"]]
            return _common_value([isinstance(value, dict) for value in values])
        if "$ref" in schema:
            return self.objects(self._resolve(schema["$ref"]))
        for combination in ("anyOf", "oneOf"):
            if isinstance(schema.get(combination), list):
                return _common_value([self.objects(subschema) for subschema in schema[combination]])
        if isinstance(schema.get("allOf"), list):
            verdicts = [
                verdict
                for subschema in schema["allOf"]
                if (verdict := self.objects(subschema)) is not None
            ]
            return _common_value(verdicts)
        return None

    def _resolve(self, reference: Any) -> Any:
        parts = reference.split("/") if isinstance(reference, str) else []
        if len(parts) != 3 or parts[0] != "#" or parts[1] not in _DEFINITIONS:
            return None
        definitions = self._root.get(parts[1])
        return definitions.get(parts[2]) if isinstance(definitions, dict) else None


def _common_value(values: Sequence[bool | None]) -> bool | None:
    return values[0] if values and all(value is values[0] for value in values) else None
