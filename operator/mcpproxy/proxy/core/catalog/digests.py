"""Digests of components, as an approved catalog contains them."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from msgspec import Raw

from mcpproxy.api.catalog_digests import NAMED, CatalogDigests
from mcpproxy.limits.http import COMPARED_VALUE
from mcpproxy.proxy.core.reports import ChangesReport, DriftReport
from mcpproxy.proxy.protocol.jsonrpc import canonical, decode_exactly
from mcpproxy.proxy.protocol.tolerance import MALFORMED

if TYPE_CHECKING:
    from mcpproxy.proxy.core.catalog.component_list import ComponentList


def canonical_json(text: bytes | Raw) -> bytes:
    """Return JSON in canonical form, or unchanged if it is malformed or too large to parse."""
    if len(text) > COMPARED_VALUE.value:
        COMPARED_VALUE.record()
        return bytes(text)
    try:
        # As `canonicalize`, but without another call for each audit record.
        return canonical(decode_exactly(text))
    except MALFORMED:
        return bytes(text)


def component_digest(item: bytes) -> str:
    """Return the hexadecimal SHA-256 of a component as clients see it.

    The order of fields and the escapes in strings do not matter. Fractions are compared as written.
    """
    return hashlib.sha256(canonical_json(item)).hexdigest()


def digests_of(
    listings: "Mapping[str, ComponentList]", owners: Mapping[str, str]
) -> dict[str, str]:
    """Return the digests of one kind of component by downstream name; `owners` has the backends.

    If a backend lists several components with one name, the digest covers all of them.
    """
    items: dict[str, dict[bytes, None]] = {}
    for backend, components in listings.items():
        for item, name in zip(components.items, components.names, strict=True):
            if owners.get(name) == backend:
                items.setdefault(name, {})[item] = None
    return {name: component_digest(b",".join(same_name)) for name, same_name in items.items()}


def differences(approved: CatalogDigests, offered: CatalogDigests, *, whole: bool) -> DriftReport:
    """Compare the offered components with the approved ones.

    If `whole` is false, some lists are unknown, and missing components are not reported.
    """
    new, changed, gone = [], [], []
    for kind in sorted({*approved, *offered}):
        before, now = approved.get(kind, {}), offered.get(kind, {})
        new += [f"{kind}: {name}" for name in now if name not in before]
        changed += [f"{kind}: {name}" for name in now if before.get(name, now[name]) != now[name]]
        gone += [f"{kind}: {name}" for name in before if whole and name not in now]
    return DriftReport(new=_drifted(new), changed=_drifted(changed), gone=_drifted(gone))


def _drifted(names: Iterable[str]) -> ChangesReport | None:
    ordered = sorted(names)
    return ChangesReport(count=len(ordered), names=ordered[:NAMED]) if ordered else None
