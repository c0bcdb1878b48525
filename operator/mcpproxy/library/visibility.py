"""The gateway of a server of ours: components can be hidden, and several backends go unprefixed."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final, Protocol

from mcpproxy.proxy.core.catalog.catalog import Catalog, ComponentList
from mcpproxy.proxy.core.catalog.extensions import TASKS_EXTENSION
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
"""Names of the kinds in messages to people."""


def component_key(kind: ComponentKind, name: str) -> str:
    """What a component is called in `enable` and `disable`."""
    return f"{KEY_OF[kind]}:{name}"


class VisibleCatalog(Catalog):
    """A catalog that leaves out what is hidden."""

    def __init__(self, hidden: set[str], backends: Sequence[str] = ()) -> None:
        """`hidden` are keys of components, and every change of it is followed by `refresh`;
        `backends` are in the order in which they come first."""
        super().__init__(backends.index if backends else None)
        self._backends = backends
        self._hidden = hidden
        self._whole: dict[tuple[str, ComponentKind, bytes | None], ComponentList] = {}

    def put(
        self,
        backend: str,
        kind: ComponentKind,
        found: ComponentList | None,
        seen: bytes | None = None,
    ) -> bool:
        if found is None:
            self._whole.pop((backend, kind, seen), None)
            return super().put(backend, kind, None, seen)
        self._whole[backend, kind, seen] = found
        return super().put(backend, kind, self._shown(kind, found), seen)

    def _shown(self, kind: ComponentKind, found: ComponentList) -> ComponentList:
        kept = [i for i, name in enumerate(found.names) if not self.hides(kind, name)]
        if len(kept) == len(found.names):
            return found
        return replace(
            found,
            items=tuple(found.items[i] for i in kept),
            names=tuple(found.names[i] for i in kept),
        )

    def hides(self, kind: ComponentKind, name: str) -> bool:
        """Whether a component is hidden."""
        return component_key(kind, name) in self._hidden

    def refresh(self) -> set[ComponentKind]:
        """Show what is visible now; the kinds whose lists changed."""
        changed = set()
        for (backend, kind, seen), found in self._whole.items():
            if super().put(backend, kind, self._shown(kind, found), seen):
                changed.add(kind)
        return changed

    def templates(self) -> list[tuple[str, str]]:
        """The backend and the outward URI template of each template, hidden ones included."""
        found = [
            (backend, name)
            for (backend, kind, _), listed in self._whole.items()
            if kind is TEMPLATES
            for name in listed.names
        ]
        if self._backends:
            found.sort(key=lambda template: self._backends.index(template[0]))
        return found


class Startable(Protocol):
    """Another server of ours that has to run while a gateway does."""

    def start(self) -> object:
        """Begin, or go on."""

    async def close(self) -> None:
        """One holder less."""


class VisibleGateway(Gateway):
    """A gateway that refuses what is hidden, and finds the backend of a URI by its template.

    It may be started several times, and ends when it was closed as often.
    """

    catalog: VisibleCatalog

    def __init__(
        self,
        name: str,
        version: str,
        backends: Iterable[Backend],
        catalog: VisibleCatalog,
        beneath: Iterable[Startable] = (),
    ) -> None:
        """`beneath` are the servers that its backends lead to."""
        super().__init__(name, version, backends, catalog)
        self._beneath = list(beneath)
        self.holders = 0

    def start(self) -> None:
        self.holders += 1
        if self.holders == 1:
            for server in self._beneath:
                server.start()
            super().start()

    async def close(self) -> None:
        self.holders -= 1
        if self.holders == 0:
            await super().close()
            for server in self._beneath:
                await server.close()

    def route(self, method: str, params: Message, principal: str | None = None) -> Route:
        if method in TASKS_EXTENSION.routed:
            return super().route(method, params, principal)
        name, kind = self._router.named(method, params)
        known = self.catalog.owner(kind, name)
        if known is not None:
            return self.way(known, name, kind)
        template = self._template(name) if kind.by_uri else None
        hidden = self.catalog.hides(kind, name) or (
            template is not None and self.catalog.hides(TEMPLATES, template[1])
        )
        if hidden:
            raise unknown_component_error(kind, name)
        if template is not None:
            return self.way(template[0], name, kind)
        return super().route(method, params)

    def guessed(self, method: str, params: Message, principal: str | None = None) -> Route | None:
        for member, kinds in (("uri", (RESOURCES,)), ("name", (TOOLS, PROMPTS))):
            name = jsonrpc.decode_str(params.get(member))
            for kind in kinds if name is not None else ():
                if self.catalog.hides(kind, name or ""):
                    raise unknown_component_error(kind, name or "")
        return super().guessed(method, params, principal)

    def _template(self, uri: str) -> tuple[str, str] | None:
        """The backend and the template that a URI is an expansion of, if there is one.

        Raises RpcError where that can't be decided within the limits: it might be hidden.
        """
        compared = Uri(uri)
        for backend, template in self.catalog.templates():
            if compared.expands(template):
                return backend, template
        if compared.undecided:
            raise unknown_component_error(RESOURCES, uri)
        return None

    def refresh(self) -> None:
        """What is hidden has changed: tell clients whose lists did."""
        changed = self.catalog.refresh()
        if changed:
            self._changed(changed)
