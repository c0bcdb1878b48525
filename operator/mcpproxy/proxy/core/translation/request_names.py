"""Translation of component names in requests: downstream names to upstream names.

Only the fields with a name or URI change. All other bytes stay the same.
"""

from collections.abc import Collection, Sequence
from typing import Final

from msgspec import Raw

from mcpproxy.api.untrusted_text import quote
from mcpproxy.limits.clients import NAME_LENGTH
from mcpproxy.proxy.core.catalog import extensions
from mcpproxy.proxy.core.catalog.component_filter import EVERYTHING, ComponentFilter
from mcpproxy.proxy.core.translation.namespacing import PrefixMapping
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import INVALID_PARAMS, Message, RpcError
from mcpproxy.proxy.protocol.kinds import (
    PROMPTS,
    RESOURCES,
    RESULTS,
    SUBSCRIBE,
    TASKS,
    TOOLS,
    ComponentKind,
)

ROUTED: Final[dict[str, tuple[str, ComponentKind]]] = {
    "tools/call": ("name", TOOLS),
    "prompts/get": ("name", PROMPTS),
    "resources/read": ("uri", RESOURCES),
    SUBSCRIBE: ("uri", RESOURCES),
    "resources/unsubscribe": ("uri", RESOURCES),
    **extensions.ROUTED,
}
"""Method → the field of params that names the component, and the kind of the component."""
COMPLETE: Final = "completion/complete"
KNOWN_PARAMS: Final = frozenset(
    {
        *("_meta", "argument", "arguments", "context", "inputResponses", "level", "name"),
        *("ref", "requestState", "task", "taskId", "uri"),
    }
)
"""Fields of params that MCP defines for requests about components and tasks."""
NAMED: Final = (("taskId", TASKS), ("uri", RESOURCES), ("name", TOOLS))
"""Fields of params that name something in requests of unknown extensions, and their kinds."""
_REF: Final = frozenset({"type", "name", "uri"})
_MAX_NAME: Final = NAME_LENGTH.value


def component_ref(method: str, params: Message) -> tuple[str, ComponentKind]:
    """Return the downstream name or URI in a request, and its kind. Raise RpcError."""
    if method == COMPLETE:
        return _completion_ref(params)
    member, kind = ROUTED[method]
    name = jsonrpc.decode_str(params.get(member))
    if name is None:
        raise RpcError(INVALID_PARAMS, f"{method}: params.{member} must be a string")
    return _check_length(name, f"params.{member}"), kind


def _check_length(name: str, field: str) -> str:
    """Return a client's name or URI. Raise RpcError if it exceeds the limit."""
    if len(name) > _MAX_NAME:
        NAME_LENGTH.record()
        message = f"{field} has {len(name)} characters; the maximum is {_MAX_NAME}"
        raise RpcError(INVALID_PARAMS, message)
    return name


def component_name(request: Message) -> str | None:
    """Return the downstream name of the requested tool or prompt; None for other requests."""
    method = jsonrpc.decode_str(request.get("method"))
    kind = ROUTED.get(method or "", ("", RESOURCES))[1]
    if kind.by_uri or "params" not in request:
        return None
    return jsonrpc.decode_str(jsonrpc.decode_object(request["params"]).get(kind.key))


def first_name(params: Message) -> str:
    """Return the field that selects the backend of a request of an unknown extension."""
    return next(field for field, _ in NAMED if jsonrpc.decode_str(params.get(field)) is not None)


def has_unreadable_name(params: Message) -> bool:
    """Return True if a field that names something is neither a string nor null."""
    values = [bytes(params[field]) for field, _ in NAMED if field in params]
    return any(value != b"null" and jsonrpc.decode_str(value) is None for value in values)


def refuse_case_variants(members: Message, known: Collection[str], field: str) -> None:
    """Raise RpcError if a member is a known one but for its case.

    A backend whose parser ignores case, such as Go's, would take it for the known one.
    """
    for name in members:
        if name not in known:
            folded = name.casefold()
            meant = next((member for member in known if member.casefold() == folded), None)
            if meant is not None:
                why = f"{field} has {quote(name)}; send it as {meant}"
                raise RpcError(INVALID_PARAMS, why)


def _completion_ref(params: Message) -> tuple[str, ComponentKind]:
    ref = jsonrpc.decode_object(params["ref"]) if "ref" in params else {}
    refuse_case_variants(ref, _REF, "params.ref")
    kind = {"ref/prompt": PROMPTS, "ref/resource": RESOURCES}.get(
        jsonrpc.decode_str(ref.get("type")) or ""
    )
    name = jsonrpc.decode_str(ref.get(kind.key)) if kind else None
    if kind is None or name is None:
        raise RpcError(
            INVALID_PARAMS, "params.ref must be a ref/prompt with name or a ref/resource with uri"
        )
    return _check_length(name, f"params.ref.{kind.key}"), kind


def to_upstream_params(
    method: str,
    params: Message,
    names: PrefixMapping,
    name: str,
    selection: ComponentFilter = EVERYTHING,
    kind: ComponentKind | None = None,
) -> Message:
    """Return params with the upstream name; `kind` saves parsing if the caller knows it.

    Raise RpcError if the backend does not have the component or the filter hides it.
    """
    kind = kind or component_ref(method, params)[1]
    upstream = upstream_name(kind, names, name, selection)
    return params if upstream is None else replace_name(method, params, kind, upstream)


def upstream_name(
    kind: ComponentKind, names: PrefixMapping, name: str, selection: ComponentFilter
) -> Raw | None:
    """Return the upstream name or URI as JSON, or None if it equals the downstream name.

    Raise RpcError if the backend does not have the component or the filter hides it.
    """
    if not names.prefix and selection.everything:
        return None
    unprefixed = names.uri_to_upstream(name) if kind.by_uri else names.to_upstream(name)
    original = None if unprefixed is None else selection.original_name(unprefixed)
    if original is None:
        raise unknown_component_error(kind, name)
    return jsonrpc.encode_raw(original)


def replace_name(method: str, params: Message, kind: ComponentKind, name: Raw) -> Message:
    """Return params with another name or URI."""
    if method == COMPLETE:
        return {**params, "ref": jsonrpc.replace_member(params["ref"], **{kind.key: name})}
    return {**params, kind.key: name}


def unknown_component_error(kind: ComponentKind, name: str) -> RpcError:
    """Return the error for a component that clients cannot see."""
    if kind is RESULTS:
        why = "the proxy does not keep this result, or no longer; call the tool again"
        return RpcError(INVALID_PARAMS, f"unknown resource: {name}: {why}", {"uri": name})
    if kind.by_uri:
        return RpcError(INVALID_PARAMS, f"unknown resource: {name}", {"uri": name})
    return RpcError(INVALID_PARAMS, f"unknown {kind.member.removesuffix('s')}: {name}")


def name_conflict_error(kind: ComponentKind, name: str, backends: Sequence[str]) -> RpcError:
    """Return the error for a component that nobody serves because several backends list it."""
    listed = ", ".join(backends)
    return RpcError(
        INVALID_PARAMS,
        f"{kind.member}: the backends {listed} all list {name}, so none of them serves it"
        " (names.onClash: Fail); change the prefix of one of them",
        {"backends": list(backends)},
    )
