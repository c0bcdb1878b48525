"""The server of the library: local components, copies and mounted servers in one catalog."""

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeVar

import mcp_types as t
from mcp import MCPError
from mcp.server import MCPServer

from mcpproxy.api import constants
from mcpproxy.api.defaults import BackendSettings
from mcpproxy.library import inspection, serving
from mcpproxy.library.access import access_settings
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
from mcpproxy.library.visibility import LABEL_OF, ComponentVisibility
from mcpproxy.proxy.embed import (
    ANONYMOUS,
    PROMPTS,
    RESOURCES,
    TEMPLATES,
    TOOLS,
    VERSION,
    BackendContext,
    Catalog,
    ComponentKind,
    Connector,
    Gateway,
    Identity,
    Runtime,
    RuntimeOptions,
    TaskSet,
    build_backend_context,
)

LOCAL: Final = "_local"
"""Name of the backend of a server's own functions."""
OWN: Final = (LOCAL, copied_components.COPIES)
"""Backends of a server's own components, which take precedence over those of mounted servers."""
TransportName = Literal["stdio", "http", "streamable-http"]
Function = TypeVar("Function", bound=Callable[..., Any])


class Server:
    """An MCP server of local components and mounted servers."""

    def __init__(
        self, name: str = "mcpproxy", *, instructions: str | None = None, **access: Any
    ) -> None:
        """Create a server. `access` are the arguments of `access_settings`.

        Raise ManifestError.
        """
        self.name = name
        self._access = access_settings(**access)
        self._audit_descriptor = 2
        """Descriptor of audit records: that of standard output belongs to the program."""
        self._local: MCPServer[Any] | None = None
        self._instructions = instructions
        self._parts: list[BackendDefinition] = []
        self._beneath: list[Server] = []
        self._copies: list[CopiedComponent] = []
        self._hidden: set[str] = set()
        self._gateway: Gateway | None = None
        """The running gateway."""
        self._users = 0
        """Number of starts without a matching `close`."""
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
        component.origin.check_is_unrestricted()
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
        server.check_is_unrestricted()
        mounted: Server = server
        settings = replace(default_settings(), prefix=prefix or "", cache_ttl=mounted.cache_ttl)

        def opener(
            settings: BackendSettings, context: BackendContext, background: TaskSet
        ) -> Connector:
            return GatewayConnector(lambda: mounted.gateway, settings, background)

        self.add_part(BackendDefinition(mounted.name, settings, opener, asks=True))
        self._depend_on(mounted)

    @property
    def is_restricted(self) -> bool:
        """True if rules restrict the callers of this server."""
        return self._access.authorization is not None

    def check_is_unrestricted(self) -> None:
        """Raise ValueError if another server must not serve the components of this one."""
        if self.is_restricted:
            raise ValueError(
                f"server {self.name} has rules, which another server cannot apply; set"
                " authorization on the server that clients connect to"
            )

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
        if self._users:
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
        if self._gateway is not None:
            changed = self._gateway.catalog.apply_filter()
            if changed:
                self._gateway.events.list_change.publish(changed, "")

    # Inspection

    async def list_tools(self, *, identity: Identity = ANONYMOUS) -> list[RemoteComponent]:
        """Return the tools. Raise MCPError if none are known because backends have failed."""
        return await self._list(TOOLS, identity)

    async def list_prompts(self, *, identity: Identity = ANONYMOUS) -> list[RemoteComponent]:
        """Return the prompts. Raise MCPError if none are known because backends have failed."""
        return await self._list(PROMPTS, identity)

    async def list_resources(self, *, identity: Identity = ANONYMOUS) -> list[RemoteComponent]:
        """Return the resources. Raise MCPError if none are known because backends have failed."""
        return await self._list(RESOURCES, identity)

    async def list_resource_templates(
        self, *, identity: Identity = ANONYMOUS
    ) -> list[RemoteComponent]:
        """Return the resource templates. Raise MCPError if none are known because backends
        failed."""
        return await self._list(TEMPLATES, identity)

    async def get_tool(self, name: str, *, identity: Identity = ANONYMOUS) -> RemoteComponent:
        """Return a tool by its name. Raise LookupError."""
        return await self._get(TOOLS, name, identity)

    async def get_prompt(self, name: str, *, identity: Identity = ANONYMOUS) -> RemoteComponent:
        """Return a prompt by its name. Raise LookupError."""
        return await self._get(PROMPTS, name, identity)

    async def get_resource(self, uri: str, *, identity: Identity = ANONYMOUS) -> RemoteComponent:
        """Return a resource by its URI. Raise LookupError."""
        return await self._get(RESOURCES, uri, identity)

    async def get_resource_template(
        self, uri_template: str, *, identity: Identity = ANONYMOUS
    ) -> RemoteComponent:
        """Return a resource template by its URI template. Raise LookupError."""
        return await self._get(TEMPLATES, uri_template, identity)

    async def call_tool(
        self,
        name: str,
        arguments: dict[str, Any] | None = None,
        *,
        identity: Identity = ANONYMOUS,
    ) -> t.CallToolResult:
        """Call a tool. Server requests during the call are refused. Raise MCPError."""
        async with self:
            return await inspection.call_tool(self.gateway, name, arguments or {}, identity)

    async def _list(self, kind: ComponentKind, identity: Identity) -> list[RemoteComponent]:
        async with self:
            items = await inspection.list_components(self.gateway, kind, identity)
        return [RemoteComponent(kind, item, self, str(item[kind.key])) for item in items]

    async def _get(
        self, kind: ComponentKind, identifier: str, identity: Identity
    ) -> RemoteComponent:
        async with self:
            with contextlib.suppress(MCPError):
                for component in await self._list(kind, identity):
                    if component.identifier == identifier:
                        return component
            failures = inspection.describe_failures(self.gateway)
        missing = f"server {self.name} has no {LABEL_OF[kind]} {identifier}"
        raise LookupError("; ".join([missing, *failures]))

    # Operation

    @property
    def gateway(self) -> Gateway:
        """The running gateway. Raise RuntimeError if the server is not running."""
        if self._gateway is None:
            raise RuntimeError(f"server {self.name} is not running")
        return self._gateway

    def start(self) -> None:
        """Start to monitor the backends. Every start needs a matching `close`."""
        self._users += 1
        if self._users == 1:
            for server in self._beneath:
                server.start()
            self._gateway = self._build_gateway()
            self._gateway.start()

    async def close(self) -> None:
        """Undo one `start`. The last `close` ends all sessions."""
        self._users -= 1
        if self._users == 0 and self._gateway is not None:
            gateway, self._gateway = self._gateway, None
            await gateway.close()
            for server in self._beneath:
                await server.close()

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

    def _build_gateway(self) -> Gateway:
        # Among the other backends, the one that was mounted first takes precedence.
        names = [*OWN, *(part.name for part in self._parts)]
        visibility, parts = ComponentVisibility(self._hidden, names), self._all_parts()
        context = build_backend_context(
            default_health(),
            RuntimeOptions(),
            Path.cwd(),
            Catalog(names.index, catalog_filter=visibility),
            seals_task_ids=len(parts) > 1 or self.is_restricted,
        )
        access, catalog = self._access, context.catalog
        return Gateway(
            *(self.name, VERSION, [part.backend(context) for part in parts], context, (), None),
            *access.policy(catalog),
            access.audited_requests(self.name, catalog, self._audit_descriptor),
            visibility,
        )

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
        configuration = self._access.configuration() if over_http else None
        self._audit_descriptor = 1 if over_http else 2
        async with self:
            runtime = Runtime(configuration, options, self.gateway)
            if over_http:
                await serving.serve_http(runtime)
            else:
                await serving.serve_stdio(runtime, identity)
