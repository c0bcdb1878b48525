"""Streaming of results that are too large to be buffered."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from msgspec import Raw

from mcpproxy.proxy.core.errors import ProtocolError
from mcpproxy.proxy.core.translation.namespacing import PrefixMapping
from mcpproxy.proxy.core.translation.streaming_rewrite import MalformedJson, StreamingRewriter
from mcpproxy.proxy.http1.client.connection import HIGH_WATER
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import Message
from mcpproxy.proxy.upstream.http_errors import BACKEND_ERRORS

LARGE: Final = HIGH_WATER
"""Bytes of a response above which it is streamed."""
_TOKENS_OF_A_TURN: Final = 400
_LEAST_STEP: Final = 512
"""Minimum bytes that are processed before other tasks run, however many tokens they contain."""


class ByteSource(Protocol):
    """Source of the bytes of a response."""

    async def next_chunk(self) -> bytes:
        """Return the next chunk, empty at the end. Raises Unreachable if the connection breaks."""

    def unread(self, parts: list[bytes]) -> None:
        """Push chunks back, so that they are read again."""

    def close(self) -> None:
        """Discard the rest of the response."""


class ResultSink(Protocol):
    """Destination of the response to a client's request."""

    @property
    def is_gone(self) -> bool:
        """True if the client has disconnected."""

    @property
    def takes_parts(self) -> bool:
        """True if a message can be sent in parts."""

    async def part(self, content: bytes) -> bool:
        """Send a part of the response once there is room. Return False if the client has
        disconnected."""

    async def last_part(self) -> None:
        """End the response; all parts were sent."""

    def abandon(self) -> None:
        """Abort the response; the remaining parts cannot be delivered."""


class Watchdog(Protocol):
    """Timeout of the backend."""

    def restart_timeout(self) -> None:
        """Restart the timeout, because the backend has sent something."""

    def pause_timeout(self) -> None:
        """Pause the timeout until the backend sends more; the proxy waits for the client."""


@dataclass(frozen=True, slots=True)
class ResultRelay:
    """Relay of the response to one request."""

    sink: ResultSink
    method: str
    names: PrefixMapping
    watchdog: Watchdog
    principal: str = ""
    """Principal of the client. Task ids are sealed for it."""
    added: Mapping[str, Raw] = field(default_factory=dict)
    """Fields that are added to a result without them."""

    async def take(
        self, response: ByteSource, ids: tuple[Raw, Raw], begins: Callable[[], object]
    ) -> Message | None:
        """Stream a large result to the client, and return a placeholder response.

        `ids` are the id of the request at the backend and the one at the client. `begins` is called
        before the client gets the first part.

        Returns None, with the response still to be read, if it is not large or not a result, or if
        the session serves several clients and the id has not arrived yet. If the client has
        disconnected, the response is discarded. Raises Unreachable or ProtocolError if the response
        breaks off; the client's response is then aborted.
        """
        parts: list[bytes] = []
        size = 0
        with BACKEND_ERRORS:
            while size <= LARGE and (chunk := await response.next_chunk()):
                parts.append(chunk)
                size += len(chunk)
        upstream_id, request_id = ids
        streamed = StreamingRewriter(
            request_id, self.method, self.names, upstream_id, self.principal, self.added
        )
        relays = size > LARGE
        try:
            rewritten = [await _rewrite(streamed, part) for part in parts] if relays else []
        except MalformedJson:
            rewritten, relays = [], False
        relays = relays and (streamed.identified or upstream_id is request_id)
        if size > LARGE and self.sink.is_gone:
            response.close()
        elif relays and streamed.kind == "result" and self.sink.takes_parts:
            parts.clear()
            begins()
            try:
                await self._relay(response, streamed, rewritten)
            except BaseException:
                self.sink.abandon()
                raise
        else:
            response.unread(parts)
            return None
        return {"jsonrpc": jsonrpc.VERSION, "id": request_id, "result": jsonrpc.EMPTY}

    async def _relay(
        self, response: ByteSource, streamed: StreamingRewriter, rewritten: list[bytes]
    ) -> None:
        connected = await self._send_part(b"".join(rewritten))
        rewritten.clear()
        try:
            with BACKEND_ERRORS:
                while connected and (chunk := await response.next_chunk()):
                    connected = await self._send_part(await _rewrite(streamed, chunk))
        except MalformedJson as error:
            response.close()
            raise ProtocolError(f"the response is not a JSON-RPC response: {error}") from None
        if not connected:
            response.close()
        elif not (streamed.complete and streamed.identified):
            raise ProtocolError(
                "the response is not a JSON-RPC response: it is incomplete or has no id"
            )
        await self.sink.last_part()

    async def _send_part(self, part: bytes) -> bool:
        """Send a part, and return False if the client has disconnected.

        The timeout is paused, because the client's reading speed does not depend on the backend.
        """
        self.watchdog.pause_timeout()
        connected = await self.sink.part(part)
        self.watchdog.restart_timeout()
        return connected


async def _rewrite(streamed: StreamingRewriter, chunk: bytes) -> bytes:
    """Rewrite a chunk, and let other tasks run between its steps if it has many tokens."""
    if streamed.passes_unchanged(chunk):
        return streamed.feed(chunk)
    tokens = chunk.count(b",") + chunk.count(b'"') + chunk.count(b"[") + chunk.count(b"{")
    if tokens <= _TOKENS_OF_A_TURN:
        return streamed.feed(chunk)
    step = max(len(chunk) * _TOKENS_OF_A_TURN // tokens, _LEAST_STEP)
    rewritten: list[bytes] = []
    for start in range(0, len(chunk), step):
        await asyncio.sleep(0)
        rewritten.append(streamed.feed(chunk[start : start + step]))
    return b"".join(rewritten)
