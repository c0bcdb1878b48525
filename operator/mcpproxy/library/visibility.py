"""A catalog and gateway that can hide components and serve several backends without prefixes."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final, Protocol

from mcpproxy.proxy.core.access import Access
from mcpproxy.proxy.core.catalog.catalog import Catalog
from mcpproxy.proxy.core.catalog.component_list import ComponentList
from mcpproxy.proxy.core.catalog.extensions import TASKS_EXTENSION
from mcpproxy.proxy.core.exchange import ClientIdentity
from mcpproxy.proxy.core.translation.request_names import unknown_component_error
from mcpproxy.proxy.core.translation.uri_templates import Uri
from mcpproxy.proxy.gateway.gateway import Gateway
from mcpproxy.proxy.gateway.router import Route
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import Message
from mcpproxy.proxy.protocol.kinds import PROMPTS, RESOURCES, TEMPLATES, TOOLS, ComponentKind
from mcpproxy.proxy.upstream.backend import Backend

KEY_OF: Final[dict[ComponentKind, str]] = {
    TOOLS: "tool",
    PROMPTS: "prompt",
    RESOURCES: "resource",
    TEMPLATES: "template",
}


LABEL_OF: Final[dict[ComponentKind, str]] = {**KEY_OF, TEMPLATES: "resource template"}
"""Names of the kinds of components in messages."""


def component_key(kind: ComponentKind, name: str) -> str:
    """Return the key of a component in `enable` and `disable`."""
    return f"{KEY_OF[kind]}:{name}"


class VisibleCatalog(Catalog):
    """A catalog without the hidden components."""

    def __init__(self, hidden: set[str], backends: Sequence[str] = ()) -> None:
        """Create a catalog. Call `refresh` after every change of `hidden`, a set of component keys.
        `backends` are in the order of their precedence."""
        super().__init__(backends.index if backends else None)
        self._backends = backends
        self._hidden = hidden
        self._whole: dict[tuple[str, ComponentKind, bytes | None], ComponentList] = {}

    def put(
        self,
        backend: str,
        kind: ComponentKind,
        components: ComponentList | None,
        seen: bytes | None = None,
    ) -> bool:
        if components is None:
            self._whole.pop((backend, kind, seen), None)
            return super().put(backend, kind, None, seen)
        self._whole[backend, kind, seen] = components
        return super().put(backend, kind, self._visible_part(kind, components), seen)

    def _visible_part(self, kind: ComponentKind, components: ComponentList) -> ComponentList:
        visible = [i for i, name in enumerate(components.names) if not self.hides(kind, name)]
        if len(visible) == len(components.names):
            return components
        return replace(
            components,
            items=tuple(components.items[i] for i in visible),
            names=tuple(components.names[i] for i in visible),
        )

    def hides(self, kind: ComponentKind, name: str) -> bool:
        """True if a component is hidden."""
        return component_key(kind, name) in self._hidden

    def refresh(self) -> set[ComponentKind]:
        """Apply the current set of hidden components. Return the kinds whose lists changed."""
        changed = set()
        for (backend, kind, seen), components in self._whole.items():
            if super().put(backend, kind, self._visible_part(kind, components), seen):
                changed.add(kind)
        return changed

    def templates(self) -> list[tuple[str, str]]:
        """Return the backend and the downstream URI template of each template, including hidden
        ones."""
        pairs = [
            (backend, name)
            for (backend, kind, _), listed in self._whole.items()
            if kind is TEMPLATES
            for name in listed.names
        ]
        if self._backends:
            pairs.sort(key=lambda template: self._backends.index(template[0]))
        return pairs


class Startable(Protocol):
    """A server that must run while a gateway runs."""

    def start(self) -> object:
        """Start the server, or count one more user of it."""

    async def close(self) -> None:
        """Remove one user of the server. The last one stops it."""


class VisibleGateway(Gateway):
    """A gateway that refuses hidden components and routes URIs by their templates.

    The gateway may be started several times. It stops after the same number of calls of `close`.
    """

    catalog: VisibleCatalog

    def __init__(
        self,
        name: str,
        version: str,
        backends: Iterable[Backend],
        catalog: VisibleCatalog,
        mounted_servers: Iterable[Startable] = (),
    ) -> None:
        """Create a gateway. `mounted_servers` are the servers that its backends lead to."""
        super().__init__(name, version, backends, catalog)
        self._mounted_servers = list(mounted_servers)
        self.holders = 0
        self.locate = self._locate_visible

    def start(self) -> None:
        self.holders += 1
        if self.holders == 1:
            for server in self._mounted_servers:
                server.start()
            super().start()

    async def close(self) -> None:
        self.holders -= 1
        if self.holders == 0:
            await super().close()
            for server in self._mounted_servers:
                await server.close()

    def _locate_visible(
        self, method: str, params: Message, principal: str | None, access: Access | None
    ) -> Route:
        if method in TASKS_EXTENSION.routed:
            return self.router.route(method, params, principal, access)
        name, kind = self.router.named(method, params)
        owner = self.catalog.owner(kind, name)
        if owner is not None:
            return self.route_to(owner, name, kind)
        template = self._template(name) if kind.by_uri else None
        hidden = self.catalog.hides(kind, name) or (
            template is not None and self.catalog.hides(TEMPLATES, template[1])
        )
        if hidden:
            raise unknown_component_error(kind, name)
        if template is not None:
            return self.route_to(template[0], name, kind)
        return self.router.route(method, params, None, access)

    def guess_route(
        self, method: str, params: Message, client: ClientIdentity | None = None
    ) -> Route | None:
        for member, kinds in (("uri", (RESOURCES,)), ("name", (TOOLS, PROMPTS))):
            name = jsonrpc.decode_str(params.get(member))
            for kind in kinds if name is not None else ():
                if self.catalog.hides(kind, name or ""):
                    raise unknown_component_error(kind, name or "")
        return super().guess_route(method, params, client)

    def _template(self, uri: str) -> tuple[str, str] | None:
        """Return the backend and the template that match a URI, or None.

        Raise RpcError if the limits do not allow a decision, because the URI might be hidden.
        """
        parsed = Uri(uri)
        for backend, template in self.catalog.templates():
            if parsed.expands(template):
                return backend, template
        if parsed.undecided:
            raise unknown_component_error(RESOURCES, uri)
        return None

    def refresh(self) -> None:
        """Apply a change of the hidden components, and notify clients whose lists changed."""
        changed = self.catalog.refresh()
        if changed:
            self._on_change(changed)
