"""Answers that are too large to be held: they go on to the client while they come."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from msgspec import Raw

from mcpproxy.proxy.core.errors import ProtocolError
from mcpproxy.proxy.core.translation.namespacing import PrefixMapping
from mcpproxy.proxy.core.translation.streaming_rewrite import MalformedJson, StreamingRewriter
from mcpproxy.proxy.http1.client.response import HIGH_WATER
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import Message
from mcpproxy.proxy.upstream.http_errors import BACKEND_ERRORS

LARGE: Final = HIGH_WATER
"""Bytes of an answer above which it is not held."""
_TOKENS_OF_A_TURN: Final = 400
_LEAST_STEP: Final = 512
"""Bytes that are looked at before others have their turn, however many tokens they hold."""


class ByteSource(Protocol):
    """Where an answer comes from."""

    async def next_chunk(self) -> bytes:
        """The next part; empty at the end. Raises Unreachable when it breaks off."""

    def unread(self, parts: list[bytes]) -> None:
        """Put back what was read."""

    def close(self) -> None:
        """Give up the rest."""


class ResultSink(Protocol):
    """Where the response to a client's request goes."""

    @property
    def is_gone(self) -> bool:
        """Whether nobody will ever take the response."""

    @property
    def takes_parts(self) -> bool:
        """Whether a message can be sent in parts."""

    async def part(self, content: bytes) -> bool:
        """Send a part of the response, once there is room; False when the client has gone."""

    async def last_part(self) -> None:
        """The response was sent as a whole."""

    def abandon(self) -> None:
        """It can't be."""


class Watchdog(Protocol):
    """How long the backend is waited for."""

    def heard(self) -> None:
        """Something came of it: it has its whole time again."""

    def suspend(self) -> None:
        """It is somebody else who is waited for, until more is heard."""


@dataclass(frozen=True, slots=True)
class ResultRelay:
    """How the answer to one request goes on."""

    sink: ResultSink
    method: str
    names: PrefixMapping
    patience: Watchdog
    principal: str = ""
    """Of the client: ids of tasks are for it alone."""

    async def take(
        self, response: ByteSource, ids: tuple[Raw, Raw], begins: Callable[[], object]
    ) -> Message | None:
        """Send a large answer on; what stands for it, since nobody has to send it again.

        `ids` are those of the request at the backend and at the client. `begins` is called before
        the client gets the first part.

        None where it is not large, or no result: then it is still to be read. So it is where the
        session serves other clients, too, and the id has not come yet. An answer that nobody takes
        is given up. Raises Unreachable or ProtocolError when it breaks off; the client sees that,
        too.
        """
        parts: list[bytes] = []
        size = 0
        with BACKEND_ERRORS:
            while size <= LARGE and (chunk := await response.next_chunk()):
                parts.append(chunk)
                size += len(chunk)
        known_as, request_id = ids
        streamed = StreamingRewriter(request_id, self.method, self.names, known_as, self.principal)
        goes = size > LARGE
        try:
            sent = [await _fed(streamed, part) for part in parts] if goes else []
        except MalformedJson:
            sent, goes = [], False
        goes = goes and (streamed.identified or known_as is request_id)
        if size > LARGE and self.sink.is_gone:
            response.close()
        elif goes and streamed.kind == "result" and self.sink.takes_parts:
            parts.clear()
            begins()
            try:
                await self._pass(response, streamed, sent)
            except BaseException:
                self.sink.abandon()
                raise
        else:
            response.unread(parts)
            return None
        return {"jsonrpc": jsonrpc.VERSION, "id": request_id, "result": jsonrpc.EMPTY}

    async def _pass(
        self, response: ByteSource, streamed: StreamingRewriter, begun: list[bytes]
    ) -> None:
        there = await self._sent(b"".join(begun))
        begun.clear()
        try:
            with BACKEND_ERRORS:
                while there and (chunk := await response.next_chunk()):
                    there = await self._sent(await _fed(streamed, chunk))
        except MalformedJson as error:
            response.close()
            raise ProtocolError(f"its answer is no JSON-RPC response: {error}") from None
        if not there:
            response.close()
        elif not (streamed.complete and streamed.identified):
            raise ProtocolError(
                "its answer is no JSON-RPC response: it ends too early or has no id"
            )
        await self.sink.last_part()

    async def _sent(self, part: bytes) -> bool:
        """Send a part; False when the client has gone. It is no fault of the backend to wait."""
        self.patience.suspend()
        there = await self.sink.part(part)
        self.patience.heard()
        return there


async def _fed(streamed: StreamingRewriter, chunk: bytes) -> bytes:
    """What can be sent on of a chunk; others have their turn where it has many tokens."""
    tokens = chunk.count(b",") + chunk.count(b'"') + chunk.count(b"[") + chunk.count(b"{")
    if tokens <= _TOKENS_OF_A_TURN:
        return streamed.feed(chunk)
    step = max(len(chunk) * _TOKENS_OF_A_TURN // tokens, _LEAST_STEP)
    found: list[bytes] = []
    for begin in range(0, len(chunk), step):
        await asyncio.sleep(0)
        found.append(streamed.feed(chunk[begin : begin + step]))
    return b"".join(found)
