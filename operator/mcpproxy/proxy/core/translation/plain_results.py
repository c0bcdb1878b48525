"""Results that need no change: successes without any name, URI or id that clients see changed.

To search a large text for the names of all fields that may have to be changed takes several times
as long as to decode its outline.
"""

from typing import Final, Literal

import msgspec
from msgspec import Raw

from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import RpcError
from mcpproxy.proxy.protocol.tolerance import MALFORMED

LARGE: Final = 2048
"""Bytes of a response above which its outline is faster to decode than to search."""
_MOST: Final = 256 * 1024
"""Bytes of the largest response whose outline is decoded, because each block is an object."""

ERROR_FLAG: Final = b'"isError"'


class _PlainBlock(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """Content block without a URI and without `_meta`."""

    type: Raw
    text: Raw = Raw(b"")
    data: Raw = Raw(b"")
    mime_type: Raw = msgspec.field(default=Raw(b""), name="mimeType")
    annotations: Raw = Raw(b"")


class _PlainResult(msgspec.Struct, forbid_unknown_fields=True):
    """Result of tools/call without `_meta` and without a task."""

    content: list[_PlainBlock]
    structured: Raw = msgspec.field(default=Raw(b""), name="structuredContent")
    is_error: bool = msgspec.field(default=False, name="isError")
    type: Raw = msgspec.field(default=Raw(b""), name="resultType")


class _PlainResponse(msgspec.Struct, forbid_unknown_fields=True):
    """Response of which `jsonrpc.ResultEnvelope` has the fields as well."""

    jsonrpc: Literal["2.0"]
    id: Raw
    result: _PlainResult


_decode: Final = msgspec.json.Decoder(_PlainResponse).decode


def plain_response_id(body: bytes) -> Raw | None:
    """Return the id of a large response to tools/call if it is a success without any name, URI or
    task id that clients see changed; None if that takes a closer look."""
    if len(body) > _MOST:
        return None
    try:
        if not body.isascii():
            body.decode()
        response = _decode(body)
    except MALFORMED:
        return None
    return None if response.result.is_error else response.id


def is_tool_error(result: bytes | Raw) -> bool:
    """Return True if the tool has set `isError` in its result."""
    if ERROR_FLAG not in bytes(result):
        return False
    try:
        flag = jsonrpc.decode_object(result).get("isError", jsonrpc.NULL)
    except RpcError:
        return False
    return bytes(flag) == b"true"
