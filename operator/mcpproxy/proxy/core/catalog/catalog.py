"""Component lists of each backend and the merged lists that clients get.

Items are stored as encoded bytes with downstream names. A merged list is rebuilt when a backend's
list changes, never per request. If a backend lists other components to clients with certain
capabilities or headers, the catalog has one list for each list variant; equal bytes are shared.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from msgspec import Raw

from mcpproxy.api.v1alpha1.catalog import approved_hash
from mcpproxy.api.v1alpha1.status import ComponentCounts
from mcpproxy.proxy.core.catalog.component_filter import EVERYTHING, ComponentFilter
from mcpproxy.proxy.core.catalog.digests import digests_of
from mcpproxy.proxy.core.catalog.merged_list import (
    MergedList,
    NameOwners,
    Precedence,
    merge_lists,
    name_owners_of,
    warn_of_name_conflicts,
)
from mcpproxy.proxy.core.translation.namespacing import PrefixMapping
from mcpproxy.proxy.core.translation.result_names import may_name_component, to_downstream_item
from mcpproxy.proxy.core.translation.structured_content import to_legacy_tools
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.headers import Path, header_properties
from mcpproxy.proxy.protocol.jsonrpc import Message
from mcpproxy.proxy.protocol.kinds import KINDS, TOOLS, ComponentKind


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
            linked = to_downstream_item(item, names) if may_name_component(bytes(raw)) else None
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


_NOTHING: Final = ComponentList()


@dataclass(eq=False, slots=True)
class ListVariant:
    """Clients that get the same lists."""

    seen: Mapping[str, bytes] = field(default_factory=dict)
    """Backend → variant key of its list.

    A backend is absent if it lists the same to these clients as to those without capabilities.
    """
    bodies: dict[ComponentKind, tuple[int, bytes]] = field(default_factory=dict)
    """Merged list by kind, with the version of the catalog that it was built from."""


EVERYONE: Final = ListVariant()
"""List variant of clients without declared capabilities."""


class Catalog:
    """Component lists of all backends and their merge.

    A name belongs to one backend for all clients. A backend that lists it to everyone precedes one
    that lists it only to clients with certain capabilities.
    """

    approves = False
    """True if the catalog withholds components that are not approved."""

    def __init__(
        self, precedence: Precedence | None = None, *, serves_clashes: bool = True
    ) -> None:
        """Create an empty catalog.

        `precedence` is the sort key of backends that list the same name; see `merge_lists`. If
        `serves_clashes` is false, no backend serves a name that several list.
        """
        self.version = 0
        """Number that changes whenever the offered components or their owners change."""
        self._precedence = precedence
        self._serves_clashes = serves_clashes
        self._listings: dict[ComponentKind, dict[str, ComponentList]] = {kind: {} for kind in KINDS}
        self._merged: dict[ComponentKind, MergedList] = {kind: MergedList() for kind in KINDS}
        self._variants: dict[ComponentKind, dict[tuple[str, bytes], ComponentList]] = {
            kind: {} for kind in KINDS
        }
        """Lists of list variants, by backend and variant key."""
        self._versions: dict[ComponentKind, int] = dict.fromkeys(KINDS, 0)
        self._digests: dict[ComponentKind, tuple[int, dict[str, str]]] = {}
        self._owners: dict[ComponentKind, tuple[int, NameOwners]] = {}
        self._bodies: dict[ComponentKind, dict[bytes, bytes]] = {kind: {} for kind in KINDS}
        self._legacy_bodies: dict[bytes, bytes] = {}
        """Merged list of tools → its equivalent for legacy clients."""

    def put(
        self,
        backend: str,
        kind: ComponentKind,
        components: ComponentList | None,
        seen: bytes | None = None,
    ) -> bool:
        """Set a list, or remove it if it is None. Return True if clients would see a difference.

        `seen` is the variant key; None means clients without declared capabilities.
        """
        if seen is not None:
            return self._put_variant(backend, kind, components, seen)
        before = self._listings[kind].get(backend)
        if components is None:
            if before is None:
                return False
            del self._listings[kind][backend]
        else:
            same = components.same_items(before)
            self._listings[kind][backend] = (
                components.share_items([before]) if before else components
            )
            if same:
                return False
        merged = merge_lists(
            kind, self._listings[kind], self._precedence, serves_clashes=self._serves_clashes
        )
        changed = merged.body != self._merged[kind].body
        warn_of_name_conflicts(merged.clashes, self._merged[kind].clashes)
        self._merged[kind] = merged
        self._invalidate(kind)
        return changed

    def _put_variant(
        self, backend: str, kind: ComponentKind, components: ComponentList | None, seen: bytes
    ) -> bool:
        everyones = self._listings[kind].get(backend, _NOTHING)
        variants = self._variants[kind]
        before = variants.get((backend, seen))
        if components is not None:
            components = variants[backend, seen] = components.share_items(self.known(backend, kind))
        elif before is not None:
            del variants[backend, seen]
        changed = not (components or everyones).same_items(before or everyones)
        if changed:
            self._invalidate(kind)
        return changed

    def _invalidate(self, kind: ComponentKind) -> None:
        self.version += 1
        self._versions[kind] += 1
        self._bodies[kind].clear()
        if kind is TOOLS:
            self._legacy_bodies.clear()

    def get(
        self, backend: str, kind: ComponentKind, seen: bytes | None = None
    ) -> ComponentList | None:
        """Return the list of one backend for the variant `seen`, or None if it is unknown."""
        if seen is not None:
            return self._variants[kind].get((backend, seen))
        return self._listings[kind].get(backend)

    def known(self, backend: str, kind: ComponentKind) -> list[ComponentList]:
        """Return all lists of one backend; the list for clients without capabilities is first."""
        everyones = self._listings[kind].get(backend)
        variants = [
            components for (name, _), components in self._variants[kind].items() if name == backend
        ]
        return variants if everyones is None else [everyones, *variants]

    def names(self, backend: str, kind: ComponentKind) -> Iterator[str]:
        """Return the downstream names in all lists of one backend."""
        return (name for components in self.known(backend, kind) for name in components.names)

    def header_properties(self, backend: str, tool: str) -> list[tuple[Path, str]]:
        """Return the arguments of a tool (downstream name) that MCP repeats in HTTP headers.

        The list for everyone takes precedence over list variants.
        """
        everyones = self._listings[TOOLS].get(backend)
        if everyones is not None and tool in everyones.headers:
            return everyones.headers[tool]
        if self._merged[TOOLS].owners.get(tool) == backend:
            return []
        variants = (
            components.headers[tool]
            for components in self.known(backend, TOOLS)
            if tool in components.headers
        )
        return next(variants, [])

    def owner(self, kind: ComponentKind, name: str) -> str | None:
        """Return the backend that serves a downstream name, or None if no backend lists it."""
        owner = self._merged[kind].owners.get(name)
        return self._name_owners(kind).owners.get(name) if owner is None else owner

    def claimed_by(self, kind: ComponentKind, name: str) -> tuple[str, ...]:
        """Return the backends that list a name which nobody serves because of the conflict."""
        backends = self._merged[kind].contested.get(name)
        return backends or self._name_owners(kind).contested.get(name, ())

    def is_withheld(self, backend: str, kind: ComponentKind, name: str) -> bool:
        """Return True if clients must not use a component because it is not approved.

        `name` is the downstream name.
        """
        return False

    def _name_owners(self, kind: ComponentKind) -> NameOwners:
        version, owners = self._owners.get(kind, (-1, NameOwners()))
        if version != self._versions[kind]:
            before = owners.clashes
            owners = name_owners_of(
                kind,
                self._merged[kind],
                self._variants[kind],
                self._precedence,
                serves_clashes=self._serves_clashes,
            )
            warn_of_name_conflicts(owners.clashes, before)
            self._owners[kind] = self._versions[kind], owners
        return owners

    def result(self, kind: ComponentKind, *, modern: bool, now: float) -> bytes:
        """Return the encoded list result for a client without declared capabilities."""
        return b"".join(self.list_result_parts(kind, modern=modern, now=now))

    def list_result_parts(
        self,
        kind: ComponentKind,
        *,
        modern: bool,
        now: float,
        audience: ListVariant = EVERYONE,
        whole: bool = True,
    ) -> tuple[bytes, bytes, bytes]:
        """Return the encoded list result in three parts; variants share the second, large part.

        If `whole` is false, a backend has failed, and clients must not cache the result.
        """
        member, body = kind.member.encode(), self._body(kind, audience)
        if not modern:
            return b'{"%b":' % member, self._legacy_body(kind, body), b"}"
        ttl, public = self._cache_hint(self._parts(kind, audience).values(), now)
        ttl = ttl if whole else 0
        head = b'{"resultType":"complete","ttlMs":%d,"cacheScope":"%b","%b":'
        return head % (ttl, (b"private", b"public")[public], member), body, b"}"

    def _legacy_body(self, kind: ComponentKind, body: bytes) -> bytes:
        """Return a merged list without the fields that only modern clients understand."""
        if kind is not TOOLS:
            return body
        legacy = self._legacy_bodies.get(body)
        if legacy is None:
            legacy = self._legacy_bodies[body] = to_legacy_tools(body)
        return legacy

    def _parts(self, kind: ComponentKind, audience: ListVariant) -> Mapping[str, ComponentList]:
        everyones, variants = self._listings[kind], self._variants[kind]
        if not audience.seen or not variants:
            return everyones
        keys = audience.seen.items()
        return {**everyones, **{key[0]: variants[key] for key in keys if key in variants}}

    def _body(self, kind: ComponentKind, audience: ListVariant) -> bytes:
        if not audience.seen or not self._variants[kind]:
            return self._merged[kind].body
        version, body = audience.bodies.get(kind, (-1, b""))
        if version != self._versions[kind]:
            parts = self._parts(kind, audience)
            items = [
                item
                for backend in sorted(parts, key=self._precedence)
                for item, name in zip(parts[backend].items, parts[backend].names, strict=True)
                if self.owner(kind, name) == backend
            ]
            body = b"[" + b",".join(items) + b"]"
            everyones = self._merged[kind].body
            body = everyones if body == everyones else self._bodies[kind].setdefault(body, body)
            audience.bodies[kind] = self._versions[kind], body
        return body

    @staticmethod
    def _cache_hint(parts: Iterable[ComponentList], now: float) -> tuple[int, bool]:
        left = [(max(p.ttl_ms - int((now - p.fetched_at) * 1000), 0), p.public) for p in parts]
        return min((ttl for ttl, _ in left), default=0), bool(left) and all(p for _, p in left)

    def counts(self, backend: str) -> ComponentCounts | None:
        """Return the number of components of a backend; unknown or unsupported kinds are absent.

        Only the list for clients without declared capabilities is counted.
        """
        lists = {kind: self._listings[kind].get(backend) for kind in KINDS}
        numbers = {
            kind.member: len(components.items)
            for kind, components in lists.items()
            if components is not None
        }
        return ComponentCounts.model_validate(numbers) if numbers else None

    def clashes(self) -> list[str]:
        """Return a message for each name conflict and for each name that is too long."""
        return [
            clash
            for kind in KINDS
            for clash in (*self._merged[kind].clashes, *self._name_owners(kind).clashes)
        ]

    def digest(self) -> str:
        """Return the hexadecimal SHA-256 over all components of clients without capabilities."""
        return approved_hash(self.digests())

    def digests(self) -> dict[str, dict[str, str]]:
        """Return component digests by `ComponentKind.member` and downstream name or URI."""
        for kind, version in self._versions.items():
            if self._digests.get(kind, (-1, {}))[0] != version:
                digests = digests_of(self._listings[kind], self._merged[kind].owners)
                self._digests[kind] = version, digests
        return {kind.member: digests for kind, (_, digests) in self._digests.items()}
