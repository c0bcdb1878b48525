"""MCP's HTTP headers (2026-07-28, basic/transports: standard and custom headers)."""

import base64
import binascii
import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

PROTOCOL_VERSION: Final = b"mcp-protocol-version"
SESSION_ID: Final = b"mcp-session-id"
METHOD: Final = b"mcp-method"
NAME: Final = b"mcp-name"
PARAM_PREFIX: Final = b"mcp-param-"
LAST_EVENT_ID: Final = b"last-event-id"

JSON: Final = b"application/json"
EVENT_STREAM: Final = b"text/event-stream"
"""Media types of messages, one by one and in streams."""

NAME_MEMBER: Final[Mapping[str, str]] = {
    "tools/call": "name",
    "prompts/get": "name",
    "resources/read": "uri",
    # Of the extension for tasks.
    "tasks/get": "taskId",
    "tasks/update": "taskId",
    "tasks/cancel": "taskId",
}
"""Which member of params the header Mcp-Name repeats."""

MAX_KEPT: Final = 128
"""Length up to which values are kept with what they stand for."""
_SENTINEL = re.compile(r"=\?base64\?(.*)\?=")
_SAFE = re.compile(r"[\x20-\x7e]*")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_HEADER_TYPES = ("string", "integer", "boolean")

Path = tuple[str, ...]


def encode_value(text: str) -> bytes:
    """A header value that stands for `text`: itself, or base64 where that would not survive."""
    # Methods and names come again and again.
    return _encoded_short(text) if len(text) <= MAX_KEPT else _encoded(text)


def _encoded(text: str) -> bytes:
    if _SAFE.fullmatch(text) and text == text.strip() and not _SENTINEL.fullmatch(text):
        return text.encode("ascii")
    return b"=?base64?" + base64.b64encode(text.encode("utf-8", "surrogatepass")) + b"?="


_encoded_short = functools.lru_cache(maxsize=1024)(_encoded)


def decode_value(header: bytes) -> str | None:
    """The text that a header value stands for; None when its base64 form is broken."""
    return _decoded_short(header) if len(header) <= MAX_KEPT else _decoded(header)


def _decoded(header: bytes) -> str | None:
    # Blanks around a field's value are none of it (RFC 9110, section 5.5).
    text = header.decode("latin-1").strip(" \t")
    found = _SENTINEL.fullmatch(text)
    if found is None:
        return text
    try:
        decoded = base64.b64decode(found[1], validate=True)
        if base64.b64encode(decoded).decode("ascii") != found[1]:
            return None
        return decoded.decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        return None


_decoded_short = functools.lru_cache(maxsize=1024)(_decoded)


def header_properties(schema: Any) -> Iterator[tuple[Path, str]]:
    """Properties of a tool's input schema that are repeated in headers: (path, header token).

    Only properties reachable from the root through `properties` alone count.
    """
    pending: list[tuple[Path, Any]] = [((), schema)]
    while pending:
        path, node = pending.pop()
        if not isinstance(node, dict):
            continue
        token = node.get("x-mcp-header")
        allowed = path and node.get("type") in _HEADER_TYPES
        if allowed and isinstance(token, str) and _TOKEN.fullmatch(token):
            yield path, token
        properties = node.get("properties")
        if isinstance(properties, dict):
            pending += [((*path, name), sub) for name, sub in properties.items()]


def param_headers(
    properties: Iterable[tuple[Path, str]], arguments: Any
) -> list[tuple[bytes, bytes]]:
    """The Mcp-Param-* headers that repeat `arguments`; absent and null values have none."""
    headers = []
    for path, token in properties:
        text = _rendered(_at(arguments, path))
        if text is not None:
            headers.append((PARAM_PREFIX + token.lower().encode(), encode_value(text)))
    return headers


def _at(node: Any, path: Path) -> Any:
    for key in path:
        if not isinstance(node, dict):
            return None
        node = node.get(key)
    return node


def _rendered(found: Any) -> str | None:
    if isinstance(found, bool):
        return "true" if found else "false"
    return str(found) if isinstance(found, str | int | float) else None


@functools.lru_cache(maxsize=256)
def accepts(header: bytes | None, media_type: bytes) -> bool:
    """Whether an Accept header admits a media type; an absent header admits everything."""
    if header is None:
        return True
    family = media_type.split(b"/")[0] + b"/*"
    for part in header.lower().split(b","):
        offered, _, parameters = part.partition(b";")
        if offered.strip() in (media_type, family, b"*/*"):
            return re.search(rb"\bq=0(\.0*)?\s*$", parameters.strip()) is None
    return False
