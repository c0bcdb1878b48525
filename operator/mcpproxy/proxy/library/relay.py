"""A server of ours as a backend of another one: requests go from gateway to gateway.

A link takes the revision of whoever asks, so that the inner gateway sees the client itself.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

from mcpproxy.api.defaults import BackendSettings
from mcpproxy.proxy.back.link import Background, Greeting, Link, OnMessage, Outgoing
from mcpproxy.proxy.back.opener import Opener
from mcpproxy.proxy.core.exchange import Caller, Client
from mcpproxy.proxy.core.kinds import BY_METHOD
from mcpproxy.proxy.front.modern import discovered
from mcpproxy.proxy.gateway import Gateway
from mcpproxy.proxy.wire import jsonrpc
from mcpproxy.proxy.wire.jsonrpc import Message, RpcError
from mcpproxy.proxy.wire.revisions import is_modern


class DirectLink:
    """A link without a wire: whoever derives from it answers requests itself."""

    stateful = False

    def __init__(self, revision: str, offered: dict[str, Any]) -> None:
        """`offered` is the result of initialize or server/discover."""
        self.greeting = Greeting(revision, jsonrpc.members(jsonrpc.encode(offered)))

    @property
    def alive(self) -> bool:
        """See Link."""
        return True

    async def request(self, outgoing: Outgoing, caller: Caller) -> Message:
        """See Link."""
        try:
            return jsonrpc.members(await self.answer(outgoing, caller))
        except RpcError as error:
            return jsonrpc.members(jsonrpc.failure(outgoing.id, error))

    async def answer(self, outgoing: Outgoing, caller: Caller) -> bytes:
        """The response. Raises RpcError."""
        raise NotImplementedError

    def begin(self, outgoing: Outgoing, client: Client, done: Callable[[], None]) -> None:
        """See Link. A task waits for each answer."""

    def completes(self, outgoing: Outgoing) -> bool:
        """See Link. Nothing is begun."""
        return False

    async def notify(self, message: Message, client: Client | None = None) -> None:
        """See Link. What clients tell has no meaning here."""

    async def listen(
        self,
        standing: Caller,
        announced: OnMessage,
        ready: Callable[[], None],
        uris: Sequence[str] = (),
    ) -> None:
        """See Link."""
        ready()

    async def close(self) -> None:
        """See Link."""


class GatewayLink(DirectLink):
    """Requests for another gateway."""

    def __init__(self, gateway: Gateway, revision: str) -> None:
        offered: dict[str, Any] = {
            "capabilities": gateway.capabilities(modern=is_modern(revision)),
            "serverInfo": gateway.server_info(),
        }
        if (text := gateway.instructions()) is not None:
            offered["instructions"] = text
        super().__init__(revision, offered)
        self._gateway = gateway

    async def answer(self, outgoing: Outgoing, caller: Caller) -> bytes:
        """See DirectLink."""
        method, modern = outgoing.method, self.greeting.modern
        kind = BY_METHOD.get(method)
        if kind is not None:
            found = await self._gateway.listing(
                kind, outgoing.params, modern=modern, client=caller.client
            )
            return jsonrpc.response(outgoing.id, found)
        if method == "ping":
            return jsonrpc.response(outgoing.id, b"{}")
        if method == "server/discover":
            return jsonrpc.response(outgoing.id, await discovered(self._gateway))
        request = jsonrpc.members(outgoing.body())
        answer = await self._gateway.call(request, method, outgoing.params, caller)
        return jsonrpc.encode(answer)

    async def notify(self, message: Message, client: Client | None = None) -> None:
        """See Link. The inner gateway knows which of its sessions are the client's."""
        if client is not None:
            await self._gateway.noted(client, message)

    async def listen(
        self,
        standing: Caller,
        announced: OnMessage,
        ready: Callable[[], None],
        uris: Sequence[str] = (),
    ) -> None:
        """See Link."""
        changes: asyncio.Queue[Message] = asyncio.Queue()

        def changed(method: str) -> None:
            changes.put_nowait(jsonrpc.members(jsonrpc.notification(method)))

        async with AsyncExitStack() as stack:
            stack.callback(self._gateway.subscribe(changed))
            for uri in uris:
                end = await self._gateway.subscribe_resource(uri, changes.put_nowait)
                stack.push_async_callback(end)
            ready()
            while True:
                await announced(await changes.get())


class DirectOpener(Opener):
    """Opens links that have no wire."""

    def __init__(
        self, link: Callable[[str], Link], settings: BackendSettings, background: Background
    ) -> None:
        """`link` makes one for a revision."""
        super().__init__(settings, background)
        self._link = link

    async def open(self, client: Client) -> Link:
        """See Opener."""
        return self._link(client.revision)


class GatewayOpener(Opener):
    """Opens links to another gateway, which whoever opens them keeps running."""

    def __init__(
        self, gateway: Callable[[], Gateway], settings: BackendSettings, background: Background
    ) -> None:
        super().__init__(settings, background)
        self._gateway = gateway

    async def open(self, client: Client) -> Link:
        """See Opener."""
        gateway = self._gateway()
        await gateway.settled()
        return GatewayLink(gateway, client.revision)
