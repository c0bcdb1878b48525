"""Servers reached through the SDK: those of this process, and transports that a user made.

The SDK's transports are context managers that give a pair of message streams; a channel enters
one in a task of its own, because its cancel scopes belong to one task.
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

import anyio
from mcp.client._memory import InMemoryTransport
from mcp.client._transport import TransportStreams
from mcp.server import MCPServer, Server
from mcp.shared.message import ClientMessageMetadata, SessionMessage
from mcp_types import jsonrpc_message_adapter

from mcpproxy.proxy.core.errors import Unreachable
from mcpproxy.proxy.protocol import headers as h
from mcpproxy.proxy.protocol import revisions as rev

Transport = AbstractAsyncContextManager[TransportStreams]
GRACE: Final = 5.0
"""Seconds that a transport has to end."""
_CLOSED: Final = (anyio.ClosedResourceError, anyio.BrokenResourceError, anyio.EndOfStream)


class StreamChannel:
    """Messages over the streams of an SDK transport."""

    answers_late = True

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._streams: asyncio.Future[TransportStreams] = asyncio.get_running_loop().create_future()
        self._closing = asyncio.Event()
        self._revision: str | None = None
        self._owner = asyncio.create_task(self._own())

    async def _own(self) -> None:
        try:
            async with self._transport as streams:
                self._streams.set_result(streams)
                await self._closing.wait()
        except Exception as error:
            # Whatever the transport raises, it means that there is none any more.
            if not self._streams.done():
                self._streams.set_exception(Unreachable(f"its transport failed: {_said(error)}"))

    async def opened(self) -> "StreamChannel":
        """Wait until the transport is there. Raises Unreachable."""
        try:
            await asyncio.shield(self._streams)
        except BaseException:
            await self.close()
            raise
        return self

    async def send(self, body: bytes) -> None:
        _, write = await self._streams
        message = jsonrpc_message_adapter.validate_json(body)
        try:
            await write.send(SessionMessage(message, self._metadata(json.loads(body))))
        except _CLOSED:
            raise Unreachable("its transport is closed") from None

    def _metadata(self, message: Mapping[str, Any]) -> ClientMessageMetadata:
        """What HTTP transports repeat in headers; others don't look at it."""
        params = message.get("params") or {}
        modern = (params.get("_meta") or {}).get(rev.META_VERSION)
        if modern is None:
            known = self._revision is not None and message.get("method") != "initialize"
            name = h.PROTOCOL_VERSION.decode()
            return ClientMessageMetadata(headers={name: self._revision or ""} if known else None)
        found = {h.PROTOCOL_VERSION: modern.encode(), h.METHOD: h.encode_value(message["method"])}
        member = h.NAME_MEMBER.get(message["method"])
        if member is not None and isinstance(params.get(member), str):
            found[h.NAME] = h.encode_value(params[member])
        headers = {name.decode(): value.decode() for name, value in found.items()}
        return ClientMessageMetadata(headers=headers)

    async def receive(self) -> bytes | None:
        """What the transport could not read is passed over."""
        read, _ = await self._streams
        while True:
            try:
                item = await read.receive()
            except _CLOSED:
                return None
            if isinstance(item, SessionMessage):
                content = item.message.model_dump(by_alias=True, mode="json", exclude_unset=True)
                if self._revision is None and "result" in content:
                    self._revision = content["result"].get("protocolVersion")
                return json.dumps(content).encode()

    async def close(self) -> None:
        self._closing.set()
        done, _ = await asyncio.wait([self._owner], timeout=GRACE)
        if not done:
            self._owner.cancel()
            await asyncio.wait([self._owner])
        if self._streams.done() and not self._streams.cancelled():
            # It was looked at, or nobody wants to know any more.
            self._streams.exception()


def _said(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


async def connect(transport: Transport) -> StreamChannel:
    """A channel over a transport that nobody has entered. Raises Unreachable."""
    return await StreamChannel(transport).opened()


def in_memory_streams(server: "MCPServer[Any] | Server[Any]") -> Callable[[], Transport]:
    """Makes transports to a server of this process; each runs a session of its own."""
    return lambda: InMemoryTransport(server)


def lowlevel_server(server: "MCPServer[Any] | Server[Any]") -> "Server[Any]":
    """The low-level server that serves an MCPServer, for which the SDK has no public name."""
    return server._lowlevel_server if isinstance(server, MCPServer) else server
