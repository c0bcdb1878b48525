"""Rewriting what names a component or task in what backends send: to the names clients know.

Only the members that carry a name, URI or id are touched; everything else stays the bytes it was.
"""

from collections.abc import Callable, Mapping
from typing import Final

from msgspec import Raw

from mcpproxy.limits.backends import RESULT_ITEMS
from mcpproxy.proxy.core.errors import ProtocolError
from mcpproxy.proxy.core.translation.namespacing import PrefixMapping
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import INVALID_PARAMS, LEGACY_NOT_FOUND, Message

UPDATED: Final = "notifications/resources/updated"
TASK_NOTIFICATIONS: Final = ("notifications/tasks", "notifications/tasks/status")
RELATED_TASK: Final = "io.modelcontextprotocol/related-task"
"""Member of `_meta` that says to which task a message belongs (2025-11-25)."""
LINKS: Final = ("ui/resourceUri", "openai/outputTemplate")
"""Members of `_meta` that name the resource of an app, besides `ui.resourceUri`."""
Rewrite = Callable[[Raw, PrefixMapping, str], Raw]
"""Takes a value, the names of its backend and the client's principal."""


def to_downstream_result(
    method: str, result: Raw, names: PrefixMapping, principal: str = ""
) -> Raw:
    """Result with the names that its clients know. Raises ProtocolError, RpcError."""
    if not names.change or method not in _RESULTS or not may_name_component(bytes(result)):
        return result
    return _object(_RESULTS[method])(result, names, principal)


def may_name_component(text: bytes) -> bool:
    """Whether JSON may have a member that names a resource or task: a quick look."""
    if b'ri"' in text or b'"taskId"' in text or b'Template"' in text:
        return True
    # A member's name may be written with escapes; then a closer look is needed.
    return b"\\u" in text


def _begins(raw: Raw | None, mark: bytes) -> bool:
    """Whether a value is an object or array; what has another shape than MCP says passes."""
    return raw is not None and bytes(raw)[:1] == mark


def _object(members: Mapping[str, Rewrite]) -> Rewrite:
    """Rewrite these members of an object."""

    def rewrite(raw: Raw, names: PrefixMapping, principal: str) -> Raw:
        if not _begins(raw, b"{"):
            return raw
        found = jsonrpc.decode_object(raw)
        changed = {}
        for member, inner in members.items():
            own = found.get(member)
            if own is not None:
                new = inner(own, names, principal)
                if new is not own:
                    changed[member] = new
        return jsonrpc.encode_raw({**found, **changed}) if changed else raw

    return rewrite


def _each(inner: Rewrite, member: str) -> Rewrite:
    """Rewrite the items of an array, which is the member of this name."""

    def rewrite(raw: Raw, names: PrefixMapping, principal: str) -> Raw:
        if not _begins(raw, b"["):
            return raw
        most = RESULT_ITEMS.value
        if jsonrpc.length(raw, most) > most:
            RESULT_ITEMS.record()
            raise ProtocolError(f"its result has more than {most} items in {member}")
        return jsonrpc.encode_raw(
            [inner(item, names, principal) for item in jsonrpc.decode_array(raw)]
        )

    return rewrite


def _uri(raw: Raw, names: PrefixMapping, principal: str) -> Raw:
    own = jsonrpc.decode_str(raw)
    return raw if own is None or not names.prefix else jsonrpc.encode_raw(names.outward_uri(own))


def _task_id(raw: Raw, names: PrefixMapping, principal: str) -> Raw:
    own = jsonrpc.decode_str(raw)
    if own is None or names.tasks.sealer is None:
        return raw
    return jsonrpc.encode_raw(names.tasks.outward(own, principal))


_linked: Final = _object(
    {
        "ui": _object({"resourceUri": _uri}),
        **dict.fromkeys(LINKS, _uri),
        RELATED_TASK: _object({"taskId": _task_id}),
    }
)


def _meta(raw: Raw, names: PrefixMapping, principal: str) -> Raw:
    text = bytes(raw)
    return _linked(raw, names, principal) if may_name_component(text) else raw


