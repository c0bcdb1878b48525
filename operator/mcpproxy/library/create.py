"""Construction of proxies: `create_proxy` for a target, `Proxy` for a client factory."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mcpproxy.api.v1alpha1 import Audit, Authentication, Authorization
from mcpproxy.library.access import access_settings
from mcpproxy.library.client import ProxyClient
from mcpproxy.library.fastmcp_objects import connected_client, unwrapped
from mcpproxy.library.provider import CACHE_TTL, ClientFactory, ProxyProvider
from mcpproxy.library.server import Server
from mcpproxy.library.sessions.backend_factory import BackendDefinition
from mcpproxy.library.targets import is_multi_server, server_targets
from mcpproxy.proxy.embed import ProxyConfig, from_mcp_servers, from_target

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
        **access: Any,
    ) -> None:
        """Create a proxy. Every request calls `client_factory` for a client.

        If the factory returns the same client again, its session is reused. A new client for each
        request means a new session for each request. `access` are the arguments of
        `access_settings`.
        """
        super().__init__(name, instructions=instructions, **access)
        if client_factory is not None:
            self.add_provider(ProxyProvider(client_factory, cache_ttl))


def create_proxy(
    target: Any,
    *,
    name: str = NAME,
    instructions: str | None = None,
    public_url: str | None = None,
    authentication: Authentication | Mapping[str, Any] | None = None,
    authorization: Authorization | Mapping[str, Any] | None = None,
    audit: Audit | Mapping[str, Any] | None = None,
) -> Proxy:
    """Create a proxy in front of one server or several.

    `target` is a URL, a path to a .py or .js server, to an mcpServers file or to a manifest, a
    transport, client or in-process server of the SDK or of FastMCP, a ProxyClient, a `Server`, or
    an mcpServers mapping. Each request gets a new session, unless the target is a connected client,
    whose session all requests share. `instructions` precede those of the servers. The other
    arguments are the fields of a manifest, and precede those of the target if it is one. Raise
    ManifestError or TypeError.
    """
    access = access_settings(public_url, authentication, authorization, audit)
    if connected_client(target) is None:
        target = unwrapped(target)
    configuration = _configuration(target) if is_multi_server(target) else None
    if configuration is not None:
        access = access.with_defaults(configuration.proxy.spec)
        access.check(configuration)
    proxy = Proxy(name=name, instructions=instructions, **access.arguments())
    if isinstance(target, Server):
        proxy.mount(target)
    elif isinstance(target, ProxyProvider):
        proxy.add_provider(target)
    elif configuration is not None:
        for part, source in server_targets(configuration):
            proxy.add_part(BackendDefinition(part, source.settings, source.make_connector))
    else:
        _add_client(proxy, target if isinstance(target, ProxyClient) else ProxyClient(target))
    return proxy


def _add_client(proxy: Proxy, client: ProxyClient) -> None:
    if client.is_connected or client.source.once:
        proxy.add_provider(ProxyProvider(lambda: client))
        return
    source = client.source
    part = BackendDefinition(
        "backend", source.settings, source.make_connector, 1, client.forwarding
    )
    proxy.add_part(part)


def _configuration(target: Mapping[str, Any] | str | Path) -> ProxyConfig:
    return from_mcp_servers(target) if isinstance(target, Mapping) else from_target(str(target))
