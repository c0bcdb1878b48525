"""Merge of the lists of several backends, and the name conflicts between them.

On a name conflict, either the first backend or none serves the name; see `names.onClash`.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from mcpproxy.api.catalog_digests import NAMED
from mcpproxy.api.untrusted_text import clean_text
from mcpproxy.proxy.core.translation.namespacing import MAX_NAME
from mcpproxy.proxy.protocol.kinds import ComponentKind

log = logging.getLogger("mcpproxy.catalog")

Precedence = Callable[[str], Any]
"""Sort key of a backend, by its name. On a name conflict the backend with the lower key serves."""
_MAX_LOGGED: Final = 300
"""Maximum number of characters of a name conflict in the log."""


class ListedComponent(Protocol):
    """Components of one kind of one backend; see `ComponentList`."""

    @property
    def items(self) -> tuple[bytes, ...]:
        """Encoded components, as clients see them."""

    @property
    def names(self) -> tuple[str, ...]:
        """Downstream names or URIs of `items`, in the same order."""

    @property
    def repeated(self) -> tuple[str, ...]:
        """Names that the backend lists more than once for different components."""


@dataclass(slots=True)
class NameOwners:
    """Owners of the names of one kind of component."""

    owners: dict[str, str] = field(default_factory=dict)
    """Downstream name → the backend that serves it."""
    contested: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Downstream name that no backend serves → the backends that list it."""
    clashes: list[str] = field(default_factory=list)
    """Messages about name conflicts and names that are too long."""


@dataclass(slots=True)
class MergedList:
    """Components of one kind of all backends."""

    names: NameOwners = field(default_factory=NameOwners)
    body: bytes = b"[]"


def _hidden(kind: ComponentKind, name: str, backend: str, owner: str) -> str:
    return f"{kind.member}: {name} of backend {backend} is hidden by backend {owner}"


def _unserved(kind: ComponentKind, name: str, backends: Collection[str]) -> str:
    return (
        f"{kind.member}: {name} is offered by the backends {', '.join(backends)} and served by"
        " none of them"
    )


def _too_long(kind: ComponentKind, name: str, backend: str) -> str:
    return f"{kind.member}: {name} of backend {backend} has more than {MAX_NAME} characters"


def merge_lists(
    kind: ComponentKind,
    listings: Mapping[str, ListedComponent],
    precedence: Precedence | None = None,
    *,
    serves_clashes: bool = True,
) -> MergedList:
    """Merge lists in the order of precedence; each backend keeps its own order.

    On a name conflict, the first backend or none serves the name, and the conflict is recorded.
    Without a precedence, backends are sorted by name.
    """
    items: list[bytes] = []
    order = sorted(listings, key=precedence)
    contested = {}
    if not serves_clashes:
        contested = _contested((name, b) for b in order for name in listings[b].names)
    clashes = [_unserved(kind, *entry) for entry in contested.items()]
    merged = NameOwners({}, contested, clashes)
    for backend in order:
        for name in listings[backend].repeated:
            merged.clashes.append(f"{kind.member}: {name} appears twice in backend {backend}")
        for item, name in zip(listings[backend].items, listings[backend].names, strict=True):
            if name in merged.contested:
                continue
            owner = merged.owners.setdefault(name, backend)
            if owner != backend:
                merged.clashes.append(_hidden(kind, name, backend, owner))
                continue
            if not kind.by_uri and len(name) > MAX_NAME:
                merged.clashes.append(_too_long(kind, name, backend))
            items.append(item)
    return MergedList(merged, b"[" + b",".join(items) + b"]")


def _contested(claims: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    """Return the names that several backends list, with those backends."""
    by_name: dict[str, dict[str, None]] = {}
    for name, backend in claims:
        by_name.setdefault(name, {})[backend] = None
    return {name: tuple(backends) for name, backends in by_name.items() if len(backends) > 1}


def name_owners_of(
    kind: ComponentKind,
    everyones: NameOwners,
    variants: Mapping[tuple[str, bytes], ListedComponent],
    precedence: Precedence | None = None,
    *,
    serves_clashes: bool = True,
) -> NameOwners:
    """Return the owners of the names that occur only in list variants.

    A name that a backend lists to everyone stays with that backend.
    """
    contested: dict[str, tuple[str, ...]] = {}
    rank = precedence or (lambda backend: backend)
    order = sorted(variants, key=lambda view: (rank(view[0]), view))
    everyones_names = everyones.owners.keys() | everyones.contested.keys()
    if not serves_clashes:
        own = (
            (n, view[0]) for view in order for n in variants[view].names if n not in everyones_names
        )
        contested = _contested(own)
    clashes = dict.fromkeys(_unserved(kind, *entry) for entry in contested.items())
    owners: dict[str, str] = {}
    for backend, variant in order:
        for name in variants[backend, variant].names:
            if name in everyones.contested or name in contested:
                continue
            owner = everyones.owners.get(name) or owners.setdefault(name, backend)
            if owner != backend:
                clashes[_hidden(kind, name, backend, owner)] = None
            elif not kind.by_uri and len(name) > MAX_NAME:
                clashes[_too_long(kind, name, backend)] = None
    already_reported = {*everyones.clashes}
    new_clashes = [clash for clash in clashes if clash not in already_reported]
    return NameOwners(owners, contested, new_clashes)


def warn_of_name_conflicts(clashes: Collection[str], before: Collection[str]) -> None:
    """Log the name conflicts and overlong names that are not in `before`."""
    known_clashes = {*before}
    new = [clash for clash in clashes if clash not in known_clashes]
    if not new:
        return
    listed = "; ".join(clean_text(clash, _MAX_LOGGED) for clash in new[:NAMED])
    more = f"; and {len(new) - NAMED} more" if len(new) > NAMED else ""
    log.warning(
        "name conflicts or names that are too long: %s%s; change the prefix of a backend, or"
        " rename or exclude components; names.onClash decides which backend serves a conflicting"
        " name",
        *(listed, more),
    )
