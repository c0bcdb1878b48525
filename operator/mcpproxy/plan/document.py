"""The plan as a document: the components for clients, their origins, and the differences. Pure."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from mcpproxy.api.constants import LIST_FAILED
from mcpproxy.api.v1alpha1 import ObjectMeta, OnClash
from mcpproxy.api.v1alpha1.catalog import CatalogSpec
from mcpproxy.api.v1alpha1.status import BackendStatus
from mcpproxy.plan.approval import check_approval, withheld_components
from mcpproxy.proxy.core.catalog.catalog import Catalog
from mcpproxy.proxy.core.catalog.component_filter import ComponentFilter
from mcpproxy.proxy.core.catalog.component_list import count_tokens
from mcpproxy.proxy.core.translation.namespacing import MAX_NAME, PrefixMapping
from mcpproxy.proxy.protocol.kinds import KINDS, ComponentKind

FORM: Final = 1
"""Version of the JSON document's format."""
NOTHING_WRONG: Final = 0
FAILED: Final = 1
DIFFERENT: Final = 2
CLASHING: Final = 3
ORDER: Final = (FAILED, CLASHING, DIFFERENT, NOTHING_WRONG)
"""Exit codes by precedence; of several, the first one applies."""

Plan = dict[str, Any]
Origin = tuple[PrefixMapping, Mapping[ComponentKind, ComponentFilter]]
"""The mapping and the filters that make the names of one backend's components."""


def _entries(
    catalog: Catalog,
    kind: ComponentKind,
    origins: Mapping[str, Origin],
    approved: CatalogSpec | None,
) -> list[Plan]:
    entries = []
    for backend in sorted(origins):
        names, selections = origins[backend]
        listing = catalog.get(backend, kind)
        if listing is None:
            continue
        for item, name in zip(listing.items, listing.names, strict=True):
            upstream = names.uri_to_upstream(name) if kind.by_uri else names.to_upstream(name)
            backend_name = upstream or name
            own = selections[kind].original_name(backend_name) or backend_name
            entry = {
                "name": name,
                "backend": backend,
                "ownName": own,
                "renamed": own != backend_name,
            }
            entry["withheld"] = withheld_components(approved, kind, name, item)
            entry["served"] = not entry["withheld"] and catalog.owner(kind, name) == backend
            entry["tokens"] = count_tokens(item)
            entries.append({**entry, "definition": json.loads(item)})
    return entries


def _clashes(kind: ComponentKind, entries: Iterable[Plan], on_clash: OnClash | None) -> list[Plan]:
    backends_by_name: dict[str, list[str]] = {}
    for entry in entries:
        backends_by_name.setdefault(entry["name"], []).append(entry["backend"])
    return [
        {
            "kind": kind.member,
            "name": name,
            "servedBy": None if on_clash == "Fail" else backends[0],
            "backends": backends,
        }
        for name, backends in backends_by_name.items()
        if len(backends) > 1
    ]


def _too_long(kind: ComponentKind, entries: Iterable[Plan]) -> list[Plan]:
    return [
        {
            "kind": kind.member,
            "name": entry["name"],
            "backend": entry["backend"],
            "length": len(entry["name"]),
        }
        for entry in entries
        if entry["served"] and not kind.by_uri and len(entry["name"]) > MAX_NAME
    ]


def build_document(
    metadata: ObjectMeta,
    catalog: Catalog,
    statuses: Sequence[BackendStatus],
    origins: Mapping[str, Origin],
    *,
    known: bool,
    approved: CatalogSpec | None = None,
    on_clash: OnClash | None = None,
    failures: Mapping[ComponentKind, Mapping[str, str]] | None = None,
    identities: Mapping[str, str] | None = None,
) -> Plan:
    """Return the plan of one proxy, ready for JSON.

    `known` is true if the lists of every backend are known; otherwise no hash exists. `failures`
    are the reasons for missing lists, by kind and backend. `identities` says as whom each backend
    is called.
    """
    lists = {kind: _entries(catalog, kind, origins, approved) for kind in KINDS}
    return {
        "name": metadata.name,
        "namespace": metadata.namespace,
        "backends": [s.model_dump(by_alias=True, exclude_none=True) for s in statuses],
        "calledAs": dict(identities or {}),
        "failed": [s.name for s in statuses if s.state != "Healthy" or s.reason == LIST_FAILED],
        **{kind.member: entries for kind, entries in lists.items()},
        "notKnown": {
            kind.member: dict(reasons) for kind, reasons in (failures or {}).items() if reasons
        },
        "clashes": [clash for kind in KINDS for clash in _clashes(kind, lists[kind], on_clash)],
        "onClash": on_clash,
        "tooLong": [name for kind in KINDS for name in _too_long(kind, lists[kind])],
        "toolTokens": sum(tool["tokens"] for tool in lists[KINDS[0]] if tool["served"]),
        "catalogHash": catalog.digest() if known else None,
        "approved": _digests(catalog) if known else None,
        "approval": check_approval(approved, catalog, known=known),
    }


def _digests(catalog: Catalog) -> dict[str, dict[str, str]]:
    """Return the digests by kind and name, sorted so that the order of responses has no effect."""
    return {
        kind: dict(sorted(digests.items()))
        for kind, digests in catalog.digests().items()
        if digests
    }


def plan_differences(served: Plan | None, planned: Plan) -> Plan:
    """Return the names that were added, removed or changed, by kind.

    Without `served`, all are added. Another notation of a number is a change, as it is in a digest.
    """
    differences: Plan = {}
    for kind in KINDS:
        before, after = _served(served or {}, kind), _served(planned, kind)
        both = before.keys() & after.keys()
        differences[kind.member] = {
            "added": sorted(after.keys() - before.keys()),
            "removed": sorted(before.keys() - after.keys()),
            "changed": sorted(name for name in both if _changed(before[name], after[name])),
        }
    return differences


def removed_plan(served: Plan) -> Plan:
    """Return what clients lose with a proxy that would no longer exist."""
    names = {"name": served["name"], "namespace": served.get("namespace")}
    return {**names, "differences": plan_differences(served, {})}


def _served(plan: Plan, kind: ComponentKind) -> dict[str, tuple[Any, str | None]]:
    """Return the definition, and the digest if known, of each component that clients see."""
    digests = (plan.get("approved") or {}).get(kind.member, {})
    entries = (entry for entry in plan.get(kind.member, ()) if entry["served"])
    return {e["name"]: (e["definition"], digests.get(e["name"])) for e in entries}


def _changed(before: tuple[Any, str | None], after: tuple[Any, str | None]) -> bool:
    known = before[1] is not None and after[1] is not None
    return before[0] != after[0] or (known and before[1] != after[1])


def differ(different: Plan) -> bool:
    """True if clients would notice a difference."""
    return any(names for kind in different.values() for names in kind.values())


def exit_code(plan: Plan) -> int:
    """Return the exit code for one proxy."""
    replay = plan.get("replay") or {}
    if plan["failed"] or replay.get("badLineCount"):
        return FAILED
    if plan["tooLong"] or (plan["clashes"] and plan["onClash"] != "First"):
        return CLASHING
    approval = plan["approval"] or {"matches": True}
    drifted = approval["matches"] is not True and not approval.get("written")
    if (
        drifted
        or plan.get("accessDifferences")
        or replay.get("denied")
        or replay.get("allowed")
        or (plan.get("differences") and differ(plan["differences"]))
    ):
        return DIFFERENT
    return NOTHING_WRONG


def highest_exit_code(codes: Iterable[int]) -> int:
    """Return the exit code for several proxies."""
    return min(codes, key=ORDER.index, default=NOTHING_WRONG)
