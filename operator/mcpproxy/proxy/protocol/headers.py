"""HTTP headers of MCP (2026-07-28, basic/transports: standard and custom headers)."""

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
"""Media types of single messages and of event streams."""

NAME_MEMBER: Final[Mapping[str, str]] = {
    "tools/call": "name",
    "prompts/get": "name",
    "resources/read": "uri",
    # Methods of the tasks extension.
    "tasks/get": "taskId",
    "tasks/update": "taskId",
    "tasks/cancel": "taskId",
}
"""Method → the field of params that the header Mcp-Name repeats."""

MAX_CACHED: Final = 128
"""Maximum length of a value whose encoding is cached."""
_SENTINEL = re.compile(r"=\?base64\?(.*)\?=")
_SAFE = re.compile(r"[\x20-\x7e]*")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_HEADER_TYPES = ("string", "integer", "boolean")

Path = tuple[str, ...]


def encode_value(text: str) -> bytes:
    """Encode a header value: the text itself, or base64 if HTTP would change it."""
    # Cached, because methods and names repeat.
    return _encode_cached(text) if len(text) <= MAX_CACHED else _encode(text)


def _encode(text: str) -> bytes:
    if _SAFE.fullmatch(text) and text == text.strip() and not _SENTINEL.fullmatch(text):
        return text.encode("ascii")
    return b"=?base64?" + base64.b64encode(text.encode("utf-8", "surrogatepass")) + b"?="


_encode_cached = functools.lru_cache(maxsize=1024)(_encode)


def decode_value(header: bytes) -> str | None:
    """Decode a header value; return None if its base64 form is malformed."""
    return _decode_cached(header) if len(header) <= MAX_CACHED else _decode(header)


def _decode(header: bytes) -> str | None:
    # Whitespace around a field value is not part of it (RFC 9110, section 5.5).
    text = header.decode("latin-1").strip(" \t")
    sentinel = _SENTINEL.fullmatch(text)
    if sentinel is None:
        return text
    try:
        decoded = base64.b64decode(sentinel[1], validate=True)
        if base64.b64encode(decoded).decode("ascii") != sentinel[1]:
            return None
        return decoded.decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        return None


_decode_cached = functools.lru_cache(maxsize=1024)(_decode)


def header_properties(schema: Any) -> Iterator[tuple[Path, str]]:
    """Yield the properties of a tool's input schema that headers repeat: (path, header token).

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
    """Return the Mcp-Param-* headers for `arguments`; absent and null values have none."""
    headers = []
    for path, token in properties:
        text = _format(_at(arguments, path))
        if text is not None:
            headers.append((PARAM_PREFIX + token.lower().encode(), encode_value(text)))
    return headers


def _at(node: Any, path: Path) -> Any:
    for key in path:
        if not isinstance(node, dict):
            return None
        node = node.get(key)
    return node


def _format(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int | float) else None


@functools.lru_cache(maxsize=256)
def accepts(header: bytes | None, media_type: bytes) -> bool:
    """Return True if an Accept header allows a media type. An absent header allows every type."""
    if header is None:
        return True
    family = media_type.split(b"/")[0] + b"/*"
    for part in header.lower().split(b","):
        offered, _, parameters = part.partition(b";")
        if offered.strip() in (media_type, family, b"*/*"):
            return re.search(rb"\bq=0(\.0*)?\s*$", parameters.strip()) is None
    return False
