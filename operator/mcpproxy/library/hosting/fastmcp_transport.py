"""A server of the library as a part of FastMCP programs.

FastMCP is optional, and imported here alone, by the functions that need it.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from mcp import ClientSession

from mcpproxy.library.hosting.in_memory import in_memory_transport
from mcpproxy.proxy.embed import ANONYMOUS, Identity

if TYPE_CHECKING:
    from mcpproxy.library.server import Server


def fastmcp_transport(server: "Server", identity: Identity) -> Any:
    """Return a transport with which clients of FastMCP connect to a server within the process.

    `identity` is that of the client. Raise ImportError without FastMCP 4.
    """
    from fastmcp.client.transports import ClientTransport
    from fastmcp.client.transports.base import TransportOptions

    class MCPProxyTransport(ClientTransport):  # type: ignore[misc]
        """Transport to a server within the process."""

        @asynccontextmanager
        async def connect_session(
            self, *, transport_options: Any = None, **session_kwargs: Any
        ) -> AsyncIterator[ClientSession]:
            """Connect a session, which is not initialized yet."""
            options = transport_options or TransportOptions()
            async with in_memory_transport(server, identity) as (read, write):
                session = options.session_class(
                    read_stream=read, write_stream=write, **session_kwargs
                )
                async with session as entered:
                    yield entered

    return MCPProxyTransport()


def fastmcp_provider(server: "Server") -> Any:
    """Return a provider of FastMCP with all components of a server.

    Raise ImportError without FastMCP 4, and ValueError for a server with rules.
    """
    from fastmcp.server import create_proxy
    from fastmcp.server.providers import FastMCPProvider

    server.check_is_unrestricted()
    return FastMCPProvider(create_proxy(fastmcp_transport(server, ANONYMOUS), name=server.name))
