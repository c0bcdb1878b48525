"""Between the eras: what a legacy message lacks for a modern peer, and the other way round.

Used only where the two sides of an exchange differ; otherwise bytes pass untouched.
"""

import functools
from typing import Any, Final

from msgspec import Raw

from mcpproxy.proxy.core.exchange import ClientIdentity
from mcpproxy.proxy.core.translation.structured_content import (
    may_hold_other_values,
    to_legacy_content,
)
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol import revisions as rev
from mcpproxy.proxy.protocol.jsonrpc import INVALID_PARAMS, LEGACY_NOT_FOUND, Message, RpcError
from mcpproxy.proxy.protocol.kinds import BY_METHOD

_CACHEABLE: Final = {
    *BY_METHOD,
    "resources/read",
    "server/discover",
    "skills/get",
    "skills/list",
}
_MODERN_MEMBERS: Final = ("resultType", "ttlMs", "cacheScope")
_RETRY_MEMBERS: Final = ("inputResponses", "requestState")
MAX_KEPT: Final = 1024
"""Bytes of `_meta` that are kept: clients say the same of themselves with most requests."""
_COMPLETE: Final = b'"resultType":"complete"'


def parse_meta(params: Message) -> Message:
    """The members of `_meta`; empty when it is absent or no object."""
    raw = params.get("_meta")
    return jsonrpc.decode_object(raw) if raw is not None and bytes(raw)[:1] == b"{" else {}


def add_client_meta(
    params: Message | None,
    client: ClientIdentity,
    revision: str,
    log_level: str | None,
    capabilities: bytes | None = None,
) -> Message:
    """Params for a modern backend: `_meta` says who asks, which legacy says once a session.

    `capabilities` are given where they are not those that the client has declared.
    """
    given = params or {}
    declared = client.capabilities if capabilities is None else capabilities
    if "_meta" not in given and len(declared) + len(client.info or b"") <= MAX_KEPT:
        said = _stamp_often(declared, client.info, revision, log_level)
        return {**given, "_meta": said}
    found = {**parse_meta(given), **_stamp(declared, client.info, revision, log_level)}
    return {**given, "_meta": jsonrpc.encode_raw(found)}


def _stamp(
    capabilities: bytes, info: bytes | None, revision: str, log_level: str | None
) -> Message:
    found = {
        rev.META_VERSION: jsonrpc.encode_raw(revision),
        rev.META_CAPABILITIES: Raw(capabilities),
    }
    if info is not None:
        found[rev.META_CLIENT_INFO] = Raw(info)
    if log_level is not None:
        found[rev.META_LOG_LEVEL] = jsonrpc.encode_raw(log_level)
    return found


@functools.lru_cache(maxsize=256)
def _stamp_often(
    capabilities: bytes, info: bytes | None, revision: str, log_level: str | None
) -> Raw:
    return jsonrpc.encode_raw(_stamp(capabilities, info, revision, log_level))


def strip_modern_fields(params: Message | None) -> Message | None:
    """Params for a legacy backend: without what only the modern era knows."""
    if params is None:
        return None
    found = {name: raw for name, raw in params.items() if name not in _RETRY_MEMBERS}
    if "_meta" in found:
        said = bytes(found.pop("_meta"))
        kept = (_own_meta_often if len(said) <= MAX_KEPT else _own_meta)(said)
        if kept is not None:
            found["_meta"] = kept
    return found


def _own_meta(said: bytes) -> Raw | None:
    """What is left of `_meta` without what only the modern era knows."""
    found = parse_meta({"_meta": Raw(said)})
    kept = {k: v for k, v in found.items() if not k.startswith(rev.META_PREFIX)}
    return jsonrpc.encode_raw(kept) if kept else None


_own_meta_often = functools.lru_cache(maxsize=256)(_own_meta)


def to_legacy_result(result: Raw) -> Raw:
    """A modern backend's result for a legacy client."""
    found = jsonrpc.decode_object(result)
    if not any(member in found for member in (*_MODERN_MEMBERS, "_meta", "structuredContent")):
        return result
    kept = {name: raw for name, raw in found.items() if name not in _MODERN_MEMBERS}
    if "_meta" in kept:
        own = {k: v for k, v in parse_meta(kept).items() if k != rev.META_SERVER_INFO}
        del kept["_meta"]
        if own:
            kept["_meta"] = jsonrpc.encode_raw(own)
    if "structuredContent" in kept:
        kept["structuredContent"] = to_legacy_content(kept["structuredContent"])
    return jsonrpc.encode_raw(kept)


def to_modern_result(method: str, result: Raw) -> Raw:
    """A legacy backend's result for a modern client: complete, and not to be kept."""
    found: dict[str, Any] = dict(jsonrpc.decode_object(result))
    found.setdefault("resultType", "complete")
    if method in _CACHEABLE:
        found.setdefault("ttlMs", 0)
        found.setdefault("cacheScope", "private")
    return jsonrpc.encode_raw(found)


def to_modern_result_bytes(method: str, result: bytes) -> bytes | None:
    """What `modern_result` makes of a JSON value, without reading it; None where it has to."""
    if method in _CACHEABLE or not (result.startswith(b'{"') and result.endswith(b"}")):
        return None
    if b'"resultType"' in result or b"\\u" in result:
        return None
    return b"%b,%b}" % (result[:-1], _COMPLETE)


def to_legacy_result_bytes(result: bytes) -> bytes | None:
    """What `legacy_result` makes of a JSON value, without reading it; None where it has to.

    What stands before the last bracket is a member of the outermost object, as is the first one.
    """
    if b"\\u" in result or result.count(b'"resultType"') != 1 or may_hold_other_values(result):
        return None
    if b'"_meta"' in result or b'"ttlMs"' in result or b'"cacheScope"' in result:
        return None
    if result.endswith(b",%b}" % _COMPLETE):
        return b"%b}" % result[: -len(_COMPLETE) - 2]
    if result.startswith(b"{%b," % _COMPLETE):
        return b"{%b" % result[len(_COMPLETE) + 2 :]
    return None


def to_modern_error(error: Raw) -> Raw:
    """A legacy backend's error for a modern client: the code of a missing resource differs."""
    found = jsonrpc.decode_object(error)
    if jsonrpc.decode(found.get("code")) != LEGACY_NOT_FOUND:
        return error
    return jsonrpc.encode_raw({**found, "code": INVALID_PARAMS})


def to_legacy_error_bytes(error: RpcError) -> RpcError:
    """An error of our own for a legacy client: the code of an unknown resource differs."""
    if error.code != INVALID_PARAMS or not isinstance(error.data, dict) or "uri" not in error.data:
        return error
    return RpcError(LEGACY_NOT_FOUND, error.message, error.data)


def to_legacy_error(method: str, error: Raw) -> Raw:
    """A modern backend's error for a legacy client, the other way round."""
    if method != "resources/read":
        return error
    try:
        found = jsonrpc.decode_object(error)
        data = found.get("data", jsonrpc.NULL)
        about = jsonrpc.decode_object(data) if bytes(data)[:1] == b"{" else {}
    except RpcError:
        # It has too many members for one that names a resource.
        return error
    if "uri" not in about or jsonrpc.decode(found.get("code")) != INVALID_PARAMS:
        return error
    return jsonrpc.encode_raw({**found, "code": LEGACY_NOT_FOUND})
