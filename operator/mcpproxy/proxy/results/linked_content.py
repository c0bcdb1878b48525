"""Content of a result that links to another one, and of the resource to which it links. Pure."""

from typing import Any, Final

from msgspec import Raw

from mcpproxy.limits.clients import KEPT_RESULT_TIME
from mcpproxy.proxy.protocol import jsonrpc

LINKS_SINCE: Final = "2025-06-18"
"""First revision with content of type resource_link."""
_BINARY: Final = "application/octet-stream"
_JSON: Final = "application/json"
_STRUCTURED: Final = "structuredContent"


def contents_of(result: dict[str, Any], uri: str) -> list[dict[str, Any]]:
    """Return the content of a tool's result as the contents of a resource (resources/read)."""
    contents = [_contents_of_part(part, uri) for part in result["content"]]
    if result.get(_STRUCTURED) is not None:
        contents.append(_as_json(result[_STRUCTURED], uri))
    return contents


def _contents_of_part(part: Any, uri: str) -> dict[str, Any]:
    if not isinstance(part, dict):
        return _as_json(part, uri)
    kind, embedded = part.get("type"), part.get("resource")
    if kind == "text" and isinstance(part.get("text"), str):
        return {"uri": uri, "mimeType": "text/plain", "text": part["text"]}
    if kind in ("image", "audio") and isinstance(part.get("data"), str):
        return {"uri": uri, "mimeType": part.get("mimeType") or _BINARY, "blob": part["data"]}
    if kind == "resource" and isinstance(embedded, dict) and "uri" in embedded:
        return embedded
    return _as_json(part, uri)


def _as_json(value: Any, uri: str) -> dict[str, Any]:
    return {"uri": uri, "mimeType": _JSON, "text": jsonrpc.encode(value).decode()}


def linked_result(result: dict[str, Any], uri: str, size: int, limit: int, revision: str) -> Raw:
    """Return the result of a tool with a link in place of its content.

    `size` is that of the result, in bytes; `revision` is that of the client. Structured content
    that does not fit either is left out, and the result is then an error: clients refuse a result
    without the structured content that the tool promises.
    """
    minutes = int(KEPT_RESULT_TIME.value // 60)
    note = (
        f"the result has {size} bytes, and backends[].results.maxBytes is {limit}; it can be read"
        f" as the resource {uri} for {minutes} minutes"
    )
    content: list[dict[str, Any]] = [{"type": "text", "text": note}]
    if revision >= LINKS_SINCE:
        link = {"type": "resource_link", "uri": uri, "name": "result", "size": size}
        content.append(link)
    linked = {**result, "content": content}
    if len(jsonrpc.encode(linked)) > limit:
        linked = {"content": content}
        linked |= {name: result[name] for name in ("isError", "resultType") if name in result}
        if result.get(_STRUCTURED) is not None:
            linked["isError"] = True
    return jsonrpc.encode_raw(linked)
