"""Ways to serve a server: standard streams, HTTP, an ASGI application, and within the process."""

import asyncio
import contextlib
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, Final, Literal

from mcp import Client

from mcpproxy.api import constants
from mcpproxy.library import serving
from mcpproxy.library.access import AccessSettings
from mcpproxy.library.hosting.asgi_app import AsgiApp
from mcpproxy.library.hosting.in_memory import (
    fastmcp_provider,
    fastmcp_transport,
    in_memory_transport,
)
from mcpproxy.library.inspection import InspectableServer
from mcpproxy.proxy.embed import ANONYMOUS, Identity, Runtime, RuntimeOptions

TransportName = Literal["stdio", "http", "streamable-http"]
STDOUT: Final = 1
STDERR: Final = 2


class HostedServer(InspectableServer):
    """The part of a server that serves clients."""

    access: AccessSettings
    audit_descriptor = STDERR
    """Descriptor of audit records: on standard streams, standard output belongs to messages."""

    @abstractmethod
    def check_is_unrestricted(self) -> None:
        """Raise ValueError if another server must not serve the components of this one."""

    def http_app(
        self,
        path: str = constants.MCP_PATH,
        *,
        allowed_hosts: Iterable[str] = (),
        allowed_origins: Iterable[str] = (),
    ) -> AsgiApp:
        """Return an ASGI application, which FastAPI and Starlette mount.

        `path` is that of the endpoint within the application. `allowed_hosts` are the names by
        which clients may call, in addition to the names and addresses of this machine; web pages of
        `allowed_origins` may call from browsers. Raise ManifestError if rules need callers whom
        nobody authenticates.
        """
        options = RuntimeOptions(
            path=path,
            allowed_hosts=(*serving.own_hosts(""), *allowed_hosts),
            allowed_origins=tuple(allowed_origins),
        )
        configuration = self.access.configuration()

        @contextlib.asynccontextmanager
        async def serve() -> AsyncIterator[Callable[[], asyncio.Protocol]]:
            self.audit_descriptor = STDOUT
            async with self:
                runtime = Runtime(configuration, options, self.gateway)
                async with runtime.serving_connections() as connect:
                    yield connect

        return AsgiApp(serve, path)

    def client(self, *, identity: Identity = ANONYMOUS, **options: Any) -> Client:
        """Return a client of the SDK that connects to this server within the process.

        Use it in tests: `async with server.client() as client`. `identity` is that of the client;
        `options` are those of `mcp.Client`.
        """
        return Client(in_memory_transport(self, identity), **options)

    def fastmcp_transport(self, *, identity: Identity = ANONYMOUS) -> Any:
        """Return a transport for clients of FastMCP in this process. Raise ImportError."""
        return fastmcp_transport(self, identity)

    def fastmcp_provider(self) -> Any:
        """Return a provider for servers of FastMCP. Raise ImportError, or ValueError for rules."""
        self.check_is_unrestricted()
        return fastmcp_provider(self)

    def run(self, transport: TransportName | None = None, **options: Any) -> None:
        """Serve until stopped. Options are those of `run_async`."""
        try:
            serving.run(self.run_async(transport, **options))
        except KeyboardInterrupt:
            return

    async def run_async(
        self,
        transport: TransportName | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 8000,
        path: str = constants.MCP_PATH,
        admin_port: int | None = None,
        allowed_hosts: Iterable[str] = (),
        allowed_origins: Iterable[str] = (),
        identity: Identity = ANONYMOUS,
    ) -> None:
        """Serve one client on standard streams (the default), or clients over HTTP.

        `allowed_hosts` are additional names by which clients may call. If `host` is reachable from
        other machines, the machine's own names and addresses are allowed by default. Web pages of
        `allowed_origins` may call from browsers. `identity` is that of the client on standard
        streams; clients over HTTP have the one that `authentication` verifies. Raise ManifestError
        if rules need callers whom nobody authenticates.
        """
        if transport not in (None, "stdio", "http", "streamable-http"):
            raise ValueError(f"transport must be stdio or http, not {transport!r}")
        hosts = tuple(allowed_hosts) or serving.own_hosts(host)
        options = RuntimeOptions(
            host=host,
            port=port,
            path=path,
            admin_port=admin_port,
            allowed_hosts=hosts,
            allowed_origins=tuple(allowed_origins),
        )
        over_http = transport not in (None, "stdio")
        configuration = self.access.configuration() if over_http else None
        self.audit_descriptor = STDOUT if over_http else STDERR
        async with self:
            runtime = Runtime(configuration, options, self.gateway)
            if over_http:
                await serving.serve_http(runtime)
            else:
                await serving.serve_stdio(runtime, identity)
