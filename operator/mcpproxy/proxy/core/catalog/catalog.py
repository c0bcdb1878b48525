"""Component lists of each backend and the merged lists that clients get.

Items are stored as encoded bytes with downstream names. A merged list is rebuilt when a backend's
list changes, never per request. If a backend lists other components to clients with certain
capabilities or headers, the catalog has one list for each list variant; equal bytes are shared.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from mcpproxy.api.catalog_digests import approved_hash
from mcpproxy.proxy.core.catalog.class_lists import ClassLists
from mcpproxy.proxy.core.catalog.component_list import (
    CatalogFilter,
    ComponentList,
    cache_hint,
)
from mcpproxy.proxy.core.catalog.digests import digests_of
from mcpproxy.proxy.core.catalog.list_variant import EVERYONE, ListVariant
from mcpproxy.proxy.core.catalog.merged_list import (
    MergedList,
    NameOwners,
    Precedence,
    merge_lists,
    name_owners_of,
    warn_of_name_conflicts,
)
from mcpproxy.proxy.core.reports import CountsReport
from mcpproxy.proxy.core.translation.structured_content import to_legacy_tools
from mcpproxy.proxy.protocol.headers import Path
from mcpproxy.proxy.protocol.kinds import KINDS, TEMPLATES, TOOLS, ComponentKind

_NOTHING: Final = ComponentList()


class Catalog:
    """Component lists of all backends and their merge.

    A name belongs to one backend for all clients. A backend that lists it to everyone precedes one
    that lists it only to clients with certain capabilities.
    """

    def __init__(
        self,
        precedence: Precedence | None = None,
        *,
        serves_clashes: bool = True,
        catalog_filter: CatalogFilter | None = None,
        on_offer: Callable[[], None] = lambda: None,
        warns: bool = True,
    ) -> None:
        """Create an empty catalog.

        `precedence` is the sort key of backends that list the same name; see `merge_lists`. If
        `serves_clashes` is false, no backend serves a name that several list. With a
        `catalog_filter`, `on_offer` is called when the backends' components change, even if no
        client sees the change. If `warns`, name conflicts are logged.
        """
        self.unfiltered = self
        """All components, including those that the filter withholds."""
        if catalog_filter is not None:
            self.unfiltered = Catalog(precedence, serves_clashes=serves_clashes, warns=False)
        self._filter = catalog_filter
        self._on_offer = on_offer
        self._warns = warns
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
        self._class_lists = ClassLists()
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
        if self._filter is None:
            return self._put(backend, kind, components, seen)
        before = self.unfiltered.version
        self.unfiltered.put(backend, kind, components, seen)
        changed = self.unfiltered.version != before
        if components is not None:
            components = self._filter.visible_part(backend, kind, components, changed=changed)
        is_visible = self._put(backend, kind, components, seen)
        if changed:
            self.version += 1
            self._on_offer()
        return is_visible

    @property
    def approves(self) -> bool:
        """True if the catalog withholds components that are not approved."""
        return self._filter is not None and self._filter.approves

    def apply_filter(self) -> set[ComponentKind]:
        """Apply the filter again, which has changed. Return the kinds whose lists changed."""
        self.version += 1
        changed = set()
        for backend, kind, seen, components in self.unfiltered.lists():
            if self._filter is not None:
                components = self._filter.visible_part(backend, kind, components, changed=False)
            if self._put(backend, kind, components, seen):
                changed.add(kind)
        return changed

    def _put(
        self,
        backend: str,
        kind: ComponentKind,
        components: ComponentList | None,
        seen: bytes | None,
    ) -> bool:
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
        if self._warns:
            warn_of_name_conflicts(merged.names.clashes, self._merged[kind].names.clashes)
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

    def lists(self) -> list[tuple[str, ComponentKind, bytes | None, ComponentList]]:
        """Return all lists with their backend, kind and variant key."""
        return [
            *(
                (backend, kind, None, components)
                for kind in KINDS
                for backend, components in self._listings[kind].items()
            ),
            *(
                (backend, kind, seen, components)
                for kind in KINDS
                for (backend, seen), components in self._variants[kind].items()
            ),
        ]

    def known(self, backend: str, kind: ComponentKind) -> list[ComponentList]:
        """Return all lists of one backend; the list for clients without capabilities is first."""
        everyones, of_kind = self._listings[kind].get(backend), self._variants[kind]
        variants = [components for (name, _), components in of_kind.items() if name == backend]
        return variants if everyones is None else [everyones, *variants]

    def find(self, backend: str, kind: ComponentKind, name: str) -> bytes | None:
        """Return the first form of a component by its downstream name; None if it isn't listed."""
        lists = (listed for listed in self.known(backend, kind) if name in listed.names)
        return next((listed.items[listed.names.index(name)] for listed in lists), None)

    def version_of(self, kind: ComponentKind) -> int:
        """Return a number that changes whenever the offered components of a kind change."""
        return self._versions[kind]

    def offered(self, kind: ComponentKind) -> Iterator[tuple[str, str, bytes]]:
        """Yield the backend, the downstream name and the bytes of all components that are served.

        A component that differs between list variants occurs once for each of its forms.
        """
        variants = {backend for backend, _ in self._variants[kind]}
        for backend in dict.fromkeys((*self._listings[kind], *sorted(variants))):
            for components in self.known(backend, kind):
                for name, item in zip(components.names, components.items, strict=True):
                    if self.owner(kind, name) == backend:
                        yield backend, name, item

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
        if self._merged[TOOLS].names.owners.get(tool) == backend:
            return []
        variants = (
            components.headers[tool]
            for components in self.known(backend, TOOLS)
            if tool in components.headers
        )
        return next(variants, [])

    def owner(self, kind: ComponentKind, name: str) -> str | None:
        """Return the backend that serves a downstream name, or None if no backend lists it."""
        owner = self._merged[kind].names.owners.get(name)
        return self._name_owners(kind).owners.get(name) if owner is None else owner

    def claimed_by(self, kind: ComponentKind, name: str) -> tuple[str, ...]:
        """Return the backends that list a name which nobody serves because of the conflict."""
        backends = self._merged[kind].names.contested.get(name)
        return backends or self._name_owners(kind).contested.get(name, ())

    def is_withheld(self, backend: str, kind: ComponentKind, name: str) -> bool:
        """Return True if clients must not use a component because it is not approved.

        `name` is the downstream name.
        """
        return self._filter is not None and self._filter.withholds(self, backend, kind, name)

    def _name_owners(self, kind: ComponentKind) -> NameOwners:
        known = self._owners.get(kind)
        if known is not None and known[0] == self._versions[kind]:
            return known[1]
        before = NameOwners().clashes if known is None else known[1].clashes
        owners = name_owners_of(
            kind,
            self._merged[kind].names,
            self._variants[kind],
            self._precedence,
            serves_clashes=self._serves_clashes,
        )
        if self._warns:
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
        member = kind.member.encode()
        if not modern:
            return b'{"%b":' % member, self._legacy_body(kind, audience), b"}"
        body = self._body(kind, audience)
        ttl, public = cache_hint(self._parts(kind, audience).values(), now)
        ttl = ttl if whole else 0
        # Other clients may see other lists, which no cache on the way can tell apart.
        public = public and audience.access is None
        head = b'{"resultType":"complete","ttlMs":%d,"cacheScope":"%b","%b":'
        return head % (ttl, (b"private", b"public")[public], member), body, b"}"

    def _legacy_body(self, kind: ComponentKind, audience: ListVariant) -> bytes:
        """Return a merged list without the fields that only modern clients understand."""
        if kind is not TOOLS:
            return self._body(kind, audience)
        if audience.access is not None:
            return self._class_list(
                kind, audience, "legacy", lambda: to_legacy_tools(self._body(kind, audience))
            )
        body = self._body(kind, audience)
        legacy = self._legacy_bodies.get(body)
        if legacy is None:
            legacy = self._legacy_bodies[body] = to_legacy_tools(body)
        return legacy

    def _class_list(
        self, kind: ComponentKind, audience: ListVariant, era: str, build: Callable[[], bytes]
    ) -> bytes:
        key = kind, era, audience.access, frozenset(audience.seen.items())
        # Resources may be shown because of templates.
        version = self._versions[kind], self._versions[TEMPLATES]
        return self._class_lists.get(key, version, build)

    def _parts(self, kind: ComponentKind, audience: ListVariant) -> Mapping[str, ComponentList]:
        everyones, variants = self._listings[kind], self._variants[kind]
        if not audience.seen or not variants:
            return everyones
        keys = audience.seen.items()
        return {**everyones, **{key[0]: variants[key] for key in keys if key in variants}}

    def _body(self, kind: ComponentKind, audience: ListVariant) -> bytes:
        if audience.access is not None:
            return self._class_list(kind, audience, "", lambda: self._merge(kind, audience))
        if not audience.seen or not self._variants[kind]:
            return self._merged[kind].body
        version, body = audience.bodies.get(kind, (-1, b""))
        if version != self._versions[kind]:
            body, everyones = self._merge(kind, audience), self._merged[kind].body
            body = everyones if body == everyones else self._bodies[kind].setdefault(body, body)
            audience.bodies[kind] = self._versions[kind], body
        return body

    def _merge(self, kind: ComponentKind, audience: ListVariant) -> bytes:
        """Return the merged list of these clients, built from the lists of the backends."""
        parts, access = self._parts(kind, audience), audience.access
        items = [
            item
            for backend in sorted(parts, key=self._precedence)
            for item, name in zip(parts[backend].items, parts[backend].names, strict=True)
            if self.owner(kind, name) == backend
            and (access is None or access.shows(kind, backend, name))
        ]
        return b"[" + b",".join(items) + b"]"

    def counts(self, backend: str) -> CountsReport | None:
        """Return the number of components of a backend; unknown or unsupported kinds are absent.

        Only the list for clients without declared capabilities is counted.
        """
        lists = {kind: self._listings[kind].get(backend) for kind in KINDS}
        numbers = {
            kind.member: len(components.items)
            for kind, components in lists.items()
            if components is not None
        }
        return CountsReport.of(numbers) if numbers else None

    def clashes(self) -> list[str]:
        """Return a message for each name conflict and for each name that is too long."""
        return [
            clash
            for kind in KINDS
            for clash in (*self._merged[kind].names.clashes, *self._name_owners(kind).clashes)
        ]

    def digest(self) -> str:
        """Return the hexadecimal SHA-256 over all components of clients without capabilities."""
        return approved_hash(self.digests())

    def digests(self) -> dict[str, dict[str, str]]:
        """Return component digests by `ComponentKind.member` and downstream name or URI.

        They include components that are withheld because they are not approved.
        """
        if self.approves:
            return self.unfiltered.digests()
        for kind, version in self._versions.items():
            if self._digests.get(kind, (-1, {}))[0] != version:
                digests = digests_of(self._listings[kind], self._merged[kind].names.owners)
                self._digests[kind] = version, digests
        return {kind.member: digests for kind, (_, digests) in self._digests.items()}
