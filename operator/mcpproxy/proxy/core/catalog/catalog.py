"""What the proxy shows: per backend one snapshot of each kind of component, and the merged lists.

Items are kept as ready-made bytes with outward names; a merged list is built when a snapshot
changes, never per request. Where a backend lists other components to clients that declare more, or
have headers for it, it has a snapshot for each kind of client; what is equal is kept once.
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
    repeated: tuple[str, ...] = ()
    """Names that the backend lists again for something else; the first one is shown."""

    def same_items(self, other: "ComponentList | None") -> bool:
        """Whether clients would see no difference."""
        return other is not None and self.items == other.items

    def sharing(self, others: Iterable["ComponentList"]) -> "ComponentList":
        """The same listing, in the memory of those among the others that are equal to it."""
        for other in others:
            if self.items == other.items:
                return replace(self, items=other.items, names=other.names, headers=other.headers)
        known = {item: item for other in others for item in other.items}
        return replace(self, items=tuple(known.get(item, item) for item in self.items))


def parse_component_list(
    kind: ComponentKind,
    names: PrefixMapping,
    pages: Iterable[Message],
    now: float,
    selection: ComponentFilter = EVERYTHING,
) -> ComponentList:
    """The listing that a backend's result pages make. Raises RpcError for what is no list.

    Of components of one name the first is shown: some servers send a page twice.
    """
    found: dict[str, bytes] = {}
    repeated: dict[str, None] = {}
    ttl: int | None = None
    public = True
    for page in pages:
        for raw in jsonrpc.decode_array(page.get(kind.member, Raw(b"[]"))):
            item = jsonrpc.decode_object(raw)
            own = jsonrpc.decode_str(item.get(kind.key))
            if own is None or not selection.shows(own):
                continue
            given = selection.outward(own)
            shown = names.outward_uri(given) if kind.by_uri else names.outward(given)
            linked = to_downstream_item(item, names) if may_name_component(bytes(raw)) else None
            if shown != own or own in selection.texts or linked is not None:
                item[kind.key] = jsonrpc.encode_raw(shown)
                if linked is not None:
                    item["_meta"] = linked
                raw = jsonrpc.encode_raw(selection.applied(own, item))
            text = bytes(raw)
            if found.setdefault(shown, text) != text:
                repeated[shown] = None
        page_ttl = jsonrpc.decode(page.get("ttlMs"))
        ttl = min(page_ttl if isinstance(page_ttl, int) else 0, ttl if ttl is not None else 2**53)
        public = public and jsonrpc.decode_str(page.get("cacheScope")) == "public"
    items, outward = tuple(found.values()), tuple(found)
    headers = _header_properties(items, outward) if kind is TOOLS else {}
    return ComponentList(items, outward, ttl or 0, public, now, headers, tuple(repeated))


def _header_properties(
    items: Iterable[bytes], names: Iterable[str]
) -> dict[str, list[tuple[Path, str]]]:
    found = {}
    for item, name in zip(items, names, strict=True):
        if b"x-mcp-header" in item:
            schema = jsonrpc.decode(jsonrpc.decode_object(item).get("inputSchema"))
            found[name] = list(header_properties(schema))
    return found


_NOTHING: Final = ComponentList()


@dataclass(eq=False, slots=True)
class ListVariant:
    """Clients that are shown the same lists."""

    seen: Mapping[str, bytes] = field(default_factory=dict)
    """Backend → what it sees of them; without those that see no more than of a client that
    declares nothing."""
    bodies: dict[ComponentKind, tuple[int, bytes]] = field(default_factory=dict)
    """The merged lists, and the version of the catalog they were built from."""


EVERYONE: Final = ListVariant()
"""Clients that declare nothing, and all to whom no backend lists anything else."""


class Catalog:
    """The snapshots of all backends and what they merge to.

    A name belongs to one backend, whoever asks: one that lists it to everyone comes before one
    that lists it only to clients with certain capabilities.
    """

    approves = False
    """Whether it withholds what nobody approved."""

    def __init__(
        self, precedence: Precedence | None = None, *, serves_clashes: bool = True
    ) -> None:
        """`precedence` is the order of backends that have a component of one name; see `merge`.

        Unless it `serves_clashes`, no backend serves a name that several list.
        """
        self.version = 0
        """Another one whenever something else is offered, or by somebody else."""
        self._precedence = precedence
        self._serves_clashes = serves_clashes
        self._listings: dict[ComponentKind, dict[str, ComponentList]] = {kind: {} for kind in KINDS}
        self._merged: dict[ComponentKind, MergedList] = {kind: MergedList() for kind in KINDS}
        self._tailored: dict[ComponentKind, dict[tuple[str, bytes], ComponentList]] = {
            kind: {} for kind in KINDS
        }
        """Snapshots for clients that declare more, by backend and what it sees of them."""
        self._versions: dict[ComponentKind, int] = dict.fromkeys(KINDS, 0)
        self._digested: dict[ComponentKind, tuple[int, dict[str, str]]] = {}
        self._claims: dict[ComponentKind, tuple[int, NameOwners]] = {}
        self._bodies: dict[ComponentKind, dict[bytes, bytes]] = {kind: {} for kind in KINDS}
        self._legacy_bodies: dict[bytes, bytes] = {}
        """Merged lists of tools → the same for legacy clients."""

    def put(
        self,
        backend: str,
        kind: ComponentKind,
        found: ComponentList | None,
        seen: bytes | None = None,
    ) -> bool:
        """Set (or with None remove) a snapshot. Returns whether clients would see a difference.

        `seen` is what the backend sees of the clients it is for; None: of those that declare
        nothing.
        """
        if seen is not None:
            return self._put_tailored(backend, kind, found, seen)
        before = self._listings[kind].get(backend)
        if found is None:
            if before is None:
                return False
            del self._listings[kind][backend]
        else:
            same = found.same_items(before)
            self._listings[kind][backend] = found.sharing([before]) if before else found
            if same:
                return False
        merged = merge_lists(
            kind, self._listings[kind], self._precedence, serves_clashes=self._serves_clashes
        )
        changed = merged.body != self._merged[kind].body
        warn_of_name_conflicts(merged.clashes, self._merged[kind].clashes)
        self._merged[kind] = merged
        self._outdate(kind)
        return changed

    def _put_tailored(
        self, backend: str, kind: ComponentKind, found: ComponentList | None, seen: bytes
    ) -> bool:
        everyones = self._listings[kind].get(backend, _NOTHING)
        tailored = self._tailored[kind]
        before = tailored.get((backend, seen))
        if found is not None:
            found = tailored[backend, seen] = found.sharing(self.known(backend, kind))
        elif before is not None:
            del tailored[backend, seen]
        changed = not (found or everyones).same_items(before or everyones)
        if changed:
            self._outdate(kind)
        return changed

    def _outdate(self, kind: ComponentKind) -> None:
        self.version += 1
        self._versions[kind] += 1
        self._bodies[kind].clear()
        if kind is TOOLS:
            self._legacy_bodies.clear()

    def get(
        self, backend: str, kind: ComponentKind, seen: bytes | None = None
    ) -> ComponentList | None:
        """The snapshot of one backend for one kind of clients; None when it is not known.

        See `put` for `seen`.
        """
        if seen is not None:
            return self._tailored[kind].get((backend, seen))
        return self._listings[kind].get(backend)

    def known(self, backend: str, kind: ComponentKind) -> list[ComponentList]:
        """All snapshots of one backend, the one for clients that declare nothing first."""
        found = self._listings[kind].get(backend)
        tailored = [one for (name, _), one in self._tailored[kind].items() if name == backend]
        return tailored if found is None else [found, *tailored]

    def names(self, backend: str, kind: ComponentKind) -> Iterator[str]:
        """Outward names of all components that one backend lists, to whomever."""
        return (name for listed in self.known(backend, kind) for name in listed.names)

    def header_properties(self, backend: str, tool: str) -> list[tuple[Path, str]]:
        """The arguments of a tool (outward name) that MCP wants repeated in HTTP headers.

        The tool as it is listed to everyone counts, where it is.
        """
        found = self._listings[TOOLS].get(backend)
        if found is not None and tool in found.headers:
            return found.headers[tool]
        if self._merged[TOOLS].owners.get(tool) == backend:
            return []
        tailored = (one.headers[tool] for one in self.known(backend, TOOLS) if tool in one.headers)
        return next(tailored, [])

    def owner(self, kind: ComponentKind, name: str) -> str | None:
        """The backend that serves this outward name; None when no snapshot has it."""
        found = self._merged[kind].owners.get(name)
        return self._claimed(kind).owners.get(name) if found is None else found

    def claimed_by(self, kind: ComponentKind, name: str) -> tuple[str, ...]:
        """The backends of a name that none of them serves, as several list it."""
        found = self._merged[kind].contested.get(name)
        return found or self._claimed(kind).contested.get(name, ())

    def withholds(self, backend: str, kind: ComponentKind, name: str) -> bool:
        """Whether a component (outward name) may not be used, since nobody approved it."""
        return False

    def _claimed(self, kind: ComponentKind) -> NameOwners:
        version, claims = self._claims.get(kind, (-1, NameOwners()))
        if version != self._versions[kind]:
            before = claims.clashes
            claims = name_owners_of(
                kind,
                self._merged[kind],
                self._tailored[kind],
                self._precedence,
                serves_clashes=self._serves_clashes,
            )
            warn_of_name_conflicts(claims.clashes, before)
            self._claims[kind] = self._versions[kind], claims
        return claims

    def result(self, kind: ComponentKind, *, modern: bool, now: float) -> bytes:
        """The list result for a client that declares nothing."""
        return b"".join(self.result_parts(kind, modern=modern, now=now))

    def result_parts(
        self,
        kind: ComponentKind,
        *,
        modern: bool,
        now: float,
        audience: ListVariant = EVERYONE,
        whole: bool = True,
    ) -> tuple[bytes, bytes, bytes]:
        """The same in parts: the second one is long, and the same object for many.

        What is not `whole`, since a backend has failed, is not to be kept by clients.
        """
        member, body = kind.member.encode(), self._body(kind, audience)
        if not modern:
            return b'{"%b":' % member, self._legacy_body(kind, body), b"}"
        ttl, public = self._cache_hint(self._parts(kind, audience).values(), now)
        ttl = ttl if whole else 0
        head = b'{"resultType":"complete","ttlMs":%d,"cacheScope":"%b","%b":'
        return head % (ttl, (b"private", b"public")[public], member), body, b"}"

    def _legacy_body(self, kind: ComponentKind, body: bytes) -> bytes:
        """A merged list without what only modern clients understand."""
        if kind is not TOOLS:
            return body
        found = self._legacy_bodies.get(body)
        if found is None:
            found = self._legacy_bodies[body] = to_legacy_tools(body)
        return found

    def _parts(self, kind: ComponentKind, audience: ListVariant) -> Mapping[str, ComponentList]:
        everyones, tailored = self._listings[kind], self._tailored[kind]
        if not audience.seen or not tailored:
            return everyones
        keys = audience.seen.items()
        return {**everyones, **{key[0]: tailored[key] for key in keys if key in tailored}}

    def _body(self, kind: ComponentKind, audience: ListVariant) -> bytes:
        if not audience.seen or not self._tailored[kind]:
            return self._merged[kind].body
        version, body = audience.bodies.get(kind, (-1, b""))
        if version != self._versions[kind]:
            parts = self._parts(kind, audience)
            shown = [
                item
                for backend in sorted(parts, key=self._precedence)
                for item, name in zip(parts[backend].items, parts[backend].names, strict=True)
                if self.owner(kind, name) == backend
            ]
            body = b"[" + b",".join(shown) + b"]"
            everyones = self._merged[kind].body
            body = everyones if body == everyones else self._bodies[kind].setdefault(body, body)
            audience.bodies[kind] = self._versions[kind], body
        return body

    @staticmethod
    def _cache_hint(parts: Iterable[ComponentList], now: float) -> tuple[int, bool]:
        left = [(max(p.ttl_ms - int((now - p.fetched_at) * 1000), 0), p.public) for p in parts]
        return min((ttl for ttl, _ in left), default=0), bool(left) and all(p for _, p in left)

    def counts(self, backend: str) -> ComponentCounts | None:
        """How many components a backend has; a kind that is not known or not offered is absent.

        What it lists to clients that declare nothing counts.
        """
        known = {kind: self._listings[kind].get(backend) for kind in KINDS}
        found = {kind.member: len(one.items) for kind, one in known.items() if one is not None}
        return ComponentCounts.model_validate(found) if found else None

    def clashes(self) -> list[str]:
        """Names that two backends claim, and names too long for clients."""
        return [
            clash
            for kind in KINDS
            for clash in (*self._merged[kind].clashes, *self._claimed(kind).clashes)
        ]

    def digest(self) -> str:
        """SHA-256 over all that is offered to clients which declare nothing, hexadecimal."""
        return approved_hash(self.digests())

    def digests(self) -> dict[str, dict[str, str]]:
        """Of each component of those, by kind (`Kind.member`), then by outward name or URI."""
        for kind, version in self._versions.items():
            if self._digested.get(kind, (-1, {}))[0] != version:
                found = digests_of(self._listings[kind], self._merged[kind].owners)
                self._digested[kind] = version, found
        return {kind.member: found for kind, (_, found) in self._digested.items()}
