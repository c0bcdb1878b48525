"""Structured results between the eras: the legacy one knows objects alone.

A tool of a modern backend may have any JSON value for its structured result, and any JSON Schema
for its shape. A legacy client gets what is no object as the member `result` of one, as the
official SDKs do it where a function returns a list or a text.
"""

import re
from collections.abc import Sequence
from typing import Any, Final

from msgspec import Raw

from mcpproxy.proxy.protocol import jsonrpc

MEMBER: Final = "result"
_DEFINITIONS: Final = ("$defs", "definitions")
_LOCAL: Final = re.compile(rb'"\$(?:ref|dynamicRef)"\s*:\s*"#(?!/\$defs/|/definitions/)')
"""References into a schema that would lead elsewhere once it is a part of another one."""
_NOT_OBJECT: Final = re.compile(rb'"structuredContent"\s*:\s*[^{n\s]')
MAX_STEPS: Final = 64
"""Parts of a schema that are looked at before its shape counts as unknown."""


def may_hold_other_values(result: bytes) -> bool:
    """Whether the structured content of a result may be no object."""
    return b'"structuredContent"' in result and _NOT_OBJECT.search(result) is not None


def to_legacy_content(content: Raw) -> Raw:
    """Structured content for a legacy client; null, which stands for none, stays."""
    return content if bytes(content)[:1] in (b"{", b"n") else jsonrpc.encode_raw({MEMBER: content})


def to_legacy_tools(body: bytes) -> bytes:
    """A list of tools for legacy clients; the same object where nothing has to change."""
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
    given = tool.get("outputSchema")
    if given is None or given == jsonrpc.NULL:
        return item
    schema = jsonrpc.decode(given)
    if isinstance(schema, dict) and schema.get("type") == "object":
        return item
    changed = _legacy_schema(schema, bytes(given))
    if changed is None:
        del tool["outputSchema"]
    else:
        tool["outputSchema"] = jsonrpc.encode_raw(changed)
    return jsonrpc.encode_raw(tool)


def _legacy_schema(schema: Any, written: bytes) -> dict[str, Any] | None:
    """A schema of objects in its place; None where no such schema says the same."""
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
    """Finds out whether a schema admits objects."""

    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root
        self._steps = 0

    def objects(self, schema: Any) -> bool | None:
        """True where it admits nothing else, False where it admits none; None: who knows."""
        self._steps += 1
        if self._steps > MAX_STEPS or not isinstance(schema, dict):
            return None
        given = schema.get("type")
        if given is not None:
            kinds = given if isinstance(given, list) else [given]
            return _agreed([kind == "object" for kind in kinds])
        if "const" in schema or isinstance(schema.get("enum"), list):
            values = schema["enum"] if "enum" in schema else [schema["const"]]
            return _agreed([isinstance(value, dict) for value in values])
        if "$ref" in schema:
            return self.objects(self._referred(schema["$ref"]))
        for several in ("anyOf", "oneOf"):
            if isinstance(schema.get(several), list):
                return _agreed([self.objects(one) for one in schema[several]])
        if isinstance(schema.get("allOf"), list):
            known = [found for one in schema["allOf"] if (found := self.objects(one)) is not None]
            return _agreed(known)
        return None

    def _referred(self, reference: Any) -> Any:
        parts = reference.split("/") if isinstance(reference, str) else []
        if len(parts) != 3 or parts[0] != "#" or parts[1] not in _DEFINITIONS:
            return None
        definitions = self._root.get(parts[1])
        return definitions.get(parts[2]) if isinstance(definitions, dict) else None


def _agreed(found: Sequence[bool | None]) -> bool | None:
    return found[0] if found and all(one is found[0] for one in found) else None
