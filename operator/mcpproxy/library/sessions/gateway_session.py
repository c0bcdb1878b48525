"""Sessions between gateways in one process, with which one server is a backend of another.

A session has the revision of the client, so that the inner gateway sees the client itself.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from typing import Any

from mcpproxy.api.defaults import BackendSettings
from mcpproxy.proxy.embed import (
    BY_METHOD,
    CallContext,
    ClientIdentity,
    Connector,
    Gateway,
    Message,
    OnMessage,
    RpcError,
    ServerDescription,
    TaskSet,
    UpstreamRequest,
    UpstreamSession,
    is_modern,
    jsonrpc,
    relay_request,
    server_discover,
)


class InProcessSession(ABC):
    """A session without a transport. Subclasses respond to the requests."""

    stateful = False

    def __init__(self, revision: str, offered: dict[str, Any]) -> None:
        """Create a session. `offered` is the result of initialize or server/discover."""
        self.server = ServerDescription(revision, jsonrpc.decode_object(jsonrpc.encode(offered)))

    @property
    def alive(self) -> bool:
        return True

    async def request(self, outgoing: UpstreamRequest, caller: CallContext) -> Message:
        try:
            return jsonrpc.decode_object(await self.answer(outgoing, caller))
        except RpcError as error:
            return jsonrpc.decode_object(jsonrpc.error_response(outgoing.id, error))

    @abstractmethod
    async def answer(self, outgoing: UpstreamRequest, caller: CallContext) -> bytes:
        """Return the response. Raise RpcError."""

    async def notify(self, message: Message, client: ClientIdentity | None = None) -> None:
        """Drop the message: notifications of clients have no meaning here."""
        return

    async def listen(
        self,
        session_context: CallContext,
        announced: OnMessage,
        ready: Callable[[], None],
        uris: Sequence[str] = (),
    ) -> None:
        ready()

    async def close(self) -> None:
        return


class GatewaySession(InProcessSession):
    """A session with another gateway."""

    def __init__(self, gateway: Gateway, revision: str) -> None:
        offered: dict[str, Any] = {
            "capabilities": gateway.aggregate.capabilities(modern=is_modern(revision)),
            "serverInfo": gateway.aggregate.server_info(),
        }
        if (text := gateway.aggregate.instructions()) is not None:
            offered["instructions"] = text
        super().__init__(revision, offered)
        self._gateway = gateway

    async def answer(self, outgoing: UpstreamRequest, caller: CallContext) -> bytes:
        method, modern = outgoing.method, self.server.modern
        kind = BY_METHOD.get(method)
        if kind is not None:
            # The rules of the outer server are about its own names.
            client = replace(caller.client, access=None)
            result = await self._gateway.aggregate.listing(
                kind, outgoing.params, modern=modern, client=client
            )
            return jsonrpc.response(outgoing.id, result)
        if method == "ping":
            return jsonrpc.response(outgoing.id, b"{}")
        if method == "server/discover":
            return jsonrpc.response(outgoing.id, await server_discover(self._gateway))
        request = jsonrpc.decode_object(outgoing.body())
        answer = await relay_request(self._gateway, request, method, outgoing.params, caller)
        return jsonrpc.encode(answer)

    async def notify(self, message: Message, client: ClientIdentity | None = None) -> None:
        if client is not None:
            # A notification has no response, so nobody learns that it was refused.
            with suppress(RpcError):
                await self._gateway.notify_backends(client, message)

    async def listen(
        self,
        session_context: CallContext,
        announced: OnMessage,
        ready: Callable[[], None],
        uris: Sequence[str] = (),
    ) -> None:
        changes: asyncio.Queue[Message] = asyncio.Queue()

        def changed(method: str) -> None:
            changes.put_nowait(jsonrpc.decode_object(jsonrpc.notification(method)))

        async with AsyncExitStack() as stack:
            stack.callback(self._gateway.subscribe(changed))
            for uri in uris:
                end = await self._gateway.subscribe_resource(uri, changes.put_nowait)
                stack.push_async_callback(end)
            ready()
            while True:
                await announced(await changes.get())


class InProcessConnector(Connector):
    """A connector for sessions without a transport."""

    def __init__(
        self, link: Callable[[str], UpstreamSession], settings: BackendSettings, background: TaskSet
    ) -> None:
        """Create a connector. `link` returns a session for a revision."""
        super().__init__()
        self._link = link

    async def open(self, client: ClientIdentity) -> UpstreamSession:
        return self._link(client.revision)


class GatewayConnector(Connector):
    """A connector for sessions with another gateway, which the caller keeps running."""

    def __init__(
        self, gateway: Callable[[], Gateway], settings: BackendSettings, background: TaskSet
    ) -> None:
        super().__init__()
        self._gateway = gateway

    async def open(self, client: ClientIdentity) -> UpstreamSession:
        gateway = self._gateway()
        await gateway.aggregate.settled()
        return GatewaySession(gateway, client.revision)
