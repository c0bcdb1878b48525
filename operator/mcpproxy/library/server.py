"""The server of the library: local components, copies and mounted servers in one catalog."""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeVar

import mcp_types as t
from mcp import MCPError
from mcp.server import MCPServer
from msgspec import Raw

from mcpproxy import standard_descriptors
from mcpproxy.api import constants
from mcpproxy.api.defaults import BackendSettings
from mcpproxy.library.components import copied_components
from mcpproxy.library.components.components import CopiedComponent, RemoteComponent
from mcpproxy.library.provider import CACHE_TTL, ProxyProvider
from mcpproxy.library.sessions.backend_factory import (
    BackendDefinition,
    default_health,
    default_settings,
)
from mcpproxy.library.sessions.gateway_session import GatewayConnector
from mcpproxy.library.targets import target_of
from mcpproxy.library.visibility import LABEL_OF, VisibleCatalog, VisibleGateway
from mcpproxy.proxy.core.exchange import ClientIdentity, NullContext
from mcpproxy.proxy.downstream.standard_streams import NothingToServe
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import RpcError
from mcpproxy.proxy.protocol.kinds import PROMPTS, RESOURCES, TEMPLATES, TOOLS, ComponentKind
from mcpproxy.proxy.protocol.revisions import LATEST_LEGACY
from mcpproxy.proxy.relay import relay_request
from mcpproxy.proxy.runtime import VERSION, Runtime, RuntimeOptions, build_backend_context
from mcpproxy.proxy.upstream.backend import BackendContext
from mcpproxy.proxy.upstream.connect.negotiation import Connector
from mcpproxy.proxy.upstream.transports.session import TaskSet

LOCAL: Final = "_local"
"""Name of the backend of a server's own functions."""
OWN: Final = (LOCAL, copied_components.COPIES)
"""Backends of a server's own components, which take precedence over those of mounted servers."""
TransportName = Literal["stdio", "http", "streamable-http"]
Function = TypeVar("Function", bound=Callable[..., Any])


