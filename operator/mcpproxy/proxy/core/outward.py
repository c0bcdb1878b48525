"""Rewriting what names a component or task in what backends send: to the names clients know.

Only the members that carry a name, URI or id are touched; everything else stays the bytes it was.
"""

from collections.abc import Callable, Mapping
from typing import Final

from msgspec import Raw

from mcpproxy.limits.backends import RESULT_ITEMS
from mcpproxy.proxy.core.errors import NotMcp
from mcpproxy.proxy.core.names import Names
from mcpproxy.proxy.wire import jsonrpc
from mcpproxy.proxy.wire.jsonrpc import INVALID_PARAMS, LEGACY_NOT_FOUND, Message

UPDATED: Final = "notifications/resources/updated"
TASK_NOTIFICATIONS: Final = ("notifications/tasks", "notifications/tasks/status")
RELATED_TASK: Final = "io.modelcontextprotocol/related-task"
"""Member of `_meta` that says to which task a message belongs (2025-11-25)."""
LINKS: Final = ("ui/resourceUri", "openai/outputTemplate")
"""Members of `_meta` that name the resource of an app, besides `ui.resourceUri`."""
Rewrite = Callable[[Raw, Names, str], Raw]
"""Takes a value, the names of its backend and the client's principal."""


def outward_result(method: str, result: Raw, names: Names, principal: str = "") -> Raw:
    """A result with the names that clients of this principal know. Raises NotMcp, RpcError."""
    if not names.change or method not in _RESULTS or not names_something(bytes(result)):
        return result
    return _object(_RESULTS[method])(result, names, principal)


def names_something(text: bytes) -> bool:
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

    def rewrite(raw: Raw, names: Names, principal: str) -> Raw:
        if not _begins(raw, b"{"):
            return raw
        found = jsonrpc.members(raw)
        changed = {}
        for member, inner in members.items():
            own = found.get(member)
            if own is not None:
                new = inner(own, names, principal)
                if new is not own:
                    changed[member] = new
        return jsonrpc.dump({**found, **changed}) if changed else raw

    return rewrite


def _each(inner: Rewrite, member: str) -> Rewrite:
    """Rewrite the items of an array, which is the member of this name."""

    def rewrite(raw: Raw, names: Names, principal: str) -> Raw:
        if not _begins(raw, b"["):
            return raw
        most = RESULT_ITEMS.value
        if jsonrpc.length(raw, most) > most:
            RESULT_ITEMS.record()
            raise NotMcp(f"its result has more than {most} items in {member}")
        return jsonrpc.dump([inner(item, names, principal) for item in jsonrpc.items(raw)])

    return rewrite


def _uri(raw: Raw, names: Names, principal: str) -> Raw:
    own = jsonrpc.string(raw)
    return raw if own is None or not names.prefix else jsonrpc.dump(names.outward_uri(own))


def _task_id(raw: Raw, names: Names, principal: str) -> Raw:
    own = jsonrpc.string(raw)
    if own is None or names.tasks.sealer is None:
        return raw
    return jsonrpc.dump(names.tasks.outward(own, principal))


_linked: Final = _object(
    {
        "ui": _object({"resourceUri": _uri}),
        **dict.fromkeys(LINKS, _uri),
        RELATED_TASK: _object({"taskId": _task_id}),
    }
)


def _meta(raw: Raw, names: Names, principal: str) -> Raw:
    text = bytes(raw)
    return _linked(raw, names, principal) if names_something(text) else raw


_resource: Final = _object({"uri": _uri, "_meta": _meta})
_embedded: Final = _object({"resource": _resource, "_meta": _meta})
_plain: Final = _object({"_meta": _meta})


def _content(raw: Raw, names: Names, principal: str) -> Raw:
    """A content block: a resource link or an embedded resource names a URI."""
    if not _begins(raw, b"{") or not names_something(bytes(raw)):
        return raw
    shape = jsonrpc.string(jsonrpc.members(raw).get("type"))
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


def outward_item(item: Message, names: Names) -> Raw | None:
    """The `_meta` of a component as clients see it; None where it stays as it is."""
    own = item.get("_meta")
    if own is None or not names.prefix:
        return None
    new = _meta(own, names, "")
    return None if new is own else new


def outward_error(error: Raw, names: Names) -> Raw:
    """An error whose data names a URI (resource not found) with the URI that clients know."""
    if not names.prefix or b'"uri"' not in bytes(error):
        return error
    found = jsonrpc.members(error)
    if jsonrpc.value(found.get("code")) not in (INVALID_PARAMS, LEGACY_NOT_FOUND):
        return error
    return _object({"data": _object({"uri": _uri})})(error, names, "")


def outward_message(message: Message, names: Names, principal: str = "") -> Message:
    """A notification or request of a backend with the names that clients know."""
    params = message.get("params")
    if params is None or not names.change or not names_something(bytes(params)):
        return message
    method = jsonrpc.string(message["method"])
    if method == UPDATED:
        rewrite = _resource
    elif method in TASK_NOTIFICATIONS:
        rewrite = _notified
    else:
        rewrite = _plain
    new = rewrite(params, names, principal)
    return message if new is params else {**message, "params": new}


def inward_answer(answer: Message, names: Names) -> Message:
    """A client's answer to a backend's request, which may say to which task it belongs."""
    result = answer.get("result")
    if result is None or names.tasks.sealer is None or b'"taskId"' not in bytes(result):
        return answer
    found = jsonrpc.members(result)
    meta = jsonrpc.members(found["_meta"]) if _begins(found.get("_meta"), b"{") else {}
    if not _begins(meta.get(RELATED_TASK), b"{"):
        return answer
    shown = jsonrpc.string(jsonrpc.members(meta[RELATED_TASK]).get("taskId")) or ""
    own = jsonrpc.dump(names.tasks.inward(shown))
    meta[RELATED_TASK] = jsonrpc.with_member(meta[RELATED_TASK], taskId=own)
    return {**answer, "result": jsonrpc.dump({**found, "_meta": meta})}
