"""Watches by Kopf: each handler finds the key of the owner and enqueues it.

Only raw event handlers are used, because Kopf's other handlers leave annotations or finalizers on
users' objects.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import kopf

from mcpproxy.api import constants
from mcpproxy.api.kubernetes.objects import Object
from mcpproxy.cluster.cached_reads import name_of
from mcpproxy.cluster.resources import (
    ALWAYS,
    HTTP_ROUTE,
    INGRESS,
    MCP_PROXY,
    ON_DEMAND,
    POD,
    ProxyKey,
    ResourceKind,
    owner_key,
)
from mcpproxy.controller.watch_cache import WatchCache, Watches
from mcpproxy.reconcile.exposure.route_views import urls_of

BURST: Final = 0.1
"""Seconds during which events of children share one pass."""

_ROUTES: Final = (HTTP_ROUTE, INGRESS)
CHILDREN: Final = (*ALWAYS, *ON_DEMAND)
CHILD_SELECTOR: Final = f"{constants.LABEL_MANAGED_BY}={constants.FIELD_MANAGER}"
POD_SELECTOR: Final = f"{constants.LABEL_NAME}={constants.APP_NAME},{constants.LABEL_INSTANCE}"
SELECTORS: Final[Mapping[ResourceKind, str]] = {
    MCP_PROXY: "",
    **dict.fromkeys(CHILDREN, CHILD_SELECTOR),
    POD: POD_SELECTOR,
}
"""Label selectors of the watched objects, by kind."""

Enqueue = Callable[[ProxyKey, float], None]
"""Function that enqueues an MCPProxy after a delay in seconds."""


def register_watches(registry: kopf.OperatorRegistry, watches: Watches, enqueue: Enqueue) -> None:
    """Add the event handlers to `registry`: one for each kind of `watches`."""
    for kind, watched in watches.items():
        handler = _handler(kind, watched, enqueue)
        kopf.on.event(*_resource(kind), id=kind.name.lower(), registry=registry)(handler)


def _handler(kind: ResourceKind, watched: WatchCache, enqueue: Enqueue) -> Callable[..., Any]:
    delay = 0.0 if kind == MCP_PROXY else BURST
    # Only fields of objects that the operator applies have managers that matter.
    watched_pods = kind == POD

    async def handle(body: kopf.Body, type: str | None, **_: Any) -> None:  # noqa: A002
        live = _without_managers(body) if watched_pods else dict(body)
        name, deleted = name_of(live), type == "DELETED"
        key, before = owner_key(live), watched.owner_of(name)
        urls = urls_of(live) if kind in _ROUTES and not deleted else frozenset()
        sharing = watched.sharing(live, urls) if kind in _ROUTES else set()
        is_new = watched.record_event(live, key, deleted=deleted, urls=urls)
        # A list may lack versions between the one that a pass has read and the one that it wrote.
        if key is not None and (is_new or type is None or _is_unobserved(live)):
            enqueue(key, delay)
        if before is not None and before != key:
            enqueue(before, delay)
        for other in sharing - {key, before}:
            enqueue(other, delay)

    return handle


def _is_unobserved(live: Object) -> bool:
    """Return True for an MCPProxy whose spec changed while its status was written."""
    observed = (live.get("status") or {}).get("observedGeneration")
    return live["kind"] == MCP_PROXY.name and bool(observed != live["metadata"]["generation"])


def _without_managers(body: Mapping[str, Any]) -> Object:
    metadata = {key: value for key, value in body["metadata"].items() if key != "managedFields"}
    return {**body, "metadata": metadata}


def selectors() -> dict[tuple[str, str, str], str]:
    """Return the label selectors that are not empty, by resource."""
    return {_resource(kind): selector for kind, selector in SELECTORS.items() if selector}


def _resource(kind: ResourceKind) -> tuple[str, str, str]:
    return kind.group, kind.version, kind.plural
