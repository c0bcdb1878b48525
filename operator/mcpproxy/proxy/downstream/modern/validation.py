"""What a modern request must say about itself (2026-07-28, basic: per-request fields; transports:
standard headers). Checked in the order in which the specification's own servers do."""

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
"""HTTP status of a response that is a JSON-RPC error of this code; 200 for others."""
_ROUTING: Final = (h.PROTOCOL_VERSION, h.METHOD, h.NAME)

HeaderLines = Iterable[tuple[bytes, bytes]]


def duplicate_header(lines: HeaderLines) -> None:
    """Raises RpcError when a routing header is there more than once: readers would disagree."""
    seen = set()
    for name, _ in lines:
        if name in _ROUTING:
            if name in seen:
                raise RpcError(HEADER_MISMATCH, f"the header {name.decode()} is there twice")
            seen.add(name)


def unsupported_version_error(requested: Any) -> RpcError:
    """The error for a revision that is not served."""
    return RpcError(
        UNSUPPORTED_VERSION,
        "unsupported protocol version",
        {"supported": list(rev.MODERN), "requested": requested},
    )


class _ValidatedMeta(NamedTuple):
    """What a request's `_meta` says of its client."""

    missing: tuple[str, ...]
    version: str | None
    level: str | None
    client: ClientIdentity | None
    """None unless the revision is one of this era."""


def _said(raw: bytes | None, principal: str) -> _ValidatedMeta:
    found = parse_meta({} if raw is None else {"_meta": Raw(raw)})
    missing = tuple(k for k in (rev.META_VERSION, rev.META_CAPABILITIES) if k not in found)
    version = jsonrpc.decode_str(found.get(rev.META_VERSION))
    level = jsonrpc.decode_str(found.get(rev.META_LOG_LEVEL))
    client = None
    if version in rev.MODERN and not missing:
        info = found.get(rev.META_CLIENT_INFO)
        capabilities = canonical_capabilities(found[rev.META_CAPABILITIES])
        known = None if info is None else bound_client_info(bytes(info))
        client = ClientIdentity(version, capabilities, known, principal)
    return _ValidatedMeta(missing, version, level, client)


_said_often = functools.lru_cache(maxsize=1024)(_said)
"""Clients say the same of themselves with most requests."""


def parse_client(
    method: str, params: Message, headers: Mapping[bytes, bytes] | None, principal: str
) -> tuple[ClientIdentity, str | None]:
    """Who asks, and the log level it wants.

    `headers` is None where there are none (stdio); then the method is of no interest, either.

    Raises RpcError for the first thing that is wrong.
    """
    raw = None if "_meta" not in params else bytes(params["_meta"])
    said = (_said_often if len(raw or b"") <= MAX_KEPT else _said)(raw, principal)
    if said.missing:
        raise RpcError(INVALID_PARAMS, f"params._meta lacks {' and '.join(said.missing)}")
    if headers is not None:
        _check_headers(method, params, headers, said.version)
    if said.version is None:
        raise RpcError(INVALID_PARAMS, f"params._meta: {rev.META_VERSION} must be a string")
    if said.client is None:
        raise unsupported_version_error(said.version)
    return said.client, said.level


def _check_headers(
    method: str, params: Message, headers: Mapping[bytes, bytes], version: str | None
) -> None:
    given = headers.get(h.PROTOCOL_VERSION)
    if given is None or given.decode("latin-1") != version:
        raise RpcError(
            HEADER_MISMATCH, "the header Mcp-Protocol-Version does not match params._meta"
        )
    if headers.get(h.METHOD, b"").decode("latin-1") != method:
        raise RpcError(HEADER_MISMATCH, "the header Mcp-Method does not match the method")
    member = h.NAME_MEMBER.get(method)
    if member is not None and member in params:
        given = headers.get(h.NAME)
        name = None if given is None else h.decode_value(given)
        if name is None or name != jsonrpc.decode_str(params[member]):
            raise RpcError(HEADER_MISMATCH, f"the header Mcp-Name does not match params.{member}")


def check_param_headers(
    properties: Iterable[tuple[h.Path, str]], params: Message, lines: HeaderLines
) -> None:
    """Raises RpcError when the Mcp-Param-* headers don't repeat the arguments they stand for."""
    expected = dict(h.param_headers(properties, jsonrpc.decode(params.get("arguments"))))
    known = {h.PARAM_PREFIX + token.lower().encode() for _, token in properties}
    given: dict[bytes, bytes] = {}
    for name, value in lines:
        if name in known:
            if name in given:
                raise RpcError(HEADER_MISMATCH, f"the header {name.decode()} is there twice")
            given[name] = value
    for name in known:
        mine, theirs = expected.get(name), given.get(name)
        same = (mine is None) == (theirs is None)
        if same and mine is not None and theirs is not None:
            same = h.decode_value(mine) == h.decode_value(theirs)
        if not same:
            raise RpcError(
                HEADER_MISMATCH, f"the header {name.decode()} does not match the arguments"
            )