class Server:
    """An MCP server of local components and mounted servers."""

    def __init__(self, name: str = "mcpproxy", *, instructions: str | None = None) -> None:
        self.name = name
        self._local: MCPServer[Any] | None = None
        self._instructions = instructions
        self._parts: list[BackendDefinition] = []
        self._beneath: list[Server] = []
        self._copies: list[CopiedComponent] = []
        self._hidden: set[str] = set()
        self._gateway: VisibleGateway | None = None
        if instructions is not None:
            self._local = self.local

    # Components

    @property
    def local(self) -> MCPServer[Any]:
        """The SDK server that holds the local components."""
        if self._local is None:
            self._check_not_running()
            self._local = MCPServer(self.name, instructions=self._instructions, log_level="WARNING")
        return self._local

    def tool(self, function: Any = None, /, **options: Any) -> Any:
        """Add a function as a tool. Usable as a decorator with or without parentheses.

        Options are those of MCPServer.tool.
        """
        if isinstance(function, str):
            return self.local.tool(function, **options)
        decorate = self.local.tool(**options)
        return decorate if function is None else decorate(function)

    def resource(self, uri: str, **options: Any) -> Callable[[Function], Function]:
        """Return a decorator that adds a function as a resource or resource template."""
        return self.local.resource(uri, **options)

    def prompt(self, function: Any = None, /, **options: Any) -> Any:
        """Add a function as a prompt. Usable as a decorator with or without parentheses."""
        if isinstance(function, str):
            return self.local.prompt(function, **options)
        decorate = self.local.prompt(**options)
        return decorate if function is None else decorate(function)

    def add_tool(self, tool: CopiedComponent | Callable[..., Any], **options: Any) -> None:
        """Add a function, or a copy of a mirrored tool. Raise TypeError for a mirrored tool
        itself."""
        if isinstance(tool, CopiedComponent):
            self.add(tool)
        elif isinstance(tool, RemoteComponent):
            raise TypeError(f"{tool.key} is a read-only mirror; add a copy() of it")
        else:
            self.local.add_tool(tool, **options)

    def add(self, component: CopiedComponent) -> None:
        """Add a copy of a mirrored component of any kind."""
        self._check_not_running()
        self._copies.append(component)
        self._depend_on(component.origin)

    def add_provider(self, provider: ProxyProvider, prefix: str = "") -> None:
        """Add the components that a provider reaches."""
        self.add_part(provider.part().prefixed(prefix))

    def mount(self, server: "Server | Any", prefix: str | None = None) -> None:
        """Add all components of another server, live; `server` may be a target of
        `create_proxy`."""
        if not isinstance(server, Server):
            from mcpproxy.library.create import create_proxy

            server = create_proxy(server)
        if server is self or server.contains(self):
            raise ValueError(f"{server.name} cannot be mounted into itself")
        self._check_not_running()
        mounted: Server = server
        settings = replace(default_settings(), prefix=prefix or "", cache_ttl=mounted.cache_ttl)

        def opener(
            settings: BackendSettings, context: BackendContext, background: TaskSet
        ) -> Connector:
            return GatewayConnector(lambda: mounted.gateway, settings, background)

        self.add_part(BackendDefinition(mounted.name, settings, opener, asks=True))
        self._depend_on(mounted)

    @property
    def cache_ttl(self) -> float:
        """Shortest time, in seconds, for which a mounted server's lists are cached."""
        return min((part.settings.cache_ttl for part in self._parts), default=CACHE_TTL)

    def contains(self, other: "Server") -> bool:
        """True if another server is mounted into this one, directly or indirectly."""
        return any(server is other or server.contains(other) for server in self._beneath)

    def _depend_on(self, server: "Server") -> None:
        if server is not self and server not in self._beneath:
            self._beneath.append(server)

    def add_part(self, part: BackendDefinition) -> None:
        """Add the definition of one backend, under a unique name."""
        self._check_not_running()
        taken = {*OWN, *(existing.name for existing in self._parts)}
        name, number = part.name, 2
        while name in taken:
            name, number = f"{part.name}-{number}", number + 1
        self._parts.append(part.named(name))

    def _check_not_running(self) -> None:
        if self._gateway is not None and self._gateway.holders:
            raise RuntimeError("components cannot be added while the server is running")

    # Visibility

    def enable(self, *, keys: Iterable[str]) -> None:
        """Show components again, and notify clients."""
        self._hidden -= set(keys)
        self._refresh()

    def disable(self, *, keys: Iterable[str]) -> None:
        """Hide components from lists, refuse their use, and notify clients."""
        self._hidden |= set(keys)
        self._refresh()

    def _refresh(self) -> None:
        if self._gateway is not None and self._gateway.holders:
            self._gateway.refresh()

    # Inspection

    async def list_tools(self) -> list[RemoteComponent]:
        """Return the tools. Raise MCPError if none are known because backends have failed."""
        return await self._list(TOOLS)

    async def list_prompts(self) -> list[RemoteComponent]:
        """Return the prompts. Raise MCPError if none are known because backends have failed."""
        return await self._list(PROMPTS)

    async def list_resources(self) -> list[RemoteComponent]:
        """Return the resources. Raise MCPError if none are known because backends have failed."""
        return await self._list(RESOURCES)

    async def list_resource_templates(self) -> list[RemoteComponent]:
        """Return the resource templates. Raise MCPError if none are known because backends
        failed."""
        return await self._list(TEMPLATES)

    async def get_tool(self, name: str) -> RemoteComponent:
        """Return a tool by its name. Raise LookupError."""
        return await self._get(TOOLS, name)

    async def get_prompt(self, name: str) -> RemoteComponent:
        """Return a prompt by its name. Raise LookupError."""
        return await self._get(PROMPTS, name)

    async def get_resource(self, uri: str) -> RemoteComponent:
        """Return a resource by its URI. Raise LookupError."""
        return await self._get(RESOURCES, uri)

    async def get_resource_template(self, uri_template: str) -> RemoteComponent:
        """Return a resource template by its URI template. Raise LookupError."""
        return await self._get(TEMPLATES, uri_template)

    async def call_tool(
        self, name: str, arguments: dict[str, Any] | None = None
    ) -> t.CallToolResult:
        """Call a tool. Server requests during the call are refused. Raise MCPError."""
        params = jsonrpc.decode_object(jsonrpc.encode({"name": name, "arguments": arguments or {}}))
        request = {"id": Raw(b'"call"'), "params": jsonrpc.encode_raw(params)}
        caller = NullContext(ClientIdentity(LATEST_LEGACY))
        async with self:
            await self.gateway.wait_for_route("tools/call", params)
            try:
                answer = await relay_request(self.gateway, request, "tools/call", params, caller)
                error = jsonrpc.error_of(answer, understood=True)
            except RpcError as raised:
                error = raised
        if error is not None:
            raise MCPError(error.code, error.message, error.data)
        return t.CallToolResult.model_validate(jsonrpc.decode(answer["result"]), by_name=False)

    async def _list(self, kind: ComponentKind) -> list[RemoteComponent]:
        async with self:
            try:
                listed = jsonrpc.decode(await self.gateway.listing(kind, None, modern=False))
            except RpcError as error:
                raise MCPError(error.code, error.message, error.data) from None
        return [
            RemoteComponent(kind, item, self, str(item[kind.key])) for item in listed[kind.member]
        ]

    async def _get(self, kind: ComponentKind, identifier: str) -> RemoteComponent:
        async with self:
            with contextlib.suppress(MCPError):
                for component in await self._list(kind):
                    if component.identifier == identifier:
                        return component
            states = [backend.status() for backend in self.gateway.backends.values()]
        failures = [
            f"{state.name} is {state.state}: {state.message}" for state in states if state.message
        ]
        missing = f"server {self.name} has no {LABEL_OF[kind]} {identifier}"
        raise LookupError("; ".join([missing, *failures]))

    # Operation

    @property
    def gateway(self) -> VisibleGateway:
        """The running gateway. Raise RuntimeError if the server is not running."""
        if self._gateway is None or not self._gateway.holders:
            raise RuntimeError(f"server {self.name} is not running")
        return self._gateway

    def start(self) -> VisibleGateway:
        """Start to monitor the backends. Every start needs a matching `close`."""
        gateway = self._build_gateway()
        gateway.start()
        return gateway

    async def close(self) -> None:
        """Undo one `start`. The last `close` ends all sessions."""
        if self._gateway is not None:
            await self._gateway.close()

    async def __aenter__(self) -> Self:
        """Run without serving, which makes calls from this process faster."""
        self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop."""
        await self.close()

    def _build_gateway(self) -> VisibleGateway:
        if self._gateway is None or not self._gateway.holders:
            # Among the other backends, the one that was mounted first takes precedence.
            catalog = VisibleCatalog(self._hidden, [*OWN, *(part.name for part in self._parts)])
            context = build_backend_context(default_health(), RuntimeOptions(), Path.cwd())
            context = replace(context, catalog=catalog)
            backends = [part.backend(context) for part in self._all_parts()]
            self._gateway = VisibleGateway(self.name, VERSION, backends, catalog, self._beneath)
        return self._gateway

    def _all_parts(self) -> list[BackendDefinition]:
        parts = list(self._parts)
        if self._copies:
            parts.append(copied_components.part_of(self._copies))
        if self._local is not None:
            source = target_of(self._local)
            parts.append(BackendDefinition(LOCAL, source.settings, source.opener))
        return parts

    def run(self, transport: TransportName | None = None, **options: Any) -> None:
        """Serve until stopped. Options are those of `run_async`."""
        try:
            _run(self.run_async(transport, **options))
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
    ) -> None:
        """Serve one client on standard streams (the default), or clients over HTTP.

        `allowed_hosts` are additional names by which clients may call. If `host` is reachable from
        other machines, the machine's own names and addresses are allowed by default. Web pages of
        `allowed_origins` may call from browsers.
        """
        if transport not in (None, "stdio", "http", "streamable-http"):
            raise ValueError(f"transport must be stdio or http, not {transport!r}")
        hosts = tuple(allowed_hosts) or _own_hosts(host)
        options = RuntimeOptions(
            host=host,
            port=port,
            path=path,
            admin_port=admin_port,
            allowed_hosts=hosts,
            allowed_origins=tuple(allowed_origins),
        )
        runtime = Runtime(None, options, self._build_gateway())
        if transport in (None, "stdio"):
            try:
                await runtime.serve_stdio()
            except NothingToServe as error:
                raise NothingToServe(f'{error}. For HTTP: run(transport="http")') from None
            return
        serving = asyncio.create_task(runtime.serve_http())
        try:
            await asyncio.shield(serving)
        except asyncio.CancelledError:
            runtime.stop()
            await serving
            raise


def _own_hosts(host: str) -> tuple[str, ...]:
    """Return the names and addresses of this machine if it serves other machines."""
    if host in ("127.0.0.1", "localhost", "::1"):
        return ()
    if host not in ("0.0.0.0", "::", ""):
        return (f"[{host}]" if ":" in host else host,)
    own = {socket.gethostname(), socket.getfqdn()}
    try:
        addresses = socket.getaddrinfo(socket.gethostname(), None)
    except OSError:
        addresses = []
    for family, _, _, _, address in addresses:
        text = str(address[0]).partition("%")[0]
        own.add(f"[{text}]" if family == socket.AF_INET6 else text)
    return tuple(sorted(own))


def _run(work: Any) -> None:
    standard_descriptors.reserve()
    try:
        import uvloop
    except ImportError:
        asyncio.run(work)
    else:
        uvloop.run(work)
