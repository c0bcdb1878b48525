"""ProxyProvider: the components of a server, reached through clients from a factory."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

from mcp import Client as SdkClient

from mcpproxy.api.defaults import BackendSettings, default_settings
from mcpproxy.library.client import ProxyClient
from mcpproxy.library.client_handlers import await_result
from mcpproxy.library.fastmcp_objects import connected_client, is_client
from mcpproxy.library.sessions.backend_factory import BackendDefinition
from mcpproxy.library.sessions.sdk_session import is_connected
from mcpproxy.library.sessions.session_sharing import MAX_SOURCES, FactoryConnector
from mcpproxy.proxy.embed import BackendContext, Connector, TaskSet

CACHE_TTL = 300.0
ClientFactory = Callable[[], "ProxyClient | SdkClient | Awaitable[ProxyClient | SdkClient]"]


class ProxyProvider:
    """Components that are reached through a client from `client_factory`, for each request.

    If the factory returns the same client again, its session is reused. Lists of components are
    cached for `cache_ttl` seconds; 0 disables the cache.
    """

    def __init__(self, client_factory: ClientFactory, cache_ttl: float = CACHE_TTL) -> None:
        if cache_ttl < 0:
            raise ValueError("cache_ttl must be a number of seconds, 0 or greater")
        self.client_factory = client_factory
        self.cache_ttl = cache_ttl
        self._wrapped: dict[int, tuple[SdkClient, ProxyClient]] = {}

    async def client(self) -> ProxyClient:
        """Return the client for one request."""
        client = await await_result(self.client_factory())
        if isinstance(client, ProxyClient):
            return client
        if isinstance(client, SdkClient):
            connected = is_connected(client)
        elif is_client(client):
            connected = connected_client(client) is not None
        else:
            raise TypeError(
                f"the client factory must return a client, but returned {type(client).__name__}"
            )
        entry = self._wrapped.pop(id(client), None)
        if entry is None or entry[0] is not client or entry[1].is_connected != connected:
            entry = client, ProxyClient(client)
        self._wrapped[id(client)] = entry
        if len(self._wrapped) > MAX_SOURCES:
            # Clients that the factory returns again move to the end and keep their sessions.
            del self._wrapped[next(iter(self._wrapped))]
        return entry[1]

    def part(self) -> BackendDefinition:
        """Return the definition of the provider's backend."""
        settings = replace(default_settings(), cache_ttl=self.cache_ttl)

        def make_connector(
            settings: BackendSettings, context: BackendContext, background: TaskSet
        ) -> Connector:
            return FactoryConnector(self.client, settings, context, background)

        # The factory chooses a client for each request, so no session is opened in advance.
        return BackendDefinition("backend", settings, make_connector, warm_each=0, asks=True)
