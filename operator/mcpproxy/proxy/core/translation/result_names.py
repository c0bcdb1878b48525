"""Translation of component names and task ids in backends' messages to downstream names.

Only the fields with a name, URI or id change. All other bytes stay the same.
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
"""Field of `_meta` that names the task of a message (2025-11-25)."""
LINKS: Final = ("ui/resourceUri", "openai/outputTemplate")
"""Fields of `_meta` that name the resource of an app, in addition to `ui.resourceUri`."""
Rewrite = Callable[[Raw, PrefixMapping, str], Raw]
"""Function of a value, the names of its backend and the client's principal."""


def to_downstream_result(
    method: str, result: Raw, names: PrefixMapping, principal: str = ""
) -> Raw:
    """Return a result with downstream names. Raise ProtocolError or RpcError."""
    if not names.change or method not in _RESULTS or not may_name_component(bytes(result)):
        return result
    return _object(_RESULTS[method])(result, names, principal)


def may_name_component(text: bytes) -> bool:
    """Return False if JSON certainly has no field that names a resource or task."""
    if b'ri"' in text or b'"taskId"' in text or b'Template"' in text:
        return True
    # An escape may hide the name of a field.
    return b"\\u" in text


def _has_type(raw: Raw | None, mark: bytes) -> bool:
    """Return True if a value begins with `mark`. Values of unexpected types are left unchanged."""
    return raw is not None and bytes(raw)[:1] == mark


def _object(members: Mapping[str, Rewrite]) -> Rewrite:
    """Return a function that rewrites these fields of an object."""

    def rewrite(raw: Raw, names: PrefixMapping, principal: str) -> Raw:
        if not _has_type(raw, b"{"):
            return raw
        fields = jsonrpc.decode_object(raw)
        changed = {}
        for member, inner in members.items():
            value = fields.get(member)
            if value is not None:
                new = inner(value, names, principal)
                if new is not value:
                    changed[member] = new
        return jsonrpc.encode_raw({**fields, **changed}) if changed else raw

    return rewrite


def _each(inner: Rewrite, member: str) -> Rewrite:
    """Return a function that rewrites the items of an array; `member` is the array's name."""

    def rewrite(raw: Raw, names: PrefixMapping, principal: str) -> Raw:
        if not _has_type(raw, b"["):
            return raw
        most = RESULT_ITEMS.value
        if jsonrpc.length(raw, most) > most:
            RESULT_ITEMS.record()
            raise ProtocolError(f"the result has more than {most} items in {member}")
        return jsonrpc.encode_raw(
            [inner(item, names, principal) for item in jsonrpc.decode_array(raw)]
        )

    return rewrite


def _uri(raw: Raw, names: PrefixMapping, principal: str) -> Raw:
    upstream = jsonrpc.decode_str(raw)
    return (
        raw
        if upstream is None or not names.prefix
        else jsonrpc.encode_raw(names.uri_to_downstream(upstream))
    )


def _task_id(raw: Raw, names: PrefixMapping, principal: str) -> Raw:
    upstream = jsonrpc.decode_str(raw)
    if upstream is None or names.tasks.sealer is None:
        return raw
    return jsonrpc.encode_raw(names.tasks.to_downstream(upstream, principal))


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
    """Rewrite the URI of a content block: a resource link or an embedded resource."""
    if not _has_type(raw, b"{") or not may_name_component(bytes(raw)):
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
    """Return the `_meta` of a component as clients see it, or None if it does not change."""
    meta = item.get("_meta")
    if meta is None or not names.prefix:
        return None
    new = _meta(meta, names, "")
    return None if new is meta else new


def to_downstream_error(error: Raw, names: PrefixMapping) -> Raw:
    """Return an error (resource not found) with the downstream URI in its data."""
    if not names.prefix or b'"uri"' not in bytes(error):
        return error
    fields = jsonrpc.decode_object(error)
    if jsonrpc.decode(fields.get("code")) not in (INVALID_PARAMS, LEGACY_NOT_FOUND):
        return error
    return _object({"data": _object({"uri": _uri})})(error, names, "")


def to_downstream_message(message: Message, names: PrefixMapping, principal: str = "") -> Message:
    """Return a backend's notification or request with downstream names."""
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


def to_downstream_response(
    method: str, answer: Message, names: PrefixMapping, principal: str
) -> Message:
    """Return a response with the names that clients see. Raises RpcError."""
    if not names.change:
        return answer
    if "result" in answer:
        result = to_downstream_result(method, answer["result"], names, principal)
        return answer if result is answer["result"] else {**answer, "result": result}
    return {**answer, "error": to_downstream_error(answer["error"], names)}


def to_upstream_response(answer: Message, names: PrefixMapping) -> Message:
    """Return a client's response to a server request with the upstream id of its related task."""
    result = answer.get("result")
    if result is None or names.tasks.sealer is None or b'"taskId"' not in bytes(result):
        return answer
    fields = jsonrpc.decode_object(result)
    meta = jsonrpc.decode_object(fields["_meta"]) if _has_type(fields.get("_meta"), b"{") else {}
    if not _has_type(meta.get(RELATED_TASK), b"{"):
        return answer
    downstream_id = (
        jsonrpc.decode_str(jsonrpc.decode_object(meta[RELATED_TASK]).get("taskId")) or ""
    )
    upstream_id = jsonrpc.encode_raw(names.tasks.to_upstream(downstream_id))
    meta[RELATED_TASK] = jsonrpc.replace_member(meta[RELATED_TASK], taskId=upstream_id)
    return {**answer, "result": jsonrpc.encode_raw({**fields, "_meta": meta})}
