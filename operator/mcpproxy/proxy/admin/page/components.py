"""The list of components on the page: only the shown part is decoded, whatever the list's length.

The work is divided into steps, one for each backend, so that calls are relayed in between.
"""

import asyncio
import json
from collections.abc import Mapping
from typing import Final

from mcpproxy.limits.audit import SHOWN_COMPONENT
from mcpproxy.proxy.admin.page.data import (
    MAX_FILTER,
    PAGE_SIZE,
    ComponentPart,
    ComponentsRequest,
    ComponentView,
    Definition,
    DefinitionRequest,
)
from mcpproxy.proxy.core.catalog.catalog import Catalog
from mcpproxy.proxy.core.catalog.component_list import (
    ComponentList,
    count_tokens,
    tokens_of_size,
)
from mcpproxy.proxy.core.catalog.component_selection import selections
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import RpcError
from mcpproxy.proxy.protocol.kinds import KINDS, TOOLS, ComponentKind
from mcpproxy.proxy.upstream.backend import Backend

SUMMARY: Final = 300
"""Characters of a description in the list."""
_LARGE: Final = 64 * 1024
"""Bytes of a component from which its tokens are estimated without decoding it."""
_BY_MEMBER: Final = {kind.member: kind for kind in KINDS}
_Found = tuple[str, ComponentList, int]
"""Backend, its list, and the index of a component in it."""


class ComponentBrowser:
    """Read access to all components of a catalog, served or not."""

    def __init__(self, catalog: Catalog, backends: Mapping[str, Backend]) -> None:
        self._catalog = catalog
        self._all = catalog.unfiltered
        self._backends = backends

    async def list_part(self, request: ComponentsRequest) -> ComponentPart:
        """Return the requested part of the list of one kind, and the size of the whole list."""
        kind = _BY_MEMBER.get(request.kind, TOOLS)
        needle = request.text[:MAX_FILTER].casefold()
        shown: list[_Found] = []
        total = tokens = 0
        for backend in sorted(self._backends):
            components = self._all.get(backend, kind) or ComponentList()
            matches = _matches(backend, components, needle)
            first = max(request.offset - total, 0)
            room = PAGE_SIZE - len(shown)
            shown += [(backend, components, index) for index in matches[first:][:room]]
            total += len(matches)
            tokens += self._tokens(kind, backend)
            await asyncio.sleep(0)
        rows = [self._view(kind, *found) for found in shown]
        return ComponentPart(rows, total, self._counts(), tokens)

    def _counts(self) -> dict[str, int]:
        return {
            kind.member: sum(
                len(components.names)
                for backend in self._backends
                if (components := self._all.get(backend, kind)) is not None
            )
            for kind in KINDS
        }

    def _tokens(self, kind: ComponentKind, backend: str) -> int:
        """Return the estimated tokens of the components of a backend that are served."""
        components = self._catalog.get(backend, kind)
        if components is None:
            return 0
        return sum(
            tokens_of_size(len(item))
            for name, item in zip(components.names, components.items, strict=True)
            if self._catalog.owner(kind, name) == backend
        )

    def _view(
        self, kind: ComponentKind, name: str, components: ComponentList, index: int
    ) -> ComponentView:
        """Return the row of a component of the backend `name`."""
        backend, item, downstream = self._backends[name], *_at(components, index)
        names = backend.names
        upstream = names.uri_to_upstream if kind.by_uri else names.to_upstream
        displayed = upstream(downstream) or downstream
        chosen = selections(backend.settings)[kind]
        own = chosen.original_name(displayed) or displayed
        owner = self._all.owner(kind, downstream)
        served = self._catalog.get(name, kind)
        return ComponentView(
            downstream,
            own,
            name,
            _description(item)[:SUMMARY],
            count_tokens(item) if len(item) <= _LARGE else tokens_of_size(len(item)),
            overridden=own != displayed or bool(chosen.texts.get(own)),
            withheld=self._all is not self._catalog
            and (served is None or downstream not in served.names),
            hidden_by=None if owner == name else owner or "",
        )

    def define(self, request: DefinitionRequest) -> Definition:
        """Return the definition of a component as indented JSON; it is empty if there is none."""
        kind = _BY_MEMBER.get(request.kind, TOOLS)
        components = self._all.get(request.backend, kind) or ComponentList()
        for name, item in zip(components.names, components.items, strict=True):
            if name == request.name:
                return Definition(_indented(item), _description(item))
        return Definition("")


def _matches(backend: str, components: ComponentList, needle: str) -> range | list[int]:
    """Return the indexes of the components whose name, or whose backend's name, has the text."""
    if needle in backend.casefold():
        return range(len(components.names))
    return [index for index, name in enumerate(components.names) if needle in name.casefold()]


def _at(components: ComponentList, index: int) -> tuple[bytes, str]:
    return components.items[index], components.names[index]


def _description(item: bytes) -> str:
    try:
        members = jsonrpc.decode_object(item)
    except RpcError:
        return ""
    texts = (jsonrpc.decode_str(members.get(name)) for name in ("description", "title"))
    return _encodable(next((text for text in texts if text), ""))


def _indented(item: bytes) -> str:
    text = item.decode(errors="replace")
    if len(item) > SHOWN_COMPONENT.value:
        # Decoding a component of megabytes would keep calls waiting.
        SHOWN_COMPONENT.record()
        return _encodable(text)
    try:
        return _encodable(json.dumps(json.loads(text), ensure_ascii=False, indent=2))
    except (ValueError, RecursionError):
        return _encodable(text)


def _encodable(text: str) -> str:
    """Return the text without lone surrogates, which JSON permits and UTF-8 does not."""
    return text.encode(errors="replace").decode()
