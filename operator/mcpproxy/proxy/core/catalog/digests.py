"""Digests of components: what an approval of the catalog is made of."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from mcpproxy.api.v1alpha1.catalog import CatalogDigests
from mcpproxy.api.v1alpha1.status import CatalogDrift, DriftedComponents
from mcpproxy.limits.http import COMPARED_VALUE
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import RpcError
from mcpproxy.report_aggregation import NAMED

if TYPE_CHECKING:
    from mcpproxy.proxy.core.catalog.catalog import ComponentList


def canonical_json(text: bytes) -> bytes:
    """JSON in one spelling, where it is not too large to be read for that; else as it is."""
    if len(text) > COMPARED_VALUE.value:
        COMPARED_VALUE.record()
        return text
    try:
        return jsonrpc.canonicalize(text)
    except RpcError:
        return text


def component_digest(item: bytes) -> str:
    """SHA-256 of a component as clients see it, hexadecimal.

    The order of members and the spelling of strings do not count; fractions count as written.
    """
    return hashlib.sha256(canonical_json(item)).hexdigest()


def digests_of(
    listings: "Mapping[str, ComponentList]", owners: Mapping[str, str]
) -> dict[str, str]:
    """The digests of one kind of component by outward name; `owners` has the backend of each.

    Where a backend gives one name to several components, it is that of all of them together.
    """
    items: dict[str, dict[bytes, None]] = {}
    for backend, listed in listings.items():
        for item, name in zip(listed.items, listed.names, strict=True):
            if owners.get(name) == backend:
                items.setdefault(name, {})[item] = None
    return {name: component_digest(b",".join(found)) for name, found in items.items()}


def differences(approved: CatalogDigests, found: CatalogDigests, *, whole: bool) -> CatalogDrift:
    """How the components that are offered differ from the approved ones.

    `whole` says whether `found` is all there is: only then is it known what is gone.
    """
    new, changed, gone = [], [], []
    for kind in sorted({*approved, *found}):
        before, now = approved.get(kind, {}), found.get(kind, {})
        new += [f"{kind}: {name}" for name in now if name not in before]
        changed += [f"{kind}: {name}" for name in now if before.get(name, now[name]) != now[name]]
        gone += [f"{kind}: {name}" for name in before if whole and name not in now]
    return CatalogDrift(new=_drifted(new), changed=_drifted(changed), gone=_drifted(gone))


def _drifted(names: Iterable[str]) -> DriftedComponents | None:
    found = sorted(names)
    return DriftedComponents(count=len(found), names=found[:NAMED]) if found else None
