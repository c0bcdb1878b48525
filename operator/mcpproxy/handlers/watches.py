"""Kopf's part: watches of our kinds. A handler finds the owner's key and enqueues it, no more.

Only indices and raw event handlers are used: Kopf's other handlers leave annotations or
finalizers on users' objects.
"""

from collections.abc import Mapping
from typing import Any, Final

import kopf

from mcpproxy.api import names
from mcpproxy.cluster.kinds import ALWAYS, MCP_PROXY, ON_DEMAND, POD, Kind, ProxyKey
from mcpproxy.reconcile.queue import WorkQueue

INDEX: Final = "generations"
"""Name of the index: key of an MCPProxy → its generation, as the watch knows it."""
BURST: Final = 0.1
"""Seconds in which several events of children make one pass."""

CHILDREN: Final = (*ALWAYS, *ON_DEMAND)
CHILD_SELECTOR: Final = f"{names.LABEL_MANAGED_BY}={names.FIELD_MANAGER}"
POD_SELECTOR: Final = f"{names.LABEL_NAME}={names.APP_NAME},{names.LABEL_INSTANCE}"


def register(registry: kopf.OperatorRegistry, queue: WorkQueue[ProxyKey]) -> None:
    """Add the index and the event handlers to `registry`."""

    async def generations(meta: kopf.Meta, **_: Any) -> dict[ProxyKey, int]:
        return {_key(meta): meta["generation"]}

    async def proxy_event(meta: kopf.Meta, **_: Any) -> None:
        queue.add(_key(meta))

    async def child_event(body: kopf.Body, **_: Any) -> None:
        key = owner_key(body)
        if key is not None:
            queue.add_after(key, BURST)

    kopf.index(*_resource(MCP_PROXY), id=INDEX, registry=registry)(generations)
    kopf.on.event(*_resource(MCP_PROXY), id="mcpproxy", registry=registry)(proxy_event)
    for kind in (*CHILDREN, POD):
        kopf.on.event(*_resource(kind), id=kind.name.lower(), registry=registry)(child_event)


def selectors() -> dict[tuple[str, str, str], str]:
    """Which objects of each kind are watched: label selectors by resource."""
    return {
        **{_resource(kind): CHILD_SELECTOR for kind in CHILDREN},
        _resource(POD): POD_SELECTOR,
    }


def owner_key(child: Mapping[str, Any]) -> ProxyKey | None:
    """The MCPProxy that a child or a pod belongs to, by its owner or by its labels."""
    metadata = child["metadata"]
    for reference in metadata.get("ownerReferences") or []:
        if reference.get("controller") and reference["kind"] == names.KIND:
            return ProxyKey(metadata["namespace"], reference["name"])
    instance = (metadata.get("labels") or {}).get(names.LABEL_INSTANCE)
    return ProxyKey(metadata["namespace"], instance) if instance else None


def _key(meta: Mapping[str, Any]) -> ProxyKey:
    return ProxyKey(meta["namespace"], meta["name"])


def _resource(kind: Kind) -> tuple[str, str, str]:
    return kind.group, kind.version, kind.plural
