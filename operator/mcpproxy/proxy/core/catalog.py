"""What the proxy shows: per backend one snapshot of each kind of component, and the merged lists.

Items are kept as ready-made bytes with outward names; a merged list is built when a snapshot
changes, never per request.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from msgspec import Raw

from mcpproxy.api.status import ComponentCounts
from mcpproxy.proxy.core.names import MAX_NAME, Names
from mcpproxy.proxy.core.selection import EVERYTHING, Selection
from mcpproxy.proxy.wire import jsonrpc
from mcpproxy.proxy.wire.headers import Path, header_properties
from mcpproxy.proxy.wire.jsonrpc import Message


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of component and the words that MCP has for it."""

    member: str
    """Member of a list result that holds the items."""
    key: str
    """Member of an item that identifies it."""
    method: str
    capability: str
    changed: str
    """Notification that the list changed."""

    @property
    def by_uri(self) -> bool:
        """Whether items are identified by URIs (or URI templates)."""
        return self.key != "name"


TOOLS: Final = Kind("tools", "name", "tools/list", "tools", "notifications/tools/list_changed")
PROMPTS: Final = Kind(
    "prompts", "name", "prompts/list", "prompts", "notifications/prompts/list_changed"
)
RESOURCES: Final = Kind(
    "resources", "uri", "resources/list", "resources", "notifications/resources/list_changed"
)
TEMPLATES: Final = Kind(
    "resourceTemplates",
    "uriTemplate",
    "resources/templates/list",
    "resources",
    "notifications/resources/list_changed",
)
KINDS: Final = (TOOLS, PROMPTS, RESOURCES, TEMPLATES)
BY_METHOD: Final[Mapping[str, Kind]] = {kind.method: kind for kind in KINDS}
BY_CHANGED: Final[Mapping[str, tuple[Kind, ...]]] = {
    TOOLS.changed: (TOOLS,),
    PROMPTS.changed: (PROMPTS,),
    RESOURCES.changed: (RESOURCES, TEMPLATES),
}


@dataclass(frozen=True, slots=True)
class Listing:
    """One kind of component of one backend, all pages."""

    items: tuple[bytes, ...] = ()
    """As clients see them."""
    names: tuple[str, ...] = ()
    """Their outward names or URIs, in the same order."""
    ttl_ms: int = 0
    """How long the backend lets it be kept; 0 when it did not say."""
    public: bool = False
    """Whether the backend lets everyone see the same."""
    fetched_at: float = 0.0
    """Monotonic time in seconds."""
    headers: Mapping[str, list[tuple[Path, str]]] = field(default_factory=dict)
    """Of tools that have any: the arguments that are repeated in HTTP headers."""

    def same_items(self, other: "Listing | None") -> bool:
        """Whether clients would see no difference."""
        return other is not None and self.items == other.items


def listing(
    kind: Kind,
    names: Names,
    pages: Iterable[Message],
    now: float,
    selection: Selection = EVERYTHING,
) -> Listing:
    """The listing that a backend's result pages make. Raises RpcError for what is no list."""
    items: list[bytes] = []
    outward: list[str] = []
    ttl: int | None = None
    public = True
    for page in pages:
        for raw in jsonrpc.items(page.get(kind.member, Raw(b"[]"))):
            item = jsonrpc.members(raw)
            own = jsonrpc.string(item.get(kind.key))
            if own is None or not selection.shows(own):
                continue
            given = selection.outward(own)
            shown = names.outward_uri(given) if kind.by_uri else names.outward(given)
            if shown != own or own in selection.texts:
                item[kind.key] = jsonrpc.dump(shown)
                raw = jsonrpc.dump(selection.applied(own, item))
            items.append(bytes(raw))
            outward.append(shown)
        page_ttl = jsonrpc.value(page.get("ttlMs"))
        ttl = min(page_ttl if isinstance(page_ttl, int) else 0, ttl if ttl is not None else 2**53)
        public = public and jsonrpc.string(page.get("cacheScope")) == "public"
    headers = _header_properties(items, outward) if kind is TOOLS else {}
    return Listing(tuple(items), tuple(outward), ttl or 0, public, now, headers)


def _header_properties(
    items: Iterable[bytes], names: Iterable[str]
) -> dict[str, list[tuple[Path, str]]]:
    found = {}
    for item, name in zip(items, names, strict=True):
        if b"x-mcp-header" in item:
            schema = jsonrpc.value(jsonrpc.members(item).get("inputSchema"))
            found[name] = list(header_properties(schema))
    return found


