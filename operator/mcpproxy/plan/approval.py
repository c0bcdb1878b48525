"""What a plan says of the catalog that was approved in `spec.catalog`. Pure."""

from collections.abc import Mapping
from typing import Any

from mcpproxy.api.v1alpha1.catalog import CatalogSpec
from mcpproxy.proxy.core.catalog.catalog import Catalog
from mcpproxy.proxy.core.catalog.digests import component_digest
from mcpproxy.proxy.protocol.kinds import KINDS, ComponentKind

Approval = dict[str, Any]
_SORTS = ("new", "changed", "gone")


def check_approval(spec: CatalogSpec | None, catalog: Catalog, *, known: bool) -> Approval | None:
    """How what is offered differs from what was approved; None where nothing was.

    What is gone is only told where the lists of all backends are known. `matches` is None where
    that can't be said.
    """
    expected = spec.expected if spec else None
    if spec is None or expected is None:
        return None
    found: Approval = {"approvedHash": expected, "onDrift": spec.on_drift or "Report"}
    if spec.approved is None:
        return {**found, "matches": catalog.digest() == expected if known else None}
    before, now = spec.approved.digests, catalog.digests()
    differing = {sort: dict[str, list[str]]() for sort in _SORTS}
    for kind in (kind.member for kind in KINDS):
        was, is_ = before.get(kind, {}), now.get(kind, {})
        differing["new"][kind] = sorted(is_.keys() - was.keys())
        differing["changed"][kind] = sorted(n for n in is_.keys() & was.keys() if is_[n] != was[n])
        differing["gone"][kind] = sorted(was.keys() - is_.keys()) if known else []
    same = not any(names for kinds in differing.values() for names in kinds.values())
    return {**found, "matches": same if known or not same else None, **differing}


def withheld_components(
    spec: CatalogSpec | None, kind: ComponentKind, name: str, item: bytes
) -> bool:
    """Whether clients are not shown a component, since nobody approved it."""
    if spec is None or spec.approved is None or spec.on_drift != "Withhold":
        return False
    approved: Mapping[str, str] = spec.approved.digests.get(kind.member, {})
    return approved.get(name) != component_digest(item)
