"""Resources of one backend that clients want to hear of: asked for once, however many clients."""

from collections.abc import Callable

from mcpproxy.proxy.core.errors import BackendError, Unreachable
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import RpcError
from mcpproxy.proxy.upstream.monitor.requester import Requester
from mcpproxy.proxy.upstream.transports.session import UpstreamSession


class UpstreamSubscriptions:
    """Counts who wants to hear of which URI (the backend's own)."""

    def __init__(self, asker: Requester, relisten: Callable[[], None]) -> None:
        """`relisten` opens the stream of changes anew: modern backends are told of URIs there."""
        self._asker = asker
        self._relisten = relisten
        self._wanted: dict[str, int] = {}

    @property
    def uris(self) -> list[str]:
        """What is wanted, in one order."""
        return sorted(self._wanted)

    async def add(self, link: UpstreamSession | None, uri: str) -> None:
        """One more client wants to hear of `uri`. Raises BackendError, RpcError."""
        if uri not in self._wanted:
            if link is None:
                raise Unreachable("it is not reached at the moment")
            if link.greeting.modern:
                self._wanted[uri] = 0
                self._relisten()
            else:
                await self._asker.ask(link, "resources/subscribe", {"uri": jsonrpc.encode_raw(uri)})
        self._wanted[uri] = self._wanted.get(uri, 0) + 1

    async def remove(self, link: UpstreamSession | None, uri: str) -> None:
        """One client less; never raises."""
        left = self._wanted.get(uri, 0) - 1
        if left > 0:
            self._wanted[uri] = left
            return
        if self._wanted.pop(uri, None) is None or link is None:
            return
        if link.greeting.modern:
            self._relisten()
            return
        try:
            await self._asker.ask(link, "resources/unsubscribe", {"uri": jsonrpc.encode_raw(uri)})
        except (BackendError, RpcError):
            # It will tell of a change that nobody hears of: no harm.
            return

    async def restore(self, link: UpstreamSession) -> None:
        """A new link: ask again for all that is wanted. Raises BackendError."""
        if link.greeting.modern:
            return
        for uri in self.uris:
            params = {"uri": jsonrpc.encode_raw(uri)}
            await self._asker.ask(link, "resources/subscribe", params, any_answer=True)
