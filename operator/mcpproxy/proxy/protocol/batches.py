"""JSON-RPC batches (revision 2025-03-26) and the messages of backends."""

import re
from collections.abc import Callable
from typing import Final

from mcpproxy.limits.backends import BACKEND_BATCH
from mcpproxy.proxy.protocol import jsonrpc, tolerance
from mcpproxy.proxy.protocol.fragments import parse_fragment
from mcpproxy.proxy.protocol.jsonrpc import INVALID_REQUEST, PARSE_ERROR, Message, RpcError
from mcpproxy.proxy.protocol.tolerance import BOM

REVISION: Final = "2025-03-26"
"""Revision that has batches."""
_BEGINS: Final = re.compile(rb"(?:%b)?\s*+\[" % BOM)


def is_batch(body: bytes) -> bool:
    """Return True if a body is a JSON array rather than a single message."""
    return _BEGINS.match(body) is not None


def _split(body: bytes, most: int, record: Callable[[], None], *, of_backend: bool) -> list[bytes]:
    """Return the messages of a batch. Raise RpcError."""
    text = body.removeprefix(BOM)
    try:
        count = jsonrpc.length(text, most)
        if count <= most:
            members = [bytes(member) for member in jsonrpc.decode_array(text)]
    except RpcError:
        repaired = tolerance.repair_json(text, of_backend=of_backend)
        if repaired is None:
            raise RpcError(PARSE_ERROR, "the batch is not valid JSON") from None
        return _split(repaired, most, record, of_backend=of_backend)
    if not count:
        raise RpcError(INVALID_REQUEST, "the batch is empty")
    if count > most:
        record()
        why = f"the batch has more than {most} messages; split it"
        raise RpcError(INVALID_REQUEST, why)
    return members


def of_client(body: bytes, most: int, record: Callable[[], None]) -> list[Message | bytes]:
    """Return the messages of a client's batch, with an error response for each malformed one.

    Raise RpcError if the body is not a batch of at most `most` messages. `record` is called if it
    has more.
    """
    return [_parse_member(member) for member in _split(body, most, record, of_backend=False)]


def _parse_member(body: bytes) -> Message | bytes:
    try:
        message = jsonrpc.parse(body)
    except RpcError as error:
        return refusal(body, error)
    if jsonrpc.decode_str(message.get("method")) == "initialize":
        alone = RpcError(INVALID_REQUEST, "initialize must not be part of a batch")
        return jsonrpc.error_response(message.get("id"), alone)
    return message


def is_request(message: Message) -> bool:
    """Return True if a message requires a response."""
    return "method" in message and "id" in message


def refusal(body: bytes, error: RpcError) -> bytes:
    """Return the error response to a malformed message, with its id if that is certain."""
    fragment = parse_fragment(body)
    if error.code == INVALID_REQUEST and fragment.has_method and not is_batch(body):
        return jsonrpc.error_response(fragment.id, error)
    return jsonrpc.error_response(None, error)


def of_backend(body: bytes) -> list[Message]:
    """Return the messages in a backend's text: a single one, or a batch. Raise RpcError.

    Backends may send batches in every revision, because the TypeScript SDK accepts them in all.
    """
    if body[:1] == b"{" or not is_batch(body):
        return [jsonrpc.parse_bounded(body)]
    most, record = BACKEND_BATCH.value, BACKEND_BATCH.record
    return [jsonrpc.parse_bounded(member) for member in _split(body, most, record, of_backend=True)]
