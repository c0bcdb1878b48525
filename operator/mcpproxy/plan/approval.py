"""The part of a plan about the catalog that was approved in `spec.catalog`. Pure."""

from collections.abc import Mapping
from typing import Any

from mcpproxy.api.v1alpha1.catalog import CatalogSpec
from mcpproxy.proxy.core.catalog.catalog import Catalog
from mcpproxy.proxy.core.catalog.digests import component_digest
from mcpproxy.proxy.protocol.kinds import KINDS, ComponentKind

Approval = dict[str, Any]
_SORTS = ("new", "changed", "gone")


def check_approval(spec: CatalogSpec | None, catalog: Catalog, *, known: bool) -> Approval | None:
    """Return how the offered catalog differs from the approved one, or None without approval.

    `gone` is filled only if the lists of all backends are known. `matches` is None if the result is
    unknown.
    """
    expected = spec.expected if spec else None
    if spec is None or expected is None:
        return None
    approval: Approval = {"approvedHash": expected, "onDrift": spec.on_drift or "Report"}
    if spec.approved is None:
        return {**approval, "matches": catalog.digest() == expected if known else None}
    before, now = spec.approved.digests, catalog.digests()
    names_by_sort = {sort: dict[str, list[str]]() for sort in _SORTS}
    for kind in (kind.member for kind in KINDS):
        approved, offered = before.get(kind, {}), now.get(kind, {})
        names_by_sort["new"][kind] = sorted(offered.keys() - approved.keys())
        names_by_sort["changed"][kind] = sorted(
            name for name in offered.keys() & approved.keys() if offered[name] != approved[name]
        )
        names_by_sort["gone"][kind] = sorted(approved.keys() - offered.keys()) if known else []
    same = not any(names for kinds in names_by_sort.values() for names in kinds.values())
    return {**approval, "matches": same if known or not same else None, **names_by_sort}


def withheld_components(
    spec: CatalogSpec | None, kind: ComponentKind, name: str, item: bytes
) -> bool:
    """True if a component is hidden from clients because it is not approved."""
    if spec is None or spec.approved is None or spec.on_drift != "Withhold":
        return False
    approved: Mapping[str, str] = spec.approved.digests.get(kind.member, {})
    return approved.get(name) != component_digest(item)
