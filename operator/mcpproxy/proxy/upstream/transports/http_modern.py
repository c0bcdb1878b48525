"""Streamable HTTP backends of the modern era."""

import functools
from collections.abc import Callable, Sequence
from typing import Final

from mcpproxy.proxy.core.errors import ProtocolError, Unreachable
from mcpproxy.proxy.core.exchange import CallContext, ClientIdentity
from mcpproxy.proxy.http1.client.response import ClientResponse
from mcpproxy.proxy.protocol import headers as h
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import Message
from mcpproxy.proxy.upstream.transports.event_stream import delay_unrelated
from mcpproxy.proxy.upstream.transports.http_endpoint import (
    Lines,
    McpHttpClient,
    failed,
    no_response,
    read_json,
)
from mcpproxy.proxy.upstream.transports.session import (
    ACKNOWLEDGED,
    OTHER_ID,
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

    stateful = False

    def __init__(self, endpoint: McpHttpClient, greeting: ServerDescription) -> None:
        self.greeting = greeting
        self._endpoint = endpoint
        self._version = (h.PROTOCOL_VERSION, greeting.revision.encode())
        self._last: tuple[Lines, Lines] = ((), ())
        """The latest routing headers, and all headers of that request."""

    @property
    def alive(self) -> bool:
        return True

    async def request(self, outgoing: UpstreamRequest, caller: CallContext) -> Message:
        # Closing the stream cancels the request.
        response = await self._endpoint.of(caller.client).post(
            outgoing.body(),
            self._request_headers(outgoing),
            sent=outgoing.sent,
            again=outgoing.repeatable,
        )
        try:
            if response.media_type != h.EVENT_STREAM:
                placeholder = await outgoing.relay_large(response.rest)
                if placeholder is not None:
                    return placeholder
                message = await read_json(response, outgoing.id, caller.notify)
                if (failure := failed(response, message)) is not None:
                    raise failure
                if message is None or "method" in message:
                    raise await no_response(response)
                if not jsonrpc.answers(message, outgoing.id):
                    raise ProtocolError(OTHER_ID)
                return message
            return await self._read_stream(response, outgoing, caller)
        except BaseException:
            response.close()
            raise

    def begin(
        self, outgoing: UpstreamRequest, client: ClientIdentity, done: Callable[[], None]
    ) -> ClientResponse | None:
        endpoint = self._endpoint.of(client) if client.headers else self._endpoint
        return endpoint.begin(outgoing.body(), self._request_headers(outgoing), done)

    def try_complete(self, outgoing: UpstreamRequest) -> bool:
        # All messages of a request come in its response.
        return True

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
        self, response: ClientResponse, outgoing: UpstreamRequest, caller: CallContext
    ) -> Message:
        reader, has_other_response = self._endpoint.events(response), False
        while (messages := await reader.messages()) is not None:
            for message in messages:
                if "method" in message:
                    await caller.notify(message)
                elif jsonrpc.answers(message, outgoing.id):
                    response.leave()
                    return message
                else:
                    has_other_response = True
            if (placeholder := await outgoing.relay_large(reader.large)) is not None:
                response.leave()
                return placeholder
        if has_other_response:
            raise ProtocolError(OTHER_ID)
        raise Unreachable(reader.without_response)

    async def notify(self, message: Message, client: ClientIdentity | None = None) -> None:
        """Do nothing: this era has no client notifications over HTTP."""

    async def listen(
        self,
        standing: CallContext,
        announced: OnMessage,
        ready: Callable[[], None],
        uris: Sequence[str] = (),
    ) -> None:
        # `subscriptions/listen` for all kinds of lists.
        outgoing = build_listen_request(standing.client, self.greeting.revision, uris)
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
