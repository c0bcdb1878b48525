"""Rewriting what names a component: inward in requests, outward in results.

Only the members that carry a name or URI are touched; everything else stays the bytes it was.
"""

from collections.abc import Callable, Sequence
from typing import Final

from msgspec import Raw

from mcpproxy.limits.backends import RESULT_ITEMS
from mcpproxy.limits.clients import NAME_LENGTH
from mcpproxy.proxy.core.errors import NotMcp
from mcpproxy.proxy.core.kinds import PROMPTS, RESOURCES, TOOLS, Kind
from mcpproxy.proxy.core.names import Names
from mcpproxy.proxy.core.selection import EVERYTHING, Selection
from mcpproxy.proxy.wire import jsonrpc
from mcpproxy.proxy.wire.jsonrpc import INVALID_PARAMS, LEGACY_NOT_FOUND, Message, RpcError

ROUTED: Final[dict[str, tuple[str, Kind]]] = {
    "tools/call": ("name", TOOLS),
    "prompts/get": ("name", PROMPTS),
    "resources/read": ("uri", RESOURCES),
    "resources/subscribe": ("uri", RESOURCES),
    "resources/unsubscribe": ("uri", RESOURCES),
}
"""Method → the member of params that says for which component it is."""
COMPLETE: Final = "completion/complete"
_MAX_NAME: Final = NAME_LENGTH.value


def target(method: str, params: Message) -> tuple[str, Kind]:
    """The outward name or URI that a request is for, and its kind. Raises RpcError."""
    if method == COMPLETE:
        return _reference(params)
    member, kind = ROUTED[method]
    name = jsonrpc.string(params.get(member))
    if name is None:
        raise RpcError(INVALID_PARAMS, f"{method}: params.{member} must be a string")
    return _checked(name, f"params.{member}"), kind


def _checked(name: str, field: str) -> str:
    """A name or URI of a client. Raises RpcError when it exceeds the limit."""
    if len(name) > _MAX_NAME:
        NAME_LENGTH.record()
        found = f"{field} has {len(name)} characters; at most {_MAX_NAME} are accepted"
        raise RpcError(INVALID_PARAMS, found)
    return name


def named(request: Message) -> str | None:
    """The outward name of the tool or prompt that a request is for; None for other requests."""
    method = jsonrpc.string(request.get("method"))
    kind = ROUTED.get(method or "", ("", RESOURCES))[1]
    if kind.by_uri or "params" not in request:
        return None
    return jsonrpc.string(jsonrpc.members(request["params"]).get(kind.key))


def _reference(params: Message) -> tuple[str, Kind]:
    ref = jsonrpc.members(params["ref"]) if "ref" in params else {}
    kind = {"ref/prompt": PROMPTS, "ref/resource": RESOURCES}.get(
        jsonrpc.string(ref.get("type")) or ""
    )
    name = jsonrpc.string(ref.get(kind.key)) if kind else None
    if kind is None or name is None:
        raise RpcError(
            INVALID_PARAMS, "params.ref must be a ref/prompt with name or a ref/resource with uri"
        )
    return _checked(name, f"params.ref.{kind.key}"), kind


def inward(
    method: str,
    params: Message,
    names: Names,
    name: str,
    selection: Selection = EVERYTHING,
    kind: Kind | None = None,
) -> Message:
    """Params with the backend's own name; `kind` where it is known already.

    Raises RpcError when it is not one of this backend's, or hidden.
    """
    kind = kind or target(method, params)[1]
    own = own_name(kind, names, name, selection)
    return params if own is None else with_name(method, params, kind, own)


def own_name(kind: Kind, names: Names, name: str, selection: Selection) -> Raw | None:
    """The backend's own name or URI, as JSON; None when clients use the same.

    Raises RpcError when it is not one of this backend's, or hidden.
    """
    if not names.prefix and selection.everything:
        return None
    given = names.inward_uri(name) if kind.by_uri else names.inward(name)
    own = None if given is None else selection.inward(given)
    if own is None:
        raise unknown(kind, name)
    return jsonrpc.dump(own)


def with_name(method: str, params: Message, kind: Kind, own: Raw) -> Message:
    """Params with another name or URI."""
    if method == COMPLETE:
        return {**params, "ref": jsonrpc.with_member(params["ref"], **{kind.key: own})}
    return {**params, kind.key: own}


