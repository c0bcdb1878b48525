"""The server of the library: local components, copies and mounted servers in one catalog."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from mcpproxy.api.defaults import BackendSettings, default_settings
from mcpproxy.library.access import access_settings
from mcpproxy.library.components import copied_components
from mcpproxy.library.components.components import CopiedComponent, RemoteComponent
from mcpproxy.library.components.local_components import LocalComponents
from mcpproxy.library.hosting.hosted_server import HostedServer
from mcpproxy.library.provider import CACHE_TTL, ProxyProvider
from mcpproxy.library.sessions.backend_factory import (
    BackendDefinition,
    default_health,
)
from mcpproxy.library.sessions.gateway_session import GatewayConnector
from mcpproxy.library.targets import target_of
from mcpproxy.library.visibility import ComponentVisibility, checked_prefix
from mcpproxy.proxy.embed import (
    VERSION,
    BackendContext,
    Catalog,
    Connector,
    Gateway,
    RuntimeOptions,
    TaskSet,
    build_backend_context,
)

LOCAL: Final = "_local"
"""Name of the backend of a server's own functions."""
OWN: Final = (LOCAL, copied_components.COPIES)
"""Backends of a server's own components, which take precedence over those of mounted servers."""


class Server(LocalComponents, HostedServer):
    """An MCP server of local components and mounted servers."""

    def __init__(
        self, name: str = "mcpproxy", *, instructions: str | None = None, **access: Any
    ) -> None:
        """Create a server. `access` are the arguments of `access_settings`.

        Raise ManifestError.
        """
        super().__init__(name, instructions)
        self.access = access_settings(**access)
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
        self.check_not_running()
        component.origin.check_is_unrestricted()
        self._copies.append(component)
        self._depend_on(component.origin)

    def add_provider(
        self, provider: ProxyProvider, prefix: str = "", *, namespace: str | None = None
    ) -> None:
        """Add the components that a provider reaches. `namespace` is another name of `prefix`.

        Raise ValueError for a prefix that cannot be part of names.
        """
        self.add_part(provider.part().prefixed(checked_prefix(prefix, namespace)))

    def mount(
        self, server: "Server | Any", prefix: str | None = None, *, namespace: str | None = None
    ) -> None:
        """Add all components of another server, live.

        `server` may be a target of `create_proxy`. `namespace` is another name of `prefix`. Raise
        ValueError for a prefix that cannot be part of names.
        """
        prefix = checked_prefix(prefix, namespace)
        if not isinstance(server, Server):
            from mcpproxy.library.create import create_proxy

            server = create_proxy(server)
        if server is self or server.contains(self):
            raise ValueError(f"{server.name} cannot be mounted into itself")
        self.check_not_running()
        server.check_is_unrestricted()
        mounted: Server = server
        settings = replace(default_settings(), prefix=prefix, cache_ttl=mounted.cache_ttl)

        def make_connector(
            settings: BackendSettings, context: BackendContext, background: TaskSet
        ) -> Connector:
            return GatewayConnector(lambda: mounted.gateway, settings, background)

        self.add_part(BackendDefinition(mounted.name, settings, make_connector, asks=True))
        self._depend_on(mounted)

    @property
    def is_restricted(self) -> bool:
        """True if rules restrict the callers of this server."""
        return self.access.authorization is not None

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
        self.check_not_running()
        taken = {*OWN, *(existing.name for existing in self._parts)}
        name, number = part.name, 2
        while name in taken:
            name, number = f"{part.name}-{number}", number + 1
        self._parts.append(part.named(name))

    def check_not_running(self) -> None:
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
        access, catalog = self.access, context.catalog
        return Gateway(
            *(self.name, VERSION, [part.backend(context) for part in parts], context, (), None),
            *access.guard(catalog),
            access.audited_requests(self.name, catalog, self.audit_descriptor),
            visibility,
        )

    def _all_parts(self) -> list[BackendDefinition]:
        """Return all backends; the server's own come first, as their instructions do."""
        own: list[BackendDefinition] = []
        if self._local is not None:
            source = target_of(self._local)
            own.append(BackendDefinition(LOCAL, source.settings, source.make_connector))
        if self._copies:
            own.append(copied_components.part_of(self._copies))
        return [*own, *self._parts]
