"""Handling of results that exceed `backends[].results.maxBytes`. Pure."""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from msgspec import Raw

from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import UNAVAILABLE, Message

if TYPE_CHECKING:
    from mcpproxy.api.v1alpha1 import Results

CALL_TOOL: Final = "tools/call"
READ_RESOURCE: Final = "resources/read"
_PARTS: Final = {CALL_TOOL: "content", READ_RESOURCE: "contents"}
"""Methods whose results are limited → the member with the content."""
_STRUCTURED: Final = "structuredContent"
Link = Callable[[int, dict[str, Any], int], Raw | None]
"""Function that keeps a result, and returns one that links to it: see `KeptResults.link`."""


def is_too_large(results: "Results", method: str, answer: Message) -> bool:
    """Return True if the result in an answer exceeds the limit."""
    return method in _PARTS and len(answer.get("result", b"")) > results.max_bytes


def limit_result(
    results: "Results", method: str, backend: str, answer: Message, link: Link | None = None
) -> None:
    """Replace the result in an answer that is too large, by less of it, by a link or by an error.

    The error of a tool is a result, so that the model sees it and can ask for less.
    """
    size, limit = len(answer["result"]), results.max_bytes
    shorter = None
    if results.on_larger == "Truncate":
        shorter = _truncate(method, answer["result"], limit)
    elif results.on_larger == "Link" and link is not None and method == CALL_TOOL:
        shorter = _link(answer["result"], limit, link)
    if shorter is not None:
        answer["result"] = shorter
        return
    why = (
        f"the result of backend {backend} has {size} bytes, and backends[].results.maxBytes is"
        f" {limit}; ask for less"
    )
    if method == READ_RESOURCE:
        error = {
            "code": UNAVAILABLE,
            "message": why,
            "data": {"bytes": size, "maxBytes": limit},
        }
        del answer["result"]
        answer["error"] = jsonrpc.encode_raw(error)
        return
    result: dict[str, Any] = {"content": [{"type": "text", "text": why}], "isError": True}
    kind = jsonrpc.decode_object(answer["result"]).get("resultType")
    if kind is not None:
        result["resultType"] = "complete"
    answer["result"] = jsonrpc.encode_raw(result)


def _link(raw: bytes, limit: int, link: Link) -> Raw | None:
    """Return a result that links to this one; None if it has no content or can't be kept."""
    result: Any = jsonrpc.decode(raw)
    parts = result.get(_PARTS[CALL_TOOL]) if isinstance(result, dict) else None
    return link(limit, result, len(raw)) if isinstance(parts, list) else None


def _truncate(method: str, raw: bytes, limit: int) -> Raw | None:
    """Return the result with shorter text; None if it has other content that is too large."""
    result: Any = jsonrpc.decode(raw)
    parts = result.get(_PARTS[method]) if isinstance(result, dict) else None
    if not isinstance(parts, list) or result.get(_STRUCTURED) is not None:
        return None
    texts = [_text(part) for part in parts]
    note = f"\n[the proxy has cut this result of {len(raw)} bytes to {limit} bytes]"
    for part, text in zip(parts, texts, strict=True):
        if text is not None:
            part["text"] = ""
    last = next((part for part in reversed(parts) if _text(part) is not None), None)
    if last is None:
        return None
    room = limit - len(jsonrpc.encode(result)) - _size(note)
    if room < 0:
        return None
    for part, text in zip(parts, texts, strict=True):
        if text is not None:
            part["text"] = kept = _fit(text, room)
            room -= _size(kept)
    last["text"] += note
    return jsonrpc.encode_raw(result)


def _text(part: Any) -> str | None:
    """Return the text of a part of the content; None for other content."""
    text = part.get("text") if isinstance(part, dict) else None
    return text if isinstance(text, str) else None


def _fit(text: str, room: int) -> str:
    """Return the longest beginning of a text whose JSON has at most `room` bytes."""
    # Each character has at least one byte.
    text = text[:room]
    shortest, longest = 0, len(text)
    while shortest < longest:
        middle = (shortest + longest + 1) // 2
        if _size(text[:middle]) <= room:
            shortest = middle
        else:
            longest = middle - 1
    return text[:shortest]


def _size(text: str) -> int:
    """Return the bytes of a text in JSON, without the quotes."""
    return len(json.dumps(text, ensure_ascii=False).encode("utf-8", "surrogatepass")) - 2
