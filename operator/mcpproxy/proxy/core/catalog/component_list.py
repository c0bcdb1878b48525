"""Lists of components of one backend, with downstream names, as encoded bytes."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Protocol

from msgspec import Raw

from mcpproxy.proxy.core.catalog.component_filter import EVERYTHING, ComponentFilter
from mcpproxy.proxy.core.translation.namespacing import PrefixMapping
from mcpproxy.proxy.core.translation.result_names import may_name_component, to_downstream_item
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.headers import Path, header_properties
from mcpproxy.proxy.protocol.jsonrpc import Message
from mcpproxy.proxy.protocol.kinds import TOOLS, ComponentKind

if TYPE_CHECKING:
    from mcpproxy.proxy.core.catalog.catalog import Catalog


BYTES_PER_TOKEN: Final = 4
"""Bytes of compact JSON per token; the estimate is rounded up for each component."""


@dataclass(frozen=True, slots=True)
class ComponentList:
    """All pages of one kind of component of one backend."""

    items: tuple[bytes, ...] = ()
    """Encoded components, as clients see them."""
    names: tuple[str, ...] = ()
    """Downstream names or URIs of `items`, in the same order."""
    ttl_ms: int = 0
    """Milliseconds for which the backend allows caching; 0 if it sent no `ttlMs`."""
    public: bool = False
    """True if the backend allows all clients to share the list."""
    fetched_at: float = 0.0
    """Monotonic time of the fetch, in seconds."""
    headers: Mapping[str, list[tuple[Path, str]]] = field(default_factory=dict)
    """By downstream name of a tool: the arguments that are repeated in HTTP headers."""
    repeated: tuple[str, ...] = ()
    """Names of several components of the backend, of which clients see the first."""

    def same_items(self, other: "ComponentList | None") -> bool:
        """Return True if clients see no difference between the two lists."""
        return other is not None and self.items == other.items

    def share_items(self, others: Iterable["ComponentList"]) -> "ComponentList":
        """Return an equal list that shares the memory of equal items in the other lists."""
        for other in others:
            if self.items == other.items:
                return replace(self, items=other.items, names=other.names, headers=other.headers)
        known_items = {item: item for other in others for item in other.items}
        return replace(self, items=tuple(known_items.get(item, item) for item in self.items))


def parse_component_list(
    kind: ComponentKind,
    names: PrefixMapping,
    pages: Iterable[Message],
    now: float,
    selection: ComponentFilter = EVERYTHING,
) -> ComponentList:
    """Build a component list from a backend's result pages. Raise RpcError for a malformed page.

    The first of several components with one name is used: some servers send a page twice.
    """
    by_name: dict[str, bytes] = {}
    repeated: dict[str, None] = {}
    ttl: int | None = None
    public = True
    for page in pages:
        for raw in jsonrpc.decode_array(page.get(kind.member, Raw(b"[]"))):
            item = jsonrpc.decode_object(raw)
            original = jsonrpc.decode_str(item.get(kind.key))
            if original is None or not selection.allows(original):
                continue
            name = selection.displayed_name(original)
            displayed = names.uri_to_downstream(name) if kind.by_uri else names.to_downstream(name)
            is_linked = may_name_component(bytes(raw), names)
            linked = to_downstream_item(item, names) if is_linked else None
            if displayed != original or original in selection.texts or linked is not None:
                item[kind.key] = jsonrpc.encode_raw(displayed)
                if linked is not None:
                    item["_meta"] = linked
                raw = jsonrpc.encode_raw(selection.apply_overrides(original, item))
            text = bytes(raw)
            if by_name.setdefault(displayed, text) != text:
                repeated[displayed] = None
        page_ttl = jsonrpc.decode(page.get("ttlMs"))
        ttl = min(page_ttl if isinstance(page_ttl, int) else 0, ttl if ttl is not None else 2**53)
        public = public and jsonrpc.decode_str(page.get("cacheScope")) == "public"
    items, displayed_names = tuple(by_name.values()), tuple(by_name)
    headers = _header_properties(items, displayed_names) if kind is TOOLS else {}
    return ComponentList(items, displayed_names, ttl or 0, public, now, headers, tuple(repeated))


def _header_properties(
    items: Iterable[bytes], names: Iterable[str]
) -> dict[str, list[tuple[Path, str]]]:
    properties = {}
    for item, name in zip(items, names, strict=True):
        if b"x-mcp-header" in item:
            schema = jsonrpc.decode(jsonrpc.decode_object(item).get("inputSchema"))
            properties[name] = list(header_properties(schema))
    return properties


def cache_hint(parts: Iterable[ComponentList], now: float) -> tuple[int, bool]:
    """Return the milliseconds for which a merged list may be cached, and whether clients may share
    it."""
    left = [(max(p.ttl_ms - int((now - p.fetched_at) * 1000), 0), p.public) for p in parts]
    return min((ttl for ttl, _ in left), default=0), bool(left) and all(p for _, p in left)


def count_tokens(item: bytes) -> int:
    """Return the estimated tokens of one list item: the bytes of its compact JSON / 4, rounded
    up."""
    try:
        compact = json.dumps(json.loads(item), ensure_ascii=False, separators=(",", ":"))
    except (ValueError, RecursionError):
        # Python limits the digits of an integer, JSON does not.
        return tokens_of_size(len(item))
    # JSON permits a lone surrogate, UTF-8 does not.
    return tokens_of_size(len(compact.encode(errors="surrogatepass")))


def tokens_of_size(size: int) -> int:
    """Return the estimated tokens of compact JSON with this number of bytes, rounded up."""
    return -(-size // BYTES_PER_TOKEN)


class CatalogFilter(Protocol):
    """Choice of the components that clients may use."""

    approves: bool
    """True if the filter withholds components that are not approved."""

    def visible_part(
        self, backend: str, kind: ComponentKind, components: ComponentList, *, changed: bool
    ) -> ComponentList:
        """Return the part of a list that clients see; `changed` if the list itself has changed."""

    def withholds(self, catalog: "Catalog", backend: str, kind: ComponentKind, name: str) -> bool:
        """Return True if clients must not use a component; `name` is the downstream name."""
