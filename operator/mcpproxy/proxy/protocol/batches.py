"""JSON-RPC batches, which the revision 2025-03-26 has, and the messages of backends."""

import re
from collections.abc import Callable
from typing import Final

from mcpproxy.limits.backends import BACKEND_BATCH
from mcpproxy.proxy.protocol import jsonrpc, tolerance
from mcpproxy.proxy.protocol.fragments import parse_fragment
from mcpproxy.proxy.protocol.jsonrpc import INVALID_REQUEST, PARSE_ERROR, Message, RpcError
from mcpproxy.proxy.protocol.tolerance import BOM

REVISION: Final = "2025-03-26"
"""The revision that has batches."""
_BEGINS: Final = re.compile(rb"(?:%b)?\s*+\[" % BOM)


def is_batch(body: bytes) -> bool:
    """Return whether a body is a JSON array rather than a single message."""
    return _BEGINS.match(body) is not None


def _split(body: bytes, most: int, record: Callable[[], None], *, of_backend: bool) -> list[bytes]:
    """Return the members of a batch. Raises RpcError."""
    text = body.removeprefix(BOM)
    try:
        count = jsonrpc.length(text, most)
        if count <= most:
            members = [bytes(member) for member in jsonrpc.decode_array(text)]
    except RpcError:
        repaired = tolerance.repair_json(text, of_backend=of_backend)
        if repaired is None:
            raise RpcError(PARSE_ERROR, "the batch is not JSON") from None
        return _split(repaired, most, record, of_backend=of_backend)
    if not count:
        raise RpcError(INVALID_REQUEST, "the batch is empty")
    if count > most:
        record()
        why = f"the batch has more than {most} messages; split it"
        raise RpcError(INVALID_REQUEST, why)
    return members


def of_client(body: bytes, most: int, record: Callable[[], None]) -> list[Message | bytes]:
    """Return the messages of a client's batch, a refusal for each member that is not one.

    Raises RpcError where the body is not a batch of at most `most` members; `record` is called
    where it has more.
    """
    return [_member(member) for member in _split(body, most, record, of_backend=False)]


def _member(body: bytes) -> Message | bytes:
    try:
        message = jsonrpc.parse(body)
    except RpcError as error:
        return refusal(body, error)
    if jsonrpc.decode_str(message.get("method")) == "initialize":
        alone = RpcError(INVALID_REQUEST, "initialize must not be part of a batch")
        return jsonrpc.error_response(message.get("id"), alone)
    return message


def is_request(message: Message) -> bool:
    """Return whether a message wants a response."""
    return "method" in message and "id" in message


def refusal(body: bytes, error: RpcError) -> bytes:
    """Return the response to what is not a message: with its id where that is beyond doubt."""
    known = parse_fragment(body)
    if error.code == INVALID_REQUEST and known.has_method and not is_batch(body):
        return jsonrpc.error_response(known.id, error)
    return jsonrpc.error_response(None, error)


def of_backend(body: bytes) -> list[Message]:
    """Return what a backend sends at once: one message, or a batch. Raises RpcError.

    Backends may send batches in every revision: the TypeScript SDK reads them in all.
    """
    if body[:1] == b"{" or not is_batch(body):
        return [jsonrpc.bounded(body)]
    most, record = BACKEND_BATCH.value, BACKEND_BATCH.record
    return [jsonrpc.bounded(member) for member in _split(body, most, record, of_backend=True)]