@dataclass(slots=True)
class Merged:
    """One kind of component of all backends."""

    body: bytes = b"[]"
    owners: dict[str, str] = field(default_factory=dict)
    """Outward name → backend."""
    clashes: list[str] = field(default_factory=list)


def merge(kind: Kind, listings: Mapping[str, Listing]) -> Merged:
    """The list that clients see: backends in the order of their names, each in its own order.

    Where two backends claim one name, the first serves it and the clash is noted.
    """
    merged = Merged()
    shown: list[bytes] = []
    for backend in sorted(listings):
        for item, name in zip(listings[backend].items, listings[backend].names, strict=True):
            if merged.owners.get(name) == backend:
                merged.clashes.append(f"{kind.member}: {name} is there twice in backend {backend}")
            owner = merged.owners.setdefault(name, backend)
            if owner != backend:
                merged.clashes.append(
                    f"{kind.member}: {name} of backend {backend} is hidden by backend {owner}"
                )
                continue
            if not kind.by_uri and len(name) > MAX_NAME:
                merged.clashes.append(
                    f"{kind.member}: {name} of backend {backend} is longer than {MAX_NAME}"
                )
            shown.append(item)
    merged.body = b"[" + b",".join(shown) + b"]"
    return merged


class Catalog:
    """The snapshots of all backends and what they merge to."""

    def __init__(self) -> None:
        self._listings: dict[Kind, dict[str, Listing]] = {kind: {} for kind in KINDS}
        self._merged: dict[Kind, Merged] = {kind: Merged() for kind in KINDS}

    def put(self, backend: str, kind: Kind, found: Listing | None) -> bool:
        """Set (or with None remove) a snapshot. Returns whether clients would see a difference."""
        before = self._listings[kind].get(backend)
        if found is None:
            if before is None:
                return False
            del self._listings[kind][backend]
        else:
            self._listings[kind][backend] = found
            if found.same_items(before):
                return False
        merged = merge(kind, self._listings[kind])
        changed = merged.body != self._merged[kind].body
        self._merged[kind] = merged
        return changed

    def get(self, backend: str, kind: Kind) -> Listing | None:
        """The snapshot of one backend; None when it is not known."""
        return self._listings[kind].get(backend)

    def header_properties(self, backend: str, tool: str) -> list[tuple[Path, str]]:
        """The arguments of a tool (outward name) that MCP wants repeated in HTTP headers."""
        found = self._listings[TOOLS].get(backend)
        return found.headers.get(tool, []) if found is not None else []

    def owner(self, kind: Kind, name: str) -> str | None:
        """The backend that serves this outward name; None when no snapshot has it."""
        return self._merged[kind].owners.get(name)

    def result(self, kind: Kind, *, modern: bool, now: float) -> bytes:
        """The list result for a client."""
        body = self._merged[kind].body
        if not modern:
            return b'{"%b":%b}' % (kind.member.encode(), body)
        ttl, public = self._cache_hint(kind, now)
        return b'{"resultType":"complete","ttlMs":%d,"cacheScope":"%b","%b":%b}' % (
            ttl,
            b"public" if public else b"private",
            kind.member.encode(),
            body,
        )

    def _cache_hint(self, kind: Kind, now: float) -> tuple[int, bool]:
        parts = self._listings[kind].values()
        left = [max(part.ttl_ms - int((now - part.fetched_at) * 1000), 0) for part in parts]
        return min(left, default=0), bool(left) and all(part.public for part in parts)

    def counts(self, backend: str) -> ComponentCounts | None:
        """How many components a backend has; a kind that is not known or not offered is absent."""
        found = {
            kind.member: len(listing.items)
            for kind in KINDS
            if (listing := self._listings[kind].get(backend)) is not None
        }
        return ComponentCounts.model_validate(found) if found else None

    def clashes(self) -> list[str]:
        """Names that two backends claim, and names too long for clients."""
        return [clash for kind in KINDS for clash in self._merged[kind].clashes]

    def digest(self) -> str:
        """SHA-256 over all that clients are shown, hexadecimal."""
        found = hashlib.sha256()
        for kind in KINDS:
            found.update(kind.member.encode() + b"\0" + self._merged[kind].body + b"\0")
        return found.hexdigest()
