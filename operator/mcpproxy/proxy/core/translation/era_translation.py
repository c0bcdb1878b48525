"""Translation between eras: add or remove the fields in which legacy and modern messages differ.

Used only if the two sides of an exchange differ in era. Otherwise bytes pass unchanged.
"""

import functools
from typing import Final

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
_MODERN_FIELDS: Final = ("resultType", "ttlMs", "cacheScope")
_RETRY_FIELDS: Final = ("inputResponses", "requestState")
MAX_KEPT: Final = 1024
"""Maximum size of `_meta` to cache, in bytes. Most requests of a client have the same `_meta`."""
_COMPLETE: Final = b'"resultType":"complete"'
_ADDED: Final = {"resultType": Raw(b'"complete"')}
_ADDED_CACHEABLE: Final = {**_ADDED, "ttlMs": Raw(b"0"), "cacheScope": Raw(b'"private"')}


def parse_meta(params: Message) -> Message:
    """Return the fields of `_meta`; empty if it is absent or not an object."""
    raw = params.get("_meta")
    return jsonrpc.decode_object(raw) if raw is not None and bytes(raw)[:1] == b"{" else {}


def trace_parent(meta: bytes | Raw) -> str:
    """Return the `traceparent` in an encoded `_meta`; empty without a valid one.

    Records of a call must not depend on what its client may leave out.
    """
    try:
        return jsonrpc.decode_str(jsonrpc.decode_object(meta).get("traceparent")) or ""
    except RpcError:
        return ""


def add_client_meta(
    params: Message | None,
    client: ClientIdentity,
    revision: str,
    log_level: str | None,
    capabilities: bytes | None = None,
) -> Message:
    """Return params for a modern backend, with the client's identity in `_meta`.

    `capabilities` replace the declared capabilities of the client.
    """
    original = params or {}
    declared = client.capabilities if capabilities is None else capabilities
    if "_meta" not in original and len(declared) + len(client.info or b"") <= MAX_KEPT:
        cached = _client_meta_cached(declared, client.info, revision, log_level)
        return {**original, "_meta": cached}
    merged = {**parse_meta(original), **_client_meta(declared, client.info, revision, log_level)}
    return {**original, "_meta": jsonrpc.encode_raw(merged)}


def _client_meta(
    capabilities: bytes, info: bytes | None, revision: str, log_level: str | None
) -> Message:
    meta = {
        rev.META_VERSION: jsonrpc.encode_raw(revision),
        rev.META_CAPABILITIES: Raw(capabilities),
    }
    if info is not None:
        meta[rev.META_CLIENT_INFO] = Raw(info)
    if log_level is not None:
        meta[rev.META_LOG_LEVEL] = jsonrpc.encode_raw(log_level)
    return meta


@functools.lru_cache(maxsize=256)
def _client_meta_cached(
    capabilities: bytes, info: bytes | None, revision: str, log_level: str | None
) -> Raw:
    return jsonrpc.encode_raw(_client_meta(capabilities, info, revision, log_level))


def strip_modern_fields(params: Message | None) -> Message | None:
    """Return params for a legacy backend, without the fields of the modern era."""
    if params is None:
        return None
    stripped = {name: raw for name, raw in params.items() if name not in _RETRY_FIELDS}
    if "_meta" in stripped:
        raw_meta = bytes(stripped.pop("_meta"))
        kept = (_strip_meta_cached if len(raw_meta) <= MAX_KEPT else _strip_meta)(raw_meta)
        if kept is not None:
            stripped["_meta"] = kept
    return stripped


def _strip_meta(raw_meta: bytes) -> Raw | None:
    """Return `_meta` without the fields of the modern era, or None if nothing is left."""
    meta = parse_meta({"_meta": Raw(raw_meta)})
    kept = {k: v for k, v in meta.items() if not k.startswith(rev.META_PREFIX)}
    return jsonrpc.encode_raw(kept) if kept else None


_strip_meta_cached = functools.lru_cache(maxsize=256)(_strip_meta)


def to_legacy_result(result: Raw) -> Raw:
    """Translate a modern backend's result for a legacy client."""
    fields = jsonrpc.decode_object(result)
    if not any(member in fields for member in (*_MODERN_FIELDS, "_meta", "structuredContent")):
        return result
    kept = {name: raw for name, raw in fields.items() if name not in _MODERN_FIELDS}
    if "_meta" in kept:
        own = {k: v for k, v in parse_meta(kept).items() if k != rev.META_SERVER_INFO}
        del kept["_meta"]
        if own:
            kept["_meta"] = jsonrpc.encode_raw(own)
    if "structuredContent" in kept:
        kept["structuredContent"] = to_legacy_content(kept["structuredContent"])
    return jsonrpc.encode_raw(kept)


def fields_of_modern_results(method: str) -> dict[str, Raw]:
    """Return the fields that a modern result has and a legacy one lacks: the result is complete and
    not cacheable."""
    return _ADDED_CACHEABLE if method in _CACHEABLE else _ADDED


def to_modern_result(method: str, result: Raw) -> Raw:
    """Translate a legacy backend's result for a modern client."""
    fields = jsonrpc.decode_object(result)
    added = fields_of_modern_results(method)
    return jsonrpc.encode_raw({**fields, **{k: v for k, v in added.items() if k not in fields}})


def to_modern_result_bytes(method: str, result: bytes) -> bytes | None:
    """Return the bytes of `to_modern_result` without parsing; None if parsing is necessary."""
    if method in _CACHEABLE or not (result.startswith(b'{"') and result.endswith(b"}")):
        return None
    if b'"resultType"' in result or b"\\u" in result:
        return None
    return b"%b,%b}" % (result[:-1], _COMPLETE)


def to_legacy_result_bytes(result: bytes) -> bytes | None:
    """Return the bytes of `to_legacy_result` without parsing; None if parsing is necessary.

    The text before the last bracket, like the first field, belongs to the outermost object.
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
    """Translate a legacy backend's error; the code of a missing resource differs between eras."""
    fields = jsonrpc.decode_object(error)
    if jsonrpc.decode(fields.get("code")) != LEGACY_NOT_FOUND:
        return error
    return jsonrpc.encode_raw({**fields, "code": INVALID_PARAMS})


def to_legacy_rpc_error(error: RpcError) -> RpcError:
    """Translate an error of the proxy; the code of a missing resource differs between eras."""
    if error.code != INVALID_PARAMS or not isinstance(error.data, dict) or "uri" not in error.data:
        return error
    return RpcError(LEGACY_NOT_FOUND, error.message, error.data)


def to_legacy_error(method: str, error: Raw) -> Raw:
    """Translate a modern backend's error; the code of a missing resource differs between eras."""
    if method != "resources/read":
        return error
    try:
        fields = jsonrpc.decode_object(error)
        data = fields.get("data", jsonrpc.NULL)
        data_fields = jsonrpc.decode_object(data) if bytes(data)[:1] == b"{" else {}
    except RpcError:
        # An error with this many fields does not name a resource.
        return error
    if "uri" not in data_fields or jsonrpc.decode(fields.get("code")) != INVALID_PARAMS:
        return error
    return jsonrpc.encode_raw({**fields, "code": LEGACY_NOT_FOUND})
