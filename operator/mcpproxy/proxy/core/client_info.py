"""Sizes of what clients say of themselves: it is kept with sessions and sent to backends."""

from typing import Final

from mcpproxy.limits.clients import CLIENT_CAPABILITIES, CLIENT_INFO
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import INVALID_PARAMS, Message, RpcError

_NAMES: Final = ("name", "title", "version")
_LENGTHS: Final = (256, 64, 16)
"""Characters to which names are cut, until all fit."""
SMALLEST: Final = 400
"""Bytes in which three names of the smallest length always fit."""


def bound_client_info(info: bytes, limit: int = CLIENT_INFO.value) -> bytes | None:
    """Client information of at most `limit` bytes (at least SMALLEST), with names if possible.

    Icons go first: they may be images (2025-11-25, Implementation.icons) that no backend needs in
    order to serve requests. Then everything goes but the names, which are cut.
    """
    if len(info) <= limit:
        return info
    members = _members(info)
    members.pop("icons", None)
    candidate = jsonrpc.encode(members)
    if members and len(candidate) <= limit:
        return candidate
    names = {name: jsonrpc.decode_str(members.get(name)) for name in _NAMES}
    for length in _LENGTHS:
        cut = {name: text[:length] for name, text in names.items() if text is not None}
        candidate = jsonrpc.encode(cut)
        if cut and len(candidate) <= limit:
            return candidate
    return None


def check_capabilities(size: int) -> None:
    """Raise RpcError for capabilities of so many bytes, if that is too large to be kept."""
    if size > CLIENT_CAPABILITIES.value:
        CLIENT_CAPABILITIES.record()
        raise RpcError(
            INVALID_PARAMS,
            f"the client's capabilities (params.capabilities) have {size} bytes; at most"
            f" {CLIENT_CAPABILITIES.value} are accepted",
        )


def _members(info: bytes) -> Message:
    try:
        return jsonrpc.decode_object(info)
    except RpcError:
        return {}
