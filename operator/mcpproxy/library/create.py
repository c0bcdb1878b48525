"""Making proxies: `create_proxy` for anything that names a server, `Proxy` for a factory."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mcpproxy.library.client import ProxyClient
from mcpproxy.library.fastmcp_objects import connected_client, unwrapped
from mcpproxy.library.provider import CACHE_TTL, ClientFactory, ProxyProvider
from mcpproxy.library.server import Server
from mcpproxy.library.sessions.backend_factory import BackendDefinition
from mcpproxy.library.targets import is_multi_server, server_targets
from mcpproxy.proxy.config.targets import from_mcp_servers, from_target

NAME = "mcpproxy"


class Proxy(Server):
    """A server that shows what other servers have."""

    def __init__(
        self,
        *,
        client_factory: ClientFactory | None = None,
        name: str = NAME,
        instructions: str | None = None,
        cache_ttl: float = CACHE_TTL,
    ) -> None:
        """`client_factory` is asked for a client for every request.

        One that returns the same client again has its session reused, a new client each time is
        a fresh session each time.
        """
        super().__init__(name, instructions=instructions)
        if client_factory is not None:
            self.add_provider(ProxyProvider(client_factory, cache_ttl))


def create_proxy(target: Any, *, name: str = NAME, instructions: str | None = None) -> Proxy:
    """A proxy in front of whatever names one server or several.

    `target` is a URL, a path to a .py or .js server or to an mcpServers file, a transport, client
    or in-process server of the SDK or of FastMCP, a ProxyClient, a server of ours or an mcpServers
    mapping. Each request gets a fresh session, except where the target is a client that is
    connected: all requests share its session then. `instructions` come before those of the
    servers. Raises ManifestError or TypeError.
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
