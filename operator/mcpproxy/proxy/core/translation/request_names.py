"""Rewriting what names a component in requests: what clients say becomes what backends say.

Only the members that carry a name or URI are touched; everything else stays the bytes it was.
"""

from collections.abc import Sequence
from typing import Final

from msgspec import Raw

from mcpproxy.limits.clients import NAME_LENGTH
from mcpproxy.proxy.core.catalog import extensions
from mcpproxy.proxy.core.catalog.component_filter import EVERYTHING, ComponentFilter
from mcpproxy.proxy.core.translation.namespacing import PrefixMapping
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import INVALID_PARAMS, Message, RpcError
from mcpproxy.proxy.protocol.kinds import PROMPTS, RESOURCES, TOOLS, ComponentKind

ROUTED: Final[dict[str, tuple[str, ComponentKind]]] = {
    "tools/call": ("name", TOOLS),
    "prompts/get": ("name", PROMPTS),
    "resources/read": ("uri", RESOURCES),
    "resources/subscribe": ("uri", RESOURCES),
    "resources/unsubscribe": ("uri", RESOURCES),
    **extensions.ROUTED,
}
"""Method → the member of params that says for which component it is."""
COMPLETE: Final = "completion/complete"
_MAX_NAME: Final = NAME_LENGTH.value


def component_ref(method: str, params: Message) -> tuple[str, ComponentKind]:
    """The outward name or URI that a request is for, and its kind. Raises RpcError."""
    if method == COMPLETE:
        return _reference(params)
    member, kind = ROUTED[method]
    name = jsonrpc.decode_str(params.get(member))
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


def component_name(request: Message) -> str | None:
    """The outward name of the tool or prompt that a request is for; None for other requests."""
    method = jsonrpc.decode_str(request.get("method"))
    kind = ROUTED.get(method or "", ("", RESOURCES))[1]
    if kind.by_uri or "params" not in request:
        return None
    return jsonrpc.decode_str(jsonrpc.decode_object(request["params"]).get(kind.key))


def _reference(params: Message) -> tuple[str, ComponentKind]:
    ref = jsonrpc.decode_object(params["ref"]) if "ref" in params else {}
    kind = {"ref/prompt": PROMPTS, "ref/resource": RESOURCES}.get(
        jsonrpc.decode_str(ref.get("type")) or ""
    )
    name = jsonrpc.decode_str(ref.get(kind.key)) if kind else None
    if kind is None or name is None:
        raise RpcError(
            INVALID_PARAMS, "params.ref must be a ref/prompt with name or a ref/resource with uri"
        )
    return _checked(name, f"params.ref.{kind.key}"), kind


def to_upstream_params(
    method: str,
    params: Message,
    names: PrefixMapping,
    name: str,
    selection: ComponentFilter = EVERYTHING,
    kind: ComponentKind | None = None,
) -> Message:
    """Params with the backend's own name; `kind` where it is known already.

    Raises RpcError when it is not one of this backend's, or hidden.
    """
    kind = kind or component_ref(method, params)[1]
    own = upstream_name(kind, names, name, selection)
    return params if own is None else replace_name(method, params, kind, own)


def upstream_name(
    kind: ComponentKind, names: PrefixMapping, name: str, selection: ComponentFilter
) -> Raw | None:
    """The backend's own name or URI, as JSON; None when clients use the same.

    Raises RpcError when it is not one of this backend's, or hidden.
    """
    if not names.prefix and selection.everything:
        return None
    given = names.inward_uri(name) if kind.by_uri else names.inward(name)
    own = None if given is None else selection.inward(given)
    if own is None:
        raise unknown_component_error(kind, name)
    return jsonrpc.encode_raw(own)


def replace_name(method: str, params: Message, kind: ComponentKind, own: Raw) -> Message:
    """Params with another name or URI."""
    if method == COMPLETE:
        return {**params, "ref": jsonrpc.replace_member(params["ref"], **{kind.key: own})}
    return {**params, kind.key: own}


def unknown_component_error(kind: ComponentKind, name: str) -> RpcError:
    """The error for a component that there is not, as far as clients are concerned."""
    if kind.by_uri:
        return RpcError(INVALID_PARAMS, f"unknown resource: {name}", {"uri": name})
    return RpcError(INVALID_PARAMS, f"unknown {kind.member.removesuffix('s')}: {name}")


def name_conflict_error(kind: ComponentKind, name: str, backends: Sequence[str]) -> RpcError:
    """The error for a component that several backends list, and none of them serves."""
    listed = ", ".join(backends)
    return RpcError(
        INVALID_PARAMS,
        f"{kind.member}: {name} is listed by the backends {listed}, so that none of them serves"
        " it (names.onClash: Fail); give one of them another prefix",
        {"backends": list(backends)},
    )
