"""ProxyProvider: the components of a server, reached through clients that a factory makes."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

from mcp import Client as SdkClient

from mcpproxy.api.defaults import BackendSettings
from mcpproxy.proxy.back.backend import Surroundings
from mcpproxy.proxy.back.link import Background
from mcpproxy.proxy.back.opener import Opener
from mcpproxy.proxy.library.client import ProxyClient
from mcpproxy.proxy.library.fastmcp_objects import connected_client, is_client
from mcpproxy.proxy.library.handlers import settled
from mcpproxy.proxy.library.parts import Part, default_settings
from mcpproxy.proxy.library.sdk import is_connected
from mcpproxy.proxy.library.sharing import MAX_SOURCES, FactoryOpener

CACHE_TTL = 300.0
ClientFactory = Callable[[], "ProxyClient | SdkClient | Awaitable[ProxyClient | SdkClient]"]


class ProxyProvider:
    """Asks `client_factory` for a client for every request.

    A factory that returns the same client again wants its session to be reused. Lists of
    components are kept for `cache_ttl` seconds; 0 turns that off.
    """

    def __init__(self, client_factory: ClientFactory, cache_ttl: float = CACHE_TTL) -> None:
        if cache_ttl < 0:
            raise ValueError("cache_ttl is a number of seconds, 0 or more")
        self.client_factory = client_factory
        self.cache_ttl = cache_ttl
        self._wrapped: dict[int, tuple[SdkClient, ProxyClient]] = {}

    async def client(self) -> ProxyClient:
        """The client for one request."""
        found = await settled(self.client_factory())
        if isinstance(found, ProxyClient):
            return found
        if isinstance(found, SdkClient):
            connected = is_connected(found)
        elif is_client(found):
            connected = connected_client(found) is not None
        else:
            raise TypeError(f"a client factory returned {type(found).__name__}, not a client")
        known = self._wrapped.pop(id(found), None)
        if known is None or known[0] is not found or known[1].is_connected != connected:
            known = found, ProxyClient(found)
        self._wrapped[id(found)] = known
        if len(self._wrapped) > MAX_SOURCES:
            # One that comes back is at the end again: it keeps its session.
            del self._wrapped[next(iter(self._wrapped))]
        return known[1]

    def part(self) -> Part:
        """The backend to be."""
        given = replace(default_settings(), cache_ttl=self.cache_ttl)

        def opener(given: BackendSettings, around: Surroundings, background: Background) -> Opener:
            return FactoryOpener(self.client, given, around, background)

        # The factory decides at every request, so nothing is opened ahead of one.
        return Part("backend", given, opener, warm_each=0, asks=True)