_resource: Final = _object({"uri": _uri, "_meta": _meta})
_embedded: Final = _object({"resource": _resource, "_meta": _meta})
_plain: Final = _object({"_meta": _meta})


def _content(raw: Raw, names: PrefixMapping, principal: str) -> Raw:
    """A content block: a resource link or an embedded resource names a URI."""
    if not _begins(raw, b"{") or not may_name_component(bytes(raw)):
        return raw
    shape = jsonrpc.decode_str(jsonrpc.decode_object(raw).get("type"))
    rewrite = {"resource_link": _resource, "resource": _embedded}.get(shape or "", _plain)
    return rewrite(raw, names, principal)


_task: Final = _object({"taskId": _task_id})
_skill: Final = _object({"uri": _uri, "resources": _each(_object({"uri": _uri}), "resources")})
_CALLED: Final[Mapping[str, Rewrite]] = {
    "content": _each(_content, "content"),
    "_meta": _meta,
    # A task in place of the result: of the extension, and of 2025-11-25.
    "taskId": _task_id,
    "task": _task,
}
_RESULTS: Final[Mapping[str, Mapping[str, Rewrite]]] = {
    "tools/call": _CALLED,
    "prompts/get": {"messages": _each(_object({"content": _content}), "messages"), "_meta": _meta},
    "resources/read": {"contents": _each(_resource, "contents"), "_meta": _meta},
    "tasks/get": {"taskId": _task_id, "result": _object(_CALLED), "_meta": _meta},
    "tasks/update": {"taskId": _task_id, "_meta": _meta},
    "tasks/cancel": {"taskId": _task_id, "_meta": _meta},
    "tasks/result": _CALLED,
    "tasks/list": {"tasks": _each(_task, "tasks")},
    "skills/get": {"skill": _skill},
    "skills/list": {"skills": _each(_skill, "skills")},
    "resources/directory/read": {"resources": _each(_resource, "resources")},
}
_notified: Final = _object(_RESULTS["tasks/get"])


def to_downstream_item(item: Message, names: PrefixMapping) -> Raw | None:
    """The `_meta` of a component as clients see it; None where it stays as it is."""
    own = item.get("_meta")
    if own is None or not names.prefix:
        return None
    new = _meta(own, names, "")
    return None if new is own else new


def to_downstream_error(error: Raw, names: PrefixMapping) -> Raw:
    """An error whose data names a URI (resource not found) with the URI that clients know."""
    if not names.prefix or b'"uri"' not in bytes(error):
        return error
    found = jsonrpc.decode_object(error)
    if jsonrpc.decode(found.get("code")) not in (INVALID_PARAMS, LEGACY_NOT_FOUND):
        return error
    return _object({"data": _object({"uri": _uri})})(error, names, "")


def to_downstream_message(message: Message, names: PrefixMapping, principal: str = "") -> Message:
    """A notification or request of a backend with the names that clients know."""
    params = message.get("params")
    if params is None or not names.change or not may_name_component(bytes(params)):
        return message
    method = jsonrpc.decode_str(message["method"])
    if method == UPDATED:
        rewrite = _resource
    elif method in TASK_NOTIFICATIONS:
        rewrite = _notified
    else:
        rewrite = _plain
    new = rewrite(params, names, principal)
    return message if new is params else {**message, "params": new}


def to_upstream_response(answer: Message, names: PrefixMapping) -> Message:
    """A client's answer to a backend's request, which may say to which task it belongs."""
    result = answer.get("result")
    if result is None or names.tasks.sealer is None or b'"taskId"' not in bytes(result):
        return answer
    found = jsonrpc.decode_object(result)
    meta = jsonrpc.decode_object(found["_meta"]) if _begins(found.get("_meta"), b"{") else {}
    if not _begins(meta.get(RELATED_TASK), b"{"):
        return answer
    shown = jsonrpc.decode_str(jsonrpc.decode_object(meta[RELATED_TASK]).get("taskId")) or ""
    own = jsonrpc.encode_raw(names.tasks.inward(shown))
    meta[RELATED_TASK] = jsonrpc.replace_member(meta[RELATED_TASK], taskId=own)
    return {**answer, "result": jsonrpc.encode_raw({**found, "_meta": meta})}
