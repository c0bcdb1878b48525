"""Between the eras: what a legacy message lacks for a modern peer, and the other way round.

Used only where the two sides of an exchange differ; otherwise bytes pass untouched.
"""

from typing import Any, Final

from msgspec import Raw

from mcpproxy.proxy.core.catalog import BY_METHOD
from mcpproxy.proxy.core.exchange import Client
from mcpproxy.proxy.wire import jsonrpc
from mcpproxy.proxy.wire import revisions as rev
from mcpproxy.proxy.wire.jsonrpc import INVALID_PARAMS, LEGACY_NOT_FOUND, Message, RpcError

_CACHEABLE: Final = {*BY_METHOD, "resources/read", "server/discover"}
_MODERN_MEMBERS: Final = ("resultType", "ttlMs", "cacheScope")
_RETRY_MEMBERS: Final = ("inputResponses", "requestState")


def meta(params: Message) -> Message:
    """The members of `_meta`; empty when it is absent or no object."""
    raw = params.get("_meta")
    return jsonrpc.members(raw) if raw is not None and bytes(raw)[:1] == b"{" else {}


def stamped(
    params: Message | None, client: Client, revision: str, log_level: str | None
) -> Message:
    """Params for a modern backend: `_meta` says who asks, which legacy says once a session."""
    found: dict[str, Any] = dict(meta(params or {}))
    found[rev.META_VERSION] = revision
    found[rev.META_CAPABILITIES] = Raw(client.capabilities)
    if client.info is not None:
        found[rev.META_CLIENT_INFO] = Raw(client.info)
    if log_level is not None:
        found[rev.META_LOG_LEVEL] = log_level
    return {**(params or {}), "_meta": jsonrpc.dump(found)}


def unstamped(params: Message | None) -> Message | None:
    """Params for a legacy backend: without what only the modern era knows."""
    if params is None:
        return None
    found = {name: raw for name, raw in params.items() if name not in _RETRY_MEMBERS}
    if "_meta" in found:
        kept = {k: v for k, v in meta(found).items() if not k.startswith(rev.META_PREFIX)}
        del found["_meta"]
        if kept:
            found["_meta"] = jsonrpc.dump(kept)
    return found


def legacy_result(result: Raw) -> Raw:
    """A modern backend's result for a legacy client."""
    found = jsonrpc.members(result)
    if not any(member in found for member in (*_MODERN_MEMBERS, "_meta")):
        return result
    kept = {name: raw for name, raw in found.items() if name not in _MODERN_MEMBERS}
    if "_meta" in kept:
        own = {k: v for k, v in meta(kept).items() if k != rev.META_SERVER_INFO}
        del kept["_meta"]
        if own:
            kept["_meta"] = jsonrpc.dump(own)
    return jsonrpc.dump(kept)


def modern_result(method: str, result: Raw) -> Raw:
    """A legacy backend's result for a modern client: complete, and not to be kept."""
    found: dict[str, Any] = dict(jsonrpc.members(result))
    found.setdefault("resultType", "complete")
    if method in _CACHEABLE:
        found.setdefault("ttlMs", 0)
        found.setdefault("cacheScope", "private")
    return jsonrpc.dump(found)


def modern_error(error: Raw) -> Raw:
    """A legacy backend's error for a modern client: the code of a missing resource differs."""
    found = jsonrpc.members(error)
    if jsonrpc.value(found.get("code")) != LEGACY_NOT_FOUND:
        return error
    return jsonrpc.dump({**found, "code": INVALID_PARAMS})


def legacy_refusal(error: RpcError) -> RpcError:
    """An error of our own for a legacy client: the code of an unknown resource differs."""
    if error.code != INVALID_PARAMS or not isinstance(error.data, dict) or "uri" not in error.data:
        return error
    return RpcError(LEGACY_NOT_FOUND, error.message, error.data)


def legacy_error(method: str, error: Raw) -> Raw:
    """A modern backend's error for a legacy client, the other way round."""
    if method != "resources/read":
        return error
    found = jsonrpc.members(error)
    data = jsonrpc.value(found.get("data"))
    missing = jsonrpc.value(found.get("code")) == INVALID_PARAMS and isinstance(data, dict)
    if not missing or "uri" not in data:
        return error
    return jsonrpc.dump({**found, "code": LEGACY_NOT_FOUND})
