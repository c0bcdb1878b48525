"""Servers that are reached through the SDK: in-process servers and transports of the user.

SDK transports are context managers that return a pair of message streams. A channel enters one in
its own task, because cancel scopes belong to one task.
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
"""Seconds that a transport has to exit."""
_CLOSED: Final = (anyio.ClosedResourceError, anyio.BrokenResourceError, anyio.EndOfStream)


class StreamChannel:
    """Message channel over the streams of an SDK transport."""

    send_blocks = True

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._streams: asyncio.Future[TransportStreams] = asyncio.get_running_loop().create_future()
        self._closing = asyncio.Event()
        self._revision: str | None = None
        self._owner = asyncio.create_task(self._run_transport())

    async def _run_transport(self) -> None:
        try:
            async with self._transport as streams:
                self._streams.set_result(streams)
                await self._closing.wait()
        except Exception as error:
            # Whatever the exception is, the transport has ended.
            if not self._streams.done():
                self._streams.set_exception(
                    Unreachable(f"the transport failed: {_describe(error)}")
                )

    async def opened(self) -> "StreamChannel":
        """Wait until the transport is entered. Raises Unreachable."""
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
            raise Unreachable("the transport is closed") from None

    def _metadata(self, message: Mapping[str, Any]) -> ClientMessageMetadata:
        """Return the headers for HTTP transports; other transports ignore them."""
        params = message.get("params") or {}
        modern = (params.get("_meta") or {}).get(rev.META_VERSION)
        if modern is None:
            has_revision = self._revision is not None and message.get("method") != "initialize"
            name = h.PROTOCOL_VERSION.decode()
            return ClientMessageMetadata(
                headers={name: self._revision or ""} if has_revision else None
            )
        fields = {h.PROTOCOL_VERSION: modern.encode(), h.METHOD: h.encode_value(message["method"])}
        name_field = h.NAME_MEMBER.get(message["method"])
        if name_field is not None and isinstance(params.get(name_field), str):
            fields[h.NAME] = h.encode_value(params[name_field])
        headers = {name.decode(): value.decode() for name, value in fields.items()}
        return ClientMessageMetadata(headers=headers)

    async def receive(self) -> bytes | None:
        # Exceptions in the stream stand for messages that the transport could not read.
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
            # Marks the exception as retrieved.
            self._streams.exception()


def _describe(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


async def connect(transport: Transport) -> StreamChannel:
    """Return a channel over a transport that has not been entered. Raises Unreachable."""
    return await StreamChannel(transport).opened()


def in_memory_streams(server: "MCPServer[Any] | Server[Any]") -> Callable[[], Transport]:
    """Return a factory of transports to an in-process server; each transport runs one session."""
    return lambda: InMemoryTransport(server)


def lowlevel_server(server: "MCPServer[Any] | Server[Any]") -> "Server[Any]":
    """Return the low-level server of an MCPServer, for which the SDK has no public name."""
    return server._lowlevel_server if isinstance(server, MCPServer) else server
