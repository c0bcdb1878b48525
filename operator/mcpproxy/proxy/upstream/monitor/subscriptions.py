"""Resource subscriptions with one backend, shared by all clients."""

import asyncio
from collections.abc import Awaitable, Callable
from weakref import WeakValueDictionary

from mcpproxy.proxy.core.errors import BackendError, Unreachable
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import RpcError
from mcpproxy.proxy.upstream.monitor.requester import Requester
from mcpproxy.proxy.upstream.transports.session import UpstreamSession


class UpstreamSubscriptions:
    """Reference counts of the subscribed URIs, as the backend names them."""

    def __init__(
        self,
        asker: Requester,
        relisten: Callable[[], None],
        listen: Callable[[], Awaitable[None]],
    ) -> None:
        """`relisten` reopens the change stream, whose request names the URIs in the modern era.

        `listen` opens it for the legacy era, unless it is open.
        """
        self._asker, self._listen = asker, listen
        self._relisten = relisten
        self._wanted: dict[str, int] = {}
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """Locks of the URIs that requests concern: a later request must not overtake."""

    @property
    def uris(self) -> list[str]:
        """The subscribed URIs in a fixed order."""
        return sorted(self._wanted)

    async def add(self, link: UpstreamSession | None, uri: str) -> None:
        """Add a subscriber, and subscribe for the first one. Raises BackendError, RpcError."""
        if not self._wanted.get(uri):
            if link is None:
                raise Unreachable("the backend is unreachable at the moment")
            self._wanted[uri] = 0
            if link.server.modern:
                self._relisten()
            else:
                await self._subscribe(link, uri)
        self._wanted[uri] = self._wanted.get(uri, 0) + 1

    async def _subscribe(self, link: UpstreamSession, uri: str) -> None:
        try:
            await self._listen()
            async with self._turn(uri):
                await self._asker.ask(link, "resources/subscribe", {"uri": jsonrpc.encode_raw(uri)})
        except BaseException:
            if not self._wanted.get(uri):
                self._wanted.pop(uri, None)
            raise

    def _turn(self, uri: str) -> asyncio.Lock:
        return self._turns.setdefault(uri, asyncio.Lock())

    async def remove(self, link: UpstreamSession | None, uri: str) -> None:
        """Remove a subscriber, and unsubscribe after the last one. Never raises."""
        count = self._wanted.get(uri, 0) - 1
        if count > 0:
            self._wanted[uri] = count
            return
        if self._wanted.pop(uri, None) is None or link is None:
            return
        if link.server.modern:
            self._relisten()
            return
        try:
            async with self._turn(uri):
                # Another client may have subscribed while an earlier request was running.
                if uri not in self._wanted:
                    params = {"uri": jsonrpc.encode_raw(uri)}
                    await self._asker.ask(link, "resources/unsubscribe", params)
        except (BackendError, RpcError):
            # Superfluous notifications of the backend are ignored.
            return

    async def restore(self, link: UpstreamSession) -> None:
        """Subscribe to all URIs again in a new session. Raises BackendError."""
        if link.server.modern:
            return
        for uri in self.uris:
            params = {"uri": jsonrpc.encode_raw(uri)}
            await self._asker.ask(link, "resources/subscribe", params, any_answer=True)
