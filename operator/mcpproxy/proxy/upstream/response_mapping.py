"""Mapping of a backend's response to the one that the client gets: its era, its id and its names.

Most responses need no change, or a change of a few bytes at known places. The others are decoded.
"""

from mcpproxy.proxy.core.errors import BackendError
from mcpproxy.proxy.core.translation.namespacing import PrefixMapping
from mcpproxy.proxy.core.translation.result_names import (
    may_name_component,
    to_downstream_error,
    to_downstream_result,
)
from mcpproxy.proxy.http1.client.response import ClientResponse
from mcpproxy.proxy.protocol import headers as h
from mcpproxy.proxy.protocol import jsonrpc, sse
from mcpproxy.proxy.protocol.jsonrpc import Message, RpcError
from mcpproxy.proxy.upstream.era_bridge import (
    is_unfinished,
    to_legacy_response,
    to_modern_response,
    translate_result_bytes,
)
from mcpproxy.proxy.upstream.transports.session import (
    HttpExchange,
    ServerDescription,
    UpstreamRequest,
)


def map_response_bytes(
    exchange: HttpExchange,
    request: UpstreamRequest,
    server: ServerDescription,
    names: PrefixMapping,
) -> bytes | None:
    """Return the encoded response for the client, or None if the response has to be decoded.

    `request` is the client's request, with the backend's names.
    """
    response = exchange.response
    assert response is not None
    if response.single is not None and response.status == 200 and response.media_type == h.JSON:
        body: bytes | None = response.single
    else:
        body = single_message(response)
    parsed = None if body is None else jsonrpc.parse_result_fast(body)
    if body is None or parsed is None or parsed.id != exchange.id:
        return None
    if exchange.request is not request:
        result = translate_result_bytes(request.method, bytes(parsed.result), server)
        if result is None:
            return None
        body = jsonrpc.response(request.id, result)
    elif exchange.id is not request.id:
        body = jsonrpc.response(request.id, parsed.result)
    # As `names.change`, but without a call.
    changes = names.prefix or names.tasks.sealer is not None
    return None if changes and may_name_component(body, names) else body


def map_response(
    exchange: HttpExchange,
    request: UpstreamRequest,
    server: ServerDescription,
    names: PrefixMapping,
    principal: str,
) -> Message | None:
    """Return the response for the client with the client's id, or None if only a task can.

    A task reads responses that are not one message, asks for the input that an unfinished result
    requires, handles the loss of a session, and reports errors of the backend.
    """
    response = exchange.response
    assert response is not None
    body = single_message(response)
    if not body:
        return None
    try:
        message = jsonrpc.parse_bounded(body)
        if "method" in message or not jsonrpc.answers(message, exchange.id):
            return None
        if "error" in message and exchange.number:
            return None
        if exchange.request is not request:
            if server.modern and is_unfinished(message):
                return None
            translate = to_legacy_response if server.modern else to_modern_response
            message = translate(request, message)
        mapped = map_names(request.method, message, names, principal)
    except (BackendError, RpcError):
        return None
    mapped["id"] = request.id
    return mapped


def map_names(method: str, answer: Message, names: PrefixMapping, principal: str) -> Message:
    """Return a response with the names that clients see. Raises RpcError."""
    if not names.change:
        return answer
    if "result" in answer:
        result = to_downstream_result(method, answer["result"], names, principal)
        return answer if result is answer["result"] else {**answer, "result": result}
    return {**answer, "error": to_downstream_error(answer["error"], names)}


def single_message(response: ClientResponse) -> bytes | None:
    """Return the only message in a response, or the first one in a stream; None if there is
    none."""
    if response.status != 200:
        return None
    kind = response.media_type
    if kind == h.JSON:
        return response.whole
    return sse.single_event_data(response.begun) if kind == h.EVENT_STREAM else None
