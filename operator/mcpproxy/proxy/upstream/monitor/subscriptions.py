"""Resource subscriptions with one backend, shared by all clients."""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Final
from weakref import WeakValueDictionary

from mcpproxy.proxy.core.errors import BackendError, Unreachable
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import Message, RpcError
from mcpproxy.proxy.protocol.kinds import SUBSCRIBE
from mcpproxy.proxy.upstream.monitor.requester import Requester
from mcpproxy.proxy.upstream.transports.session import UpstreamSession

RESOURCE_UPDATED: Final = "notifications/resources/updated"


class UpstreamSubscriptions:
    """Reference counts of the subscribed URIs, as the backend names them."""

    def __init__(
        self,
        name: str,
        asker: Requester,
        relisten: Callable[[], None],
        listen: Callable[[], Awaitable[None]],
        announce: Callable[[str, Message], None],
    ) -> None:
        """`relisten` reopens the change stream, whose request names the URIs in the modern era.

        `listen` opens it for the legacy era, unless it is open. `announce` receives the name of
        the backend and each change of a resource, also one that may have been missed.
        """
        self._announce = functools.partial(announce, name)
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
                await self._asker.ask(link, SUBSCRIBE, {"uri": jsonrpc.encode_raw(uri)})
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
        for uri in () if link.server.modern else self.uris:
            params = {"uri": jsonrpc.encode_raw(uri)}
            await self._asker.ask(link, SUBSCRIBE, params, any_answer=True)
        self.catch_up()

    def announced(self, method: str, message: Message) -> None:
        """Handle a broadcast of the backend."""
        if method == RESOURCE_UPDATED:
            self._announce(message)

    def catch_up(self) -> None:
        """Announce a change of each resource, because real ones may have been missed."""
        for uri in [uri for uri, count in self._wanted.items() if count]:
            self._announce(
                {
                    "jsonrpc": jsonrpc.VERSION,
                    "method": jsonrpc.encode_raw(RESOURCE_UPDATED),
                    "params": jsonrpc.encode_raw({"uri": uri}),
                }
            )
