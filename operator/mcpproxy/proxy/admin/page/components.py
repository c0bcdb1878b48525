"""The list of components on the page: only the shown part is decoded, whatever the list's length.

The work is divided into steps, one for each backend, so that calls are relayed in between.
"""

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Final

from mcpproxy.limits.audit import SHOWN_COMPONENT
from mcpproxy.proxy.admin.page.data import (
    MAX_FILTER,
    MAX_NAME,
    PAGE_SIZE,
    ComponentPart,
    ComponentsRequest,
    ComponentView,
    Definition,
    DefinitionRequest,
)
from mcpproxy.proxy.core.catalog.catalog import Catalog
from mcpproxy.proxy.core.catalog.component_filter import ComponentFilter
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
TOO_LARGE: Final = "This component is too large to be described here."
_LARGE: Final = 8 * 1024
"""Bytes of a component from which its tokens are estimated without decoding it."""
_DEEPEST: Final = 32
"""Depth of JSON up to which it is indented; the indentation of deeper JSON may need much space."""
_BY_MEMBER: Final = {kind.member: kind for kind in KINDS}
_Listed = tuple[str, ComponentList, int]
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
        shown: list[_Listed] = []
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
        filters = {name: selections(self._backends[name].settings)[kind] for name, _, _ in shown}
        rows = [self._view(kind, filters[component[0]], *component) for component in shown]
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
        self,
        kind: ComponentKind,
        chosen: ComponentFilter,
        name: str,
        components: ComponentList,
        index: int,
    ) -> ComponentView:
        """Return the row of a component of the backend `name`; `chosen` is the backend's filter."""
        backend, item, downstream = self._backends[name], *_at(components, index)
        names = backend.names
        upstream = names.uri_to_upstream if kind.by_uri else names.to_upstream
        displayed = upstream(downstream) or downstream
        own = chosen.original_name(displayed) or displayed
        owner = self._all.owner(kind, downstream)
        served = self._catalog.get(name, kind)
        return ComponentView(
            downstream[: MAX_NAME + 1],
            own[: MAX_NAME + 1],
            name,
            _description(item)[:SUMMARY] if len(item) <= SHOWN_COMPONENT.value else TOO_LARGE,
            count_tokens(item) if len(item) <= _LARGE else tokens_of_size(len(item)),
            overridden=own != displayed or bool(chosen.texts.get(own)),
            withheld=self._all is not self._catalog
            and (served is None or downstream not in served.names),
            hidden_by=None if owner == name else owner or "",
        )

    def define(self, request: DefinitionRequest) -> Definition:
        """Return the definition of a component as JSON; it is empty if there is none."""
        kind = _BY_MEMBER.get(request.kind, TOOLS)
        components = self._all.get(request.backend, kind) or ComponentList()
        for name, item in zip(components.names, components.items, strict=True):
            if name == request.name:
                text, description = _definition(item), _description(item)
                limit = SHOWN_COMPONENT.value
                return Definition(text[:limit], description[:limit], len(text), len(description))
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


def _definition(item: bytes) -> str:
    """Return a component as indented JSON, or as it is if that would take too long or too much."""
    text = item.decode(errors="replace")
    if len(item) > SHOWN_COMPONENT.value:
        SHOWN_COMPONENT.record()
        return text
    try:
        value = json.loads(text)
        indent = 2 if _is_flat(value, _DEEPEST) else None
        return _encodable(json.dumps(value, ensure_ascii=False, indent=indent))
    except (ValueError, RecursionError):
        return text


def _is_flat(value: Any, depth: int) -> bool:
    """Return True if arrays and objects are nested no deeper than `depth`."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return depth > 0 and all(_is_flat(item, depth - 1) for item in inner)


def _encodable(text: str) -> str:
    """Return the text without lone surrogates, which JSON permits and UTF-8 does not."""
    return text.encode(errors="replace").decode()
