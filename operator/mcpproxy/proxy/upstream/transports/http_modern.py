"""Streamable HTTP backends of the modern era."""

import functools
from collections.abc import Callable, Sequence
from typing import Final

from mcpproxy.proxy.core.errors import ProtocolError, Unreachable
from mcpproxy.proxy.core.exchange import CallContext, ClientIdentity
from mcpproxy.proxy.http1.client.connection import ClientResponse
from mcpproxy.proxy.protocol import headers as h
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import Message
from mcpproxy.proxy.upstream.json_responses import OTHER_ID, check_answer, failed, read_json
from mcpproxy.proxy.upstream.large_results import ResultRelay
from mcpproxy.proxy.upstream.transports.event_stream import delay_unrelated, read_response
from mcpproxy.proxy.upstream.transports.http_endpoint import Lines, McpHttpClient
from mcpproxy.proxy.upstream.transports.http_legacy import HttpLegacySession
from mcpproxy.proxy.upstream.transports.session import (
    ACKNOWLEDGED,
    HttpExchange,
    OnMessage,
    ServerDescription,
    UpstreamRequest,
    build_listen_request,
    is_broadcast,
)

MAX_KEPT: Final = 512
"""Maximum bytes of a name whose headers are cached."""


@functools.lru_cache(maxsize=1024)
def _routing_headers(method: str, raw: bytes) -> Lines:
    """Return the `Mcp-Method` and `Mcp-Name` headers; `raw` is a name or URI as JSON."""
    headers = ((h.METHOD, h.encode_value(method)),)
    name = jsonrpc.decode_str(raw)
    return headers if name is None else (*headers, (h.NAME, h.encode_value(name)))


class HttpModernSession:
    """Upstream "session" of the modern era, in which every request is independent."""

    alive: Final = True
    stateful = False

    def __init__(self, endpoint: McpHttpClient, server: ServerDescription) -> None:
        self.server = server
        self._endpoint = endpoint
        self._version = (h.PROTOCOL_VERSION, server.revision.encode())
        self._last: tuple[Lines, Lines] = ((), ())
        """The latest routing headers, and all headers of that request."""

    def send(
        self,
        request: UpstreamRequest,
        client: ClientIdentity,
        on_response: Callable[[], None],
        detach: Callable[[], None],
    ) -> HttpExchange | None:
        # All messages of a request come in its response, so `detach` is never called.
        endpoint = self._endpoint.of(client) if self._endpoint.by_client else self._endpoint
        headers = self._request_headers(request)
        if request.extra is None:
            envelope = jsonrpc.RequestEnvelope("2.0", request.id, request.method, request.params)
            body = jsonrpc.encode(envelope)
        else:
            body = request.body()
        response = endpoint.send(body, headers, on_response)
        return None if response is None else HttpExchange(self, request, request.id, response)

    def try_complete(self, exchange: HttpExchange) -> bool:
        return True

    async def request(self, outgoing: UpstreamRequest, caller: CallContext) -> Message:
        exchange = HttpExchange(self, outgoing, outgoing.id)
        return await self.resume(exchange, caller, outgoing.large_result)

    async def resume(
        self, exchange: HttpExchange, caller: CallContext, large_result: ResultRelay | None
    ) -> Message:
        # Closing the stream cancels the request.
        request, endpoint = exchange.request, self._endpoint.of(caller.client)
        exchange.begin_task(caller, large_result)
        try:
            body, headers = request.body(), self._request_headers(request)
            response = await endpoint.post(
                body, headers, sent=exchange.response, again=request.repeatable
            )
            exchange.begin_response(response)
            if response.media_type == h.EVENT_STREAM:
                return await self._read_stream(response, exchange, caller)
            return await self._read_json(response, exchange, caller)
        except BaseException:
            exchange.give_up()
            raise

    async def _read_json(
        self, response: ClientResponse, exchange: HttpExchange, caller: CallContext
    ) -> Message:
        placeholder = await exchange.relay_large(response.rest)
        if placeholder is not None:
            return placeholder
        message = await read_json(response, exchange.id, caller.notify)
        if (failure := failed(response, message)) is not None:
            raise failure
        return await check_answer(response, message, exchange.id)

    def _request_headers(self, outgoing: UpstreamRequest) -> tuple[tuple[bytes, bytes], ...]:
        name_field = h.NAME_MEMBER.get(outgoing.method)
        name = (outgoing.params or {}).get(name_field) if name_field else None
        raw = b"" if name is None else bytes(name)
        routing = (_routing_headers if len(raw) <= MAX_KEPT else _routing_headers.__wrapped__)(
            outgoing.method, raw
        )
        if not (outgoing.headers or outgoing.trace):
            return self._with_version(routing)
        return (self._version, *routing, *outgoing.headers, *outgoing.trace)

    def _with_version(self, routing: Lines) -> Lines:
        """Return all headers; the same object for consecutive equal requests, which the HTTP
        client's cache finds faster."""
        if self._last[0] is not routing:
            self._last = routing, (self._version, *routing)
        return self._last[1]

    async def _read_stream(
        self, response: ClientResponse, exchange: HttpExchange, caller: CallContext
    ) -> Message:
        reader = self._endpoint.events(response)
        answer, has_other_response = await read_response(reader, exchange, caller.notify)
        if answer is not None:
            response.leave()
            return answer
        if has_other_response:
            raise ProtocolError(OTHER_ID)
        raise Unreachable(reader.without_response)

    async def notify(self, message: Message, client: ClientIdentity | None = None) -> None:
        """Do nothing: this era has no client notifications over HTTP."""

    async def listen(
        self,
        session_context: CallContext,
        announced: OnMessage,
        ready: Callable[[], None],
        uris: Sequence[str] = (),
    ) -> None:
        # `subscriptions/listen` for all kinds of lists.
        outgoing = build_listen_request(session_context.client, self.server.revision, uris)
        response = await self._endpoint.post(outgoing.body(), self._request_headers(outgoing))
        try:
            if response.media_type != h.EVENT_STREAM:
                if (failure := failed(response, None)) is not None:
                    raise failure
                ready()
                return
            reader = self._endpoint.events(response)
            while (messages := await reader.messages()) is not None:
                for message in messages:
                    if jsonrpc.decode_str(message.get("method")) == ACKNOWLEDGED:
                        ready()
                    elif is_broadcast(message):
                        await announced(message)
                await delay_unrelated(messages, self._endpoint.unrelated_rate)
        finally:
            response.close()

    async def close(self) -> None: ...


IMMEDIATE: Final = (HttpLegacySession, HttpModernSession)
"""The sessions that are `SendsImmediately`. A check against the protocol itself is slow."""
