"""Kopf's part: watches of our kinds. A handler finds the owner's key and enqueues it, no more.

Only raw event handlers are used: Kopf's other handlers leave annotations or finalizers on users'
objects.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import kopf

from mcpproxy.api import constants
from mcpproxy.cluster.resources import (
    ALWAYS,
    MCP_PROXY,
    ON_DEMAND,
    POD,
    ProxyKey,
    ResourceKind,
    owner_key,
)
from mcpproxy.controller.watch_cache import WatchCache, Watches

BURST: Final = 0.1
"""Seconds in which several events of children make one pass."""

CHILDREN: Final = (*ALWAYS, *ON_DEMAND)
CHILD_SELECTOR: Final = f"{constants.LABEL_MANAGED_BY}={constants.FIELD_MANAGER}"
POD_SELECTOR: Final = f"{constants.LABEL_NAME}={constants.APP_NAME},{constants.LABEL_INSTANCE}"
SELECTORS: Final[Mapping[ResourceKind, str]] = {
    MCP_PROXY: "",
    **dict.fromkeys(CHILDREN, CHILD_SELECTOR),
    POD: POD_SELECTOR,
}
"""Which objects of each kind are watched."""

Enqueue = Callable[[ProxyKey, float], None]
"""Lets an MCPProxy be reconciled after so many seconds."""


def register_watches(registry: kopf.OperatorRegistry, watches: Watches, enqueue: Enqueue) -> None:
    """Add the event handlers to `registry`: one for each kind of `watches`."""
    for kind, watched in watches.items():
        delay = 0.0 if kind == MCP_PROXY else BURST
        handler = _handler(watched, enqueue, delay)
        kopf.on.event(*_resource(kind), id=kind.name.lower(), registry=registry)(handler)


def _handler(watched: WatchCache, enqueue: Enqueue, delay: float) -> Callable[..., Any]:
    async def handle(body: kopf.Body, type: str | None, **_: Any) -> None:  # noqa: A002
        found = dict(body)
        key = owner_key(found)
        watched.heard(found, key, deleted=type == "DELETED")
        if key is not None:
            enqueue(key, delay)

    return handle


def selectors() -> dict[tuple[str, str, str], str]:
    """Label selectors by resource, of those that have one."""
    return {_resource(kind): selector for kind, selector in SELECTORS.items() if selector}


def _resource(kind: ResourceKind) -> tuple[str, str, str]:
    return kind.group, kind.version, kind.plural
