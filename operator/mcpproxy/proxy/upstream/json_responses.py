"""The JSON-RPC message of an HTTP response: of a whole one, or of one that is not a stream."""

from collections.abc import Awaitable, Callable
from typing import Final

from msgspec import Raw

from mcpproxy.limits.backends import MESSAGE
from mcpproxy.proxy.core.errors import HttpFailed, ProtocolError
from mcpproxy.proxy.http1.client.connection import ClientResponse
from mcpproxy.proxy.http1.errors import InvalidResponse
from mcpproxy.proxy.protocol import batches, jsonrpc, sse
from mcpproxy.proxy.protocol import headers as h
from mcpproxy.proxy.protocol.jsonrpc import Message, RpcError
from mcpproxy.proxy.protocol.tolerance import quote
from mcpproxy.proxy.upstream.http_errors import BACKEND_ERRORS

OTHER_ID: Final = "the response belongs to another request"


def single_message(response: ClientResponse) -> bytes | None:
    """Return the only message in a response, or the first one in a stream; None if there is
    none."""
    if response.status != 200:
        return None
    kind = response.media_type
    if kind == h.JSON:
        return response.whole
    return sse.single_event_data(response.begun) if kind == h.EVENT_STREAM else None


def failed(response: ClientResponse, message: Message | None) -> HttpFailed | None:
    """Return the error for HTTP status 5xx, unless the body is a JSON-RPC error; else None."""
    if response.status < 500 or (message is not None and "error" in message):
        return None
    return HttpFailed(f"the backend responded with HTTP {response.status}")


async def read_json(
    response: ClientResponse,
    request_id: Raw | None = None,
    on_message: Callable[[Message], Awaitable[None]] | None = None,
) -> Message | None:
    """Return the JSON-RPC message of a response that is not a stream; None if it has none.

    In a batch, the message is the response to `request_id`, or the first response. Notifications
    and requests of the batch are passed to `on_message`. If there is no message, `no_response`
    returns the reason.
    """
    body = await _body(response)
    try:
        messages = batches.of_backend(body)
    except RpcError:
        response.unread([body])
        return None
    if len(messages) == 1:
        return messages[0]
    responses = [message for message in messages if "method" not in message]
    if on_message is not None:
        for message in messages:
            if "method" in message:
                await on_message(message)
    answers = (m for m in responses if request_id is None or jsonrpc.answers(m, request_id))
    return next(answers, responses[0] if responses else messages[0])


async def check_answer(
    response: ClientResponse, message: Message | None, request_id: Raw
) -> Message:
    """Return the JSON-RPC response to this request. Raises ProtocolError if `message` is another
    one."""
    if message is None or "method" in message:
        raise await no_response(response)
    if not jsonrpc.answers(message, request_id):
        raise ProtocolError(OTHER_ID)
    return message


async def no_response(response: ClientResponse) -> ProtocolError:
    """Return the error for an HTTP response without a JSON-RPC response.

    The error quotes a malformed message of the backend, but no HTML page.
    """
    why = f"the backend responded with HTTP {response.status} without a JSON-RPC response"
    is_message = response.status < 400 and response.media_type == h.JSON
    body = await _body(response) if is_message else b""
    try:
        if body:
            batches.of_backend(body)
    except RpcError as error:
        why = f"{why}: {error}: {quote(body)}"
    return ProtocolError(why)


async def _body(response: ClientResponse) -> bytes:
    with BACKEND_ERRORS:
        try:
            return await response.read(MESSAGE.value)
        except InvalidResponse:
            MESSAGE.record()
            raise
