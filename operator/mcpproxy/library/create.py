"""Construction of proxies: `create_proxy` for a target, `Proxy` for a client factory."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mcpproxy.library.client import ProxyClient
from mcpproxy.library.fastmcp_objects import connected_client, unwrapped
from mcpproxy.library.provider import CACHE_TTL, ClientFactory, ProxyProvider
from mcpproxy.library.server import Server
from mcpproxy.library.sessions.backend_factory import BackendDefinition
from mcpproxy.library.targets import is_multi_server, server_targets
from mcpproxy.proxy.embed import from_mcp_servers, from_target

NAME = "mcpproxy"


class Proxy(Server):
    """A server that offers the components of other servers."""

    def __init__(
        self,
        *,
        client_factory: ClientFactory | None = None,
        name: str = NAME,
        instructions: str | None = None,
        cache_ttl: float = CACHE_TTL,
    ) -> None:
        """Create a proxy. Every request calls `client_factory` for a client.

        If the factory returns the same client again, its session is reused. A new client for each
        request means a new session for each request.
        """
        super().__init__(name, instructions=instructions)
        if client_factory is not None:
            self.add_provider(ProxyProvider(client_factory, cache_ttl))


def create_proxy(target: Any, *, name: str = NAME, instructions: str | None = None) -> Proxy:
    """Create a proxy in front of one server or several.

    `target` is a URL, a path to a .py or .js server or to an mcpServers file, a transport, client
    or in-process server of the SDK or of FastMCP, a ProxyClient, a `Server`, or an mcpServers
    mapping. Each request gets a new session, unless the target is a connected client, whose session
    all requests share. `instructions` precede those of the servers. Raise ManifestError or
    TypeError.
    """
    proxy = Proxy(name=name, instructions=instructions)
    if connected_client(target) is None:
        target = unwrapped(target)
    if isinstance(target, Server):
        proxy.mount(target)
    elif isinstance(target, ProxyProvider):
        proxy.add_provider(target)
    elif is_multi_server(target):
        _add_configured(proxy, target)
    else:
        _add_client(proxy, target if isinstance(target, ProxyClient) else ProxyClient(target))
    return proxy


def _add_client(proxy: Proxy, client: ProxyClient) -> None:
    if client.is_connected or client.source.once:
        proxy.add_provider(ProxyProvider(lambda: client))
        return
    source = client.source
    part = BackendDefinition("backend", source.settings, source.opener, 1, client.forwarding)
    proxy.add_part(part)


def _add_configured(proxy: Proxy, target: Mapping[str, Any] | str | Path) -> None:
    if isinstance(target, Mapping):
        configuration = from_mcp_servers(target)
    else:
        configuration = from_target(str(target))
    for name, source in server_targets(configuration):
        proxy.add_part(BackendDefinition(name, source.settings, source.opener))
