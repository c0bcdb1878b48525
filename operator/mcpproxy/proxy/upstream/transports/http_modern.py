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
"""Bytes of a name whose headers are kept."""


@functools.lru_cache(maxsize=1024)
def _routing(method: str, raw: bytes) -> Lines:
    """The headers that say what a request is about; `raw` is a name or URI as JSON."""
    headers = ((h.METHOD, h.encode_value(method)),)
    name = jsonrpc.decode_str(raw)
    return headers if name is None else (*headers, (h.NAME, h.encode_value(name)))


class HttpModernSession:
    """The modern era has no session: every request stands alone."""

    stateful = False

    def __init__(self, endpoint: McpHttpClient, greeting: ServerDescription) -> None:
        self.greeting = greeting
        self._endpoint = endpoint
        self._version = (h.PROTOCOL_VERSION, greeting.revision.encode())
        self._last: tuple[Lines, Lines] = ((), ())
        """The latest routing headers, and all headers of their request."""

    @property
    def alive(self) -> bool:
        """There is nothing that could end."""
        return True

    async def request(self, outgoing: UpstreamRequest, caller: CallContext) -> Message:
        """Closing the stream is how a request is cancelled."""
        response = await self._endpoint.of(caller.client).post(
            outgoing.body(),
            self._request_headers(outgoing),
            sent=outgoing.sent,
            again=outgoing.repeatable,
        )
        try:
            if response.media_type != h.EVENT_STREAM:
                passed_on = await outgoing.passed_on(response.rest)
                if passed_on is not None:
                    return passed_on
                message = await read_json(response, outgoing.id, caller.notify)
                if (failure := failed(response, message)) is not None:
                    raise failure
                if message is None or "method" in message:
                    raise await no_response(response)
                if not jsonrpc.answers(message, outgoing.id):
                    raise ProtocolError(OTHER_ID)
                return message
            return await self._streamed(response, outgoing, caller)
        except BaseException:
            response.close()
            raise

    def begin(
        self, outgoing: UpstreamRequest, client: ClientIdentity, done: Callable[[], None]
    ) -> ClientResponse | None:
        endpoint = self._endpoint.of(client) if client.headers else self._endpoint
        return endpoint.begin(outgoing.body(), self._request_headers(outgoing), done)

    def completes(self, outgoing: UpstreamRequest) -> bool:
        """What belongs to a request comes in its answer alone."""
        return True

    def _request_headers(self, outgoing: UpstreamRequest) -> tuple[tuple[bytes, bytes], ...]:
        member = h.NAME_MEMBER.get(outgoing.method)
        name = (outgoing.params or {}).get(member) if member else None
        raw = b"" if name is None else bytes(name)
        routing = (_routing if len(raw) <= MAX_KEPT else _routing.__wrapped__)(outgoing.method, raw)
        if not (outgoing.headers or outgoing.trace):
            return self._with_version(routing)
        return (self._version, *routing, *outgoing.headers, *outgoing.trace)

    def _with_version(self, routing: Lines) -> Lines:
        """All headers; the same object for the same request before, which is found faster."""
        if self._last[0] is not routing:
            self._last = routing, (self._version, *routing)
        return self._last[1]

    async def _streamed(
        self, response: ClientResponse, outgoing: UpstreamRequest, caller: CallContext
    ) -> Message:
        reader, foreign = self._endpoint.events(response), False
        while (messages := await reader.messages()) is not None:
            for message in messages:
                if "method" in message:
                    await caller.notify(message)
                elif jsonrpc.answers(message, outgoing.id):
                    response.leave()
                    return message
                else:
                    foreign = True
            if (passed_on := await outgoing.passed_on(reader.large)) is not None:
                response.leave()
                return passed_on
        if foreign:
            raise ProtocolError(OTHER_ID)
        raise Unreachable(reader.without_response)

    async def notify(self, message: Message, client: ClientIdentity | None = None) -> None:
        """This era has no client notifications over HTTP."""

    async def listen(
        self,
        standing: CallContext,
        announced: OnMessage,
        ready: Callable[[], None],
        uris: Sequence[str] = (),
    ) -> None:
        """See Link: `subscriptions/listen` for all kinds of lists."""
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
