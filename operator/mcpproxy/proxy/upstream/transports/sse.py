"""HTTP+SSE backends (2024-11-05): an event stream from the server and POSTs to it."""

import asyncio
import collections
from typing import Final

from mcpproxy.proxy.core.errors import ProtocolError, SessionNotFound, Unreachable
from mcpproxy.proxy.http1.client.connection import ClientResponse
from mcpproxy.proxy.protocol import headers as h
from mcpproxy.proxy.protocol import sse
from mcpproxy.proxy.upstream.transports.event_stream import EventStream
from mcpproxy.proxy.upstream.transports.http_endpoint import McpHttpClient

_SESSION_LOST: Final = (400, 404, 410)
"""HTTP statuses of a POST to a session that the backend no longer knows."""


class SseChannel:
    """One event stream and the endpoint that it announced for POSTs."""

    send_blocks = True

    def __init__(self, endpoint: McpHttpClient, stream: ClientResponse) -> None:
        self._endpoint = endpoint
        self._stream = stream
        self._source = EventStream(stream, endpoint.line_rate)
        self._events: collections.deque[sse.ServerSentEvent] = collections.deque()
        self._path = ""

    async def start(self) -> None:
        """Wait for the endpoint. Raises BackendError if it is invalid or of another origin."""
        # Servers may send events of other types first.
        while (event := await self._next_event()) is not None and event.event != b"endpoint":
            continue
        if event is None:
            raise ProtocolError("the event stream names no endpoint")
        self._path = self._endpoint.path_of(event.data.decode("utf-8", "replace"))

    async def _next_event(self) -> sse.ServerSentEvent | None:
        while not self._events:
            events = await self._source.next()
            if events is None:
                return None
            self._events.extend(events)
        return self._events.popleft()

    async def receive(self) -> bytes | None:
        while (event := await self._next_event()) is not None:
            if event.data and event.event == sse.MESSAGE:
                return event.data
        return None

    async def send(self, body: bytes) -> None:
        status = await self._endpoint.deliver(body, (), self._path)
        if status in _SESSION_LOST:
            self._stream.close()
            raise SessionNotFound(
                f"the backend responded with HTTP {status} to a message of its session"
            )
        if status >= 400:
            raise Unreachable(f"the backend responded with HTTP {status} to a message")

    async def close(self) -> None:
        self._stream.close()


async def connect(endpoint: McpHttpClient, timeout: float) -> SseChannel:
    """Open the stream and wait for the endpoint.

    Raises BackendError; ProtocolError if the server has no such stream.
    """
    stream = await endpoint.get(())
    if stream.status != 200 or stream.media_type != h.EVENT_STREAM:
        stream.close()
        raise ProtocolError(
            f"the backend responded with HTTP {stream.status} instead of an event stream"
        )
    channel = SseChannel(endpoint.with_cookies(endpoint.cookies_of(stream)), stream)
    try:
        async with asyncio.timeout(timeout):
            await channel.start()
    except TimeoutError:
        stream.close()
        raise ProtocolError("the event stream names no endpoint") from None
    except BaseException:
        stream.close()
        raise
    return channel