def unknown(kind: Kind, name: str) -> RpcError:
    """The error for a component that there is not, as far as clients are concerned."""
    if kind.by_uri:
        return RpcError(INVALID_PARAMS, f"unknown resource: {name}", {"uri": name})
    return RpcError(INVALID_PARAMS, f"unknown {kind.member.removesuffix('s')}: {name}")


def contested(kind: Kind, name: str, backends: Sequence[str]) -> RpcError:
    """The error for a component that several backends list, and none of them serves."""
    listed = ", ".join(backends)
    return RpcError(
        INVALID_PARAMS,
        f"{kind.member}: {name} is listed by the backends {listed}, so that none of them serves"
        " it (names.onClash: Fail); give one of them another prefix",
        {"backends": list(backends)},
    )


def outward_result(method: str, result: Raw, names: Names) -> Raw:
    """A result with the URIs that clients know. Raises NotMcp, RpcError."""
    if not names.prefix or method not in _RESULTS or not _may_have_uri(result):
        return result
    if not _begins(result, b"{"):
        return result
    member, rewrite = _RESULTS[method]
    found = jsonrpc.members(result)
    if not _begins(found.get(member), b"["):
        return result
    most = RESULT_ITEMS.value
    if jsonrpc.length(found[member], most) > most:
        RESULT_ITEMS.record()
        raise NotMcp(f"its result has more than {most} items in {member}")
    parts = [rewrite(part, names) for part in jsonrpc.items(found[member])]
    return jsonrpc.dump({**found, member: parts})


def _may_have_uri(raw: Raw) -> bool:
    text = bytes(raw)
    # A member's name may be written with escapes; then a closer look is needed.
    return b'"uri"' in text or b"\\u" in text


def _begins(raw: Raw | None, mark: bytes) -> bool:
    """Whether a value is an object or array; what has another shape than MCP says passes."""
    return raw is not None and bytes(raw)[:1] == mark


def _uri_member(raw: Raw, names: Names) -> Raw:
    if not _begins(raw, b"{"):
        return raw
    found = jsonrpc.members(raw)
    own = jsonrpc.string(found.get("uri"))
    return raw if own is None else jsonrpc.dump({**found, "uri": names.outward_uri(own)})


def _content(raw: Raw, names: Names) -> Raw:
    """A content block: a resource link or an embedded resource names a URI."""
    if not _begins(raw, b"{"):
        return raw
    found = jsonrpc.members(raw)
    shape = jsonrpc.string(found.get("type"))
    if shape == "resource_link":
        return _uri_member(raw, names)
    if shape == "resource" and "resource" in found:
        return jsonrpc.dump({**found, "resource": _uri_member(found["resource"], names)})
    return raw


def _prompt_message(raw: Raw, names: Names) -> Raw:
    if not _begins(raw, b"{"):
        return raw
    found = jsonrpc.members(raw)
    if "content" not in found:
        return raw
    return jsonrpc.dump({**found, "content": _content(found["content"], names)})


_RESULTS: Final[dict[str, tuple[str, Callable[[Raw, Names], Raw]]]] = {
    "tools/call": ("content", _content),
    "prompts/get": ("messages", _prompt_message),
    "resources/read": ("contents", _uri_member),
}


def outward_error(error: Raw, names: Names) -> Raw:
    """An error whose data names a URI (resource not found) with the URI that clients know."""
    if not names.prefix or b'"uri"' not in bytes(error):
        return error
    found = jsonrpc.members(error)
    if jsonrpc.value(found.get("code")) not in (INVALID_PARAMS, LEGACY_NOT_FOUND):
        return error
    if not _begins(found.get("data"), b"{"):
        return error
    return jsonrpc.dump({**found, "data": _uri_member(found["data"], names)})


def outward_notification(message: Message, names: Names) -> Message:
    """A notification that names a URI (resource updated) with the URI that clients know."""
    if not names.prefix or jsonrpc.string(message["method"]) != "notifications/resources/updated":
        return message
    if "params" not in message:
        return message
    return {**message, "params": _uri_member(message["params"], names)}
