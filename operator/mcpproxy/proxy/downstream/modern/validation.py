"""Validation of modern requests, in the order of the reference servers.

The rules are in 2026-07-28, basic: per-request fields; transports: standard headers.
"""

import functools
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from msgspec import Raw

from mcpproxy.proxy.core.client_info import bound_client_info
from mcpproxy.proxy.core.exchange import ClientIdentity
from mcpproxy.proxy.core.tokens.session_token import canonical_capabilities
from mcpproxy.proxy.core.translation.era_translation import MAX_KEPT, parse_meta
from mcpproxy.proxy.protocol import headers as h
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol import revisions as rev
from mcpproxy.proxy.protocol.jsonrpc import (
    HEADER_MISMATCH,
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    MISSING_CAPABILITY,
    PARSE_ERROR,
    UNSUPPORTED_VERSION,
    Message,
    RpcError,
)

STATUS: Final[Mapping[int, int]] = {
    PARSE_ERROR: 400,
    INVALID_REQUEST: 400,
    INVALID_PARAMS: 400,
    HEADER_MISMATCH: 400,
    MISSING_CAPABILITY: 400,
    UNSUPPORTED_VERSION: 400,
    METHOD_NOT_FOUND: 404,
}
"""HTTP status of a response with a JSON-RPC error of this code; 200 for other codes."""
_ROUTING: Final = (h.PROTOCOL_VERSION, h.METHOD, h.NAME)

HeaderLines = Iterable[tuple[bytes, bytes]]


def reject_duplicate_headers(lines: HeaderLines) -> None:
    """Raise RpcError if a routing header is repeated, because readers would disagree about it."""
    seen = set()
    for name, _ in lines:
        if name in _ROUTING:
            if name in seen:
                raise RpcError(
                    HEADER_MISMATCH, f"the header {name.decode()} is repeated; send it once"
                )
            seen.add(name)


def unsupported_version_error(requested: Any) -> RpcError:
    """Return the error for an unsupported revision."""
    return RpcError(
        UNSUPPORTED_VERSION,
        "unsupported protocol version",
        {"supported": list(rev.MODERN), "requested": requested},
    )


class _ValidatedMeta(NamedTuple):
    """Client information in a request's `_meta`."""

    missing: tuple[str, ...]
    version: str | None
    level: str | None
    client: ClientIdentity | None
    """None unless the revision is of the modern era."""


def _parse_meta(raw: bytes | None, principal: str) -> _ValidatedMeta:
    fields = parse_meta({} if raw is None else {"_meta": Raw(raw)})
    missing = tuple(k for k in (rev.META_VERSION, rev.META_CAPABILITIES) if k not in fields)
    version = jsonrpc.decode_str(fields.get(rev.META_VERSION))
    level = jsonrpc.decode_str(fields.get(rev.META_LOG_LEVEL))
    client = None
    if version in rev.MODERN and not missing:
        info = fields.get(rev.META_CLIENT_INFO)
        capabilities = canonical_capabilities(fields[rev.META_CAPABILITIES])
        bounded_info = None if info is None else bound_client_info(bytes(info))
        client = ClientIdentity(version, capabilities, bounded_info, principal)
    return _ValidatedMeta(missing, version, level, client)


_parse_meta_cached = functools.lru_cache(maxsize=1024)(_parse_meta)
"""Cached, because most requests of a client have the same `_meta`."""


def parse_client(
    method: str, params: Message, headers: Mapping[bytes, bytes] | None, principal: str
) -> tuple[ClientIdentity, str | None]:
    """Return the client identity and the log level of a request.

    `headers` is None without HTTP (stdio), and `method` is then unused. Raise RpcError for the
    first invalid field.
    """
    raw = None if "_meta" not in params else bytes(params["_meta"])
    meta = (_parse_meta_cached if len(raw or b"") <= MAX_KEPT else _parse_meta)(raw, principal)
    if meta.missing:
        raise RpcError(INVALID_PARAMS, f"params._meta: {' and '.join(meta.missing)} missing")
    if headers is not None:
        _check_headers(method, params, headers, meta.version)
    if meta.version is None:
        raise RpcError(INVALID_PARAMS, f"params._meta: {rev.META_VERSION} must be a string")
    if meta.client is None:
        raise unsupported_version_error(meta.version)
    return meta.client, meta.level


def _check_headers(
    method: str, params: Message, headers: Mapping[bytes, bytes], version: str | None
) -> None:
    header = headers.get(h.PROTOCOL_VERSION)
    if header is None or header.decode("latin-1") != version:
        raise RpcError(
            HEADER_MISMATCH, "the header Mcp-Protocol-Version does not match params._meta"
        )
    if headers.get(h.METHOD, b"").decode("latin-1") != method:
        raise RpcError(HEADER_MISMATCH, "the header Mcp-Method does not match the method")
    member = h.NAME_MEMBER.get(method)
    if member is not None and member in params:
        header = headers.get(h.NAME)
        name = None if header is None else h.decode_value(header)
        if name is None or name != jsonrpc.decode_str(params[member]):
            raise RpcError(HEADER_MISMATCH, f"the header Mcp-Name does not match params.{member}")


def check_param_headers(
    properties: Iterable[tuple[h.Path, str]], params: Message, lines: HeaderLines
) -> None:
    """Raise RpcError if the Mcp-Param-* headers do not match the arguments that they repeat."""
    expected = dict(h.param_headers(properties, jsonrpc.decode(params.get("arguments"))))
    names = {h.PARAM_PREFIX + token.lower().encode() for _, token in properties}
    received: dict[bytes, bytes] = {}
    for name, value in lines:
        if name in names:
            if name in received:
                raise RpcError(
                    HEADER_MISMATCH, f"the header {name.decode()} is repeated; send it once"
                )
            received[name] = value
    for name in names:
        expected_value, received_value = expected.get(name), received.get(name)
        same = (expected_value is None) == (received_value is None)
        if same and expected_value is not None and received_value is not None:
            same = h.decode_value(expected_value) == h.decode_value(received_value)
        if not same:
            raise RpcError(
                HEADER_MISMATCH, f"the header {name.decode()} does not match the arguments"
            )
