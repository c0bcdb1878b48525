"""The plan as a document: what clients would see, where it comes from, and what differs. Pure."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from mcpproxy.api.status import BackendStatus
from mcpproxy.proxy.core.catalog import KINDS, Catalog, Kind
from mcpproxy.proxy.core.names import Names
from mcpproxy.proxy.core.selection import Selection

NOTHING_WRONG: Final = 0
UNREACHABLE: Final = 1
DIFFERENT: Final = 2
CLASHING: Final = 3
BYTES_PER_TOKEN: Final = 4
"""Of compact JSON; the estimate is rounded up for each tool."""

Plan = dict[str, Any]
Origin = tuple[Names, Mapping[Kind, Selection]]
"""How the names of one backend's components are made."""


def tokens(item: bytes) -> int:
    """Estimated tokens of one item of a list: its compact JSON's bytes / 4, rounded up."""
    compact = json.dumps(json.loads(item), ensure_ascii=False, separators=(",", ":"))
    return -(-len(compact.encode()) // BYTES_PER_TOKEN)


def _entries(catalog: Catalog, kind: Kind, origins: Mapping[str, Origin]) -> list[Plan]:
    found = []
    for backend in sorted(origins):
        names, selections = origins[backend]
        listing = catalog.get(backend, kind)
        if listing is None:
            continue
        for item, name in zip(listing.items, listing.names, strict=True):
            given = (names.inward_uri(name) if kind.by_uri else names.inward(name)) or name
            own = selections[kind].inward(given) or given
            entry = {"name": name, "backend": backend, "ownName": own, "renamed": own != given}
            entry["served"] = catalog.owner(kind, name) == backend
            entry["tokens"] = tokens(item)
            found.append({**entry, "definition": json.loads(item)})
    return found


def document(
    name: str,
    catalog: Catalog,
    statuses: Sequence[BackendStatus],
    origins: Mapping[str, Origin],
) -> Plan:
    """The plan of one proxy, ready for JSON. Without a hash where a backend is not usable."""
    lists = {kind.member: _entries(catalog, kind, origins) for kind in KINDS}
    failed = [status.name for status in statuses if status.state != "Healthy"]
    return {
        "name": name,
        "backends": [s.model_dump(by_alias=True, exclude_none=True) for s in statuses],
        **lists,
        "clashes": catalog.clashes(),
        "unreachable": failed,
        "toolTokens": sum(tool["tokens"] for tool in lists["tools"] if tool["served"]),
        "catalogHash": None if failed else catalog.digest(),
    }


def differences(served: Plan, planned: Plan) -> Plan:
    """Per kind the names that were added, removed, or whose definition changed."""
    found: Plan = {}
    for kind in KINDS:
        before, after = _served(served, kind), _served(planned, kind)
        both = before.keys() & after.keys()
        found[kind.member] = {
            "added": sorted(after.keys() - before.keys()),
            "removed": sorted(before.keys() - after.keys()),
            "changed": sorted(name for name in both if before[name] != after[name]),
        }
    return found


def _served(plan: Plan, kind: Kind) -> dict[str, Any]:
    return {e["name"]: e["definition"] for e in plan.get(kind.member, ()) if e["served"]}


def exit_code(plan: Plan, different: Plan | None = None) -> int:
    """What CI is told; the first that applies of 1, 3, 2, else 0."""
    if plan["unreachable"]:
        return UNREACHABLE
    if plan["clashes"]:
        return CLASHING
    if different and any(names for kind in different.values() for names in kind.values()):
        return DIFFERENT
    return NOTHING_WRONG
