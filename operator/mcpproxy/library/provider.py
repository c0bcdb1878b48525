"""ProxyProvider: the components of a server, reached through clients that a factory makes."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

from mcp import Client as SdkClient

from mcpproxy.api.defaults import BackendSettings
from mcpproxy.library.client import ProxyClient
from mcpproxy.library.client_handlers import await_result
from mcpproxy.library.fastmcp_objects import connected_client, is_client
from mcpproxy.library.sessions.backend_factory import BackendDefinition, default_settings
from mcpproxy.library.sessions.sdk_session import is_connected
from mcpproxy.library.sessions.session_sharing import MAX_SOURCES, FactoryConnector
from mcpproxy.proxy.upstream.backend import BackendContext
from mcpproxy.proxy.upstream.connect.negotiation import Connector
from mcpproxy.proxy.upstream.transports.session import TaskSet

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
        found = await await_result(self.client_factory())
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

    def part(self) -> BackendDefinition:
        """The backend to be."""
        given = replace(default_settings(), cache_ttl=self.cache_ttl)

        def opener(
            given: BackendSettings, around: BackendContext, background: TaskSet
        ) -> Connector:
            return FactoryConnector(self.client, given, around, background)

        # The factory decides at every request, so nothing is opened ahead of one.
        return BackendDefinition("backend", given, opener, warm_each=0, asks=True)
