"""One list from those of several backends, and the names that more than one of them lists.

Such names are noted. The first backend serves each, or none does: see `names.onClash`.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from mcpproxy.api.untrusted_text import clean_text
from mcpproxy.proxy.core.translation.namespacing import MAX_NAME
from mcpproxy.proxy.protocol.kinds import ComponentKind
from mcpproxy.report_aggregation import NAMED

log = logging.getLogger("mcpproxy.catalog")

Precedence = Callable[[str], Any]
"""Sort key of a backend, by its name: of two with a component of one name the lower serves it."""
_SHOWN: Final = 300
"""Characters of a clash in the log."""


class ListedComponent(Protocol):
    """One kind of component of one backend. See Listing."""

    @property
    def items(self) -> tuple[bytes, ...]:
        """As clients see them."""

    @property
    def names(self) -> tuple[str, ...]:
        """Their outward names or URIs, in the same order."""

    @property
    def repeated(self) -> tuple[str, ...]:
        """Names that the backend lists again for something else."""


@dataclass(slots=True)
class NameOwners:
    """The names of one kind of component."""

    owners: dict[str, str] = field(default_factory=dict)
    """Outward name → the backend that serves it."""
    contested: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Outward name → the backends that list it, where none of them serves it."""
    clashes: list[str] = field(default_factory=list)
    """What is wrong with names, as sentences."""


@dataclass(slots=True)
class MergedList(NameOwners):
    """One kind of component of all backends."""

    body: bytes = b"[]"


def _hidden(kind: ComponentKind, name: str, backend: str, owner: str) -> str:
    return f"{kind.member}: {name} of backend {backend} is hidden by backend {owner}"


def _unserved(kind: ComponentKind, name: str, backends: Collection[str]) -> str:
    return f"{kind.member}: {name} is served by none of the backends {', '.join(backends)}"


def _too_long(kind: ComponentKind, name: str, backend: str) -> str:
    return f"{kind.member}: {name} of backend {backend} is longer than {MAX_NAME}"


def merge_lists(
    kind: ComponentKind,
    listings: Mapping[str, ListedComponent],
    precedence: Precedence | None = None,
    *,
    serves_clashes: bool = True,
) -> MergedList:
    """The list that clients see: backends in the order of precedence, each in its own order.

    Where two backends claim one name, the first serves it (or none) and the clash is noted.
    Without a precedence the order is that of the backends' names.
    """
    merged = MergedList()
    shown: list[bytes] = []
    order = sorted(listings, key=precedence)
    if not serves_clashes:
        merged.contested = _contested((name, b) for b in order for name in listings[b].names)
        merged.clashes = [_unserved(kind, *found) for found in merged.contested.items()]
    for backend in order:
        for name in listings[backend].repeated:
            merged.clashes.append(f"{kind.member}: {name} is there twice in backend {backend}")
        for item, name in zip(listings[backend].items, listings[backend].names, strict=True):
            if name in merged.contested:
                continue
            owner = merged.owners.setdefault(name, backend)
            if owner != backend:
                merged.clashes.append(_hidden(kind, name, backend, owner))
                continue
            if not kind.by_uri and len(name) > MAX_NAME:
                merged.clashes.append(_too_long(kind, name, backend))
            shown.append(item)
    merged.body = b"[" + b",".join(shown) + b"]"
    return merged


def _contested(claims: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    """The names that several backends list, with those backends."""
    found: dict[str, dict[str, None]] = {}
    for name, backend in claims:
        found.setdefault(name, {})[backend] = None
    return {name: tuple(backends) for name, backends in found.items() if len(backends) > 1}


def name_owners_of(
    kind: ComponentKind,
    everyones: NameOwners,
    tailored: Mapping[tuple[str, bytes], ListedComponent],
    precedence: Precedence | None = None,
    *,
    serves_clashes: bool = True,
) -> NameOwners:
    """The names that are only listed to clients that declare something.

    One that a backend lists to everyone stays with that backend.
    """
    claims = NameOwners()
    clashes: dict[str, None] = {}
    rank = precedence or (lambda backend: backend)
    order = sorted(tailored, key=lambda view: (rank(view[0]), view))
    known = everyones.owners.keys() | everyones.contested.keys()
    if not serves_clashes:
        own = ((n, view[0]) for view in order for n in tailored[view].names if n not in known)
        claims.contested = _contested(own)
        clashes = dict.fromkeys(_unserved(kind, *found) for found in claims.contested.items())
    for backend, seen in order:
        for name in tailored[backend, seen].names:
            if name in everyones.contested or name in claims.contested:
                continue
            owner = everyones.owners.get(name) or claims.owners.setdefault(name, backend)
            if owner != backend:
                clashes[_hidden(kind, name, backend, owner)] = None
            elif not kind.by_uri and len(name) > MAX_NAME:
                clashes[_too_long(kind, name, backend)] = None
    told = {*everyones.clashes}
    claims.clashes = [clash for clash in clashes if clash not in told]
    return claims


def warn_of_name_conflicts(clashes: Collection[str], before: Collection[str]) -> None:
    """Warn of what is wrong with names, unless it was so before."""
    known = {*before}
    new = [clash for clash in clashes if clash not in known]
    if not new:
        return
    said = "; ".join(clean_text(clash, _SHOWN) for clash in new[:NAMED])
    more = f"; and {len(new) - NAMED} more" if len(new) > NAMED else ""
    log.warning(
        "names clash or are too long: %s%s; give a backend another prefix, or rename or exclude"
        " components; names.onClash says what becomes of two that meet",
        *(said, more),
    )
