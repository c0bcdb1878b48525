"""Size limits of client information, which is stored with sessions and sent to backends."""

from typing import Final

from mcpproxy.limits.clients import CLIENT_CAPABILITIES, CLIENT_INFO
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import INVALID_PARAMS, Message, RpcError

_NAMES: Final = ("name", "title", "version")
_LENGTHS: Final = (256, 64, 16)
"""Lengths in characters to which names are cut; each is tried until the result fits."""
SMALLEST: Final = 400
"""Size in bytes that three names of the smallest length never exceed."""


def bound_client_info(info: bytes, limit: int = CLIENT_INFO.value) -> bytes | None:
    """Return client information of at most `limit` bytes (at least SMALLEST), or None.

    Icons are removed first: they may be images (2025-11-25, Implementation.icons), and no backend
    needs them to serve requests. If that is not enough, only the names remain, cut in length.
    """
    if len(info) <= limit:
        return info
    members = _parse_object(info)
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
    """Raise RpcError if capabilities of `size` bytes are too large to be stored."""
    if size > CLIENT_CAPABILITIES.value:
        CLIENT_CAPABILITIES.record()
        raise RpcError(
            INVALID_PARAMS,
            f"params.capabilities has {size} bytes; the maximum is {CLIENT_CAPABILITIES.value}",
        )


def _parse_object(info: bytes) -> Message:
    try:
        return jsonrpc.decode_object(info)
    except RpcError:
        return {}
