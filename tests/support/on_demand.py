"""Children that are only there when asked for: what asks for them, and how others spoil them."""

from collections.abc import Callable
from typing import Any, Final

from mcpproxy.api.kubernetes.objects import Object
from mcpproxy.cluster.resources import (
    AUTOSCALER,
    DISRUPTION_BUDGET,
    HTTP_ROUTE,
    INGRESS,
    NETWORK_POLICY,
    POD_MONITOR,
    ResourceKind,
)

PUBLIC: Final = {"publicUrl": "https://mcp.example.com/tools"}

ASKED: Final[dict[ResourceKind, dict[str, Any]]] = {
    NETWORK_POLICY: {"networkPolicy": {}},
    POD_MONITOR: {"monitoring": {"podMonitor": {"labels": {"release": "x"}}}},
    AUTOSCALER: {"autoscaling": {"minReplicas": 2, "maxReplicas": 3}},
    DISRUPTION_BUDGET: {"disruptionBudget": {"maxUnavailable": 1}},
    HTTP_ROUTE: {**PUBLIC, "expose": {"parentRefs": [{"name": "public"}]}},
    INGRESS: {**PUBLIC, "expose": {"ingress": {"className": "nginx"}}},
}
"""Kind → the part of a spec that asks for it."""

ASKING: Final[dict[str, Any]] = {
    **{
        field: value
        for kind, asked in ASKED.items()
        if kind != INGRESS
        for field, value in asked.items()
    },
    "networkPolicy": {"clients": [{"podSelector": {}}], "scrapers": [{"podSelector": {}}]},
}
"""The part of a spec that asks for all of `AT_ONCE`."""
AT_ONCE: Final = tuple(kind for kind in ASKED if kind != INGRESS)
"""Kinds that one MCPProxy may have; the HTTPRoute excludes the Ingress."""
_WAYS: Final = {HTTP_ROUTE: "parentRefs", INGRESS: "ingress"}


def asks_for(spec: dict[str, Any], kind: ResourceKind) -> bool:
    """Return True if a spec requests a child of this kind."""
    if kind in _WAYS:
        return _WAYS[kind] in spec.get("expose", {})
    return ASKED[kind].keys() <= spec.keys()


def _more_pods(live: Object) -> None:
    live["spec"]["maxReplicas"] = 99


def _no_evictions(live: Object) -> None:
    live["spec"]["maxUnavailable"] = 0


def _open_door(live: Object) -> None:
    live["spec"]["ingress"].append({"from": [{"podSelector": {}}]})


def _another_port(live: Object) -> None:
    live["spec"]["podMetricsEndpoints"] = [{"port": "http"}]


def _another_host(live: Object) -> None:
    live["spec"]["hostnames"] = ["other.example.com"]


def _no_path(live: Object) -> None:
    live["spec"]["rules"] = [{"host": "other.example.com"}]


EDITS: Final[dict[ResourceKind, Callable[[Object], None]]] = {
    NETWORK_POLICY: _open_door,
    POD_MONITOR: _another_port,
    AUTOSCALER: _more_pods,
    DISRUPTION_BUDGET: _no_evictions,
    HTTP_ROUTE: _another_host,
    INGRESS: _no_path,
}
"""Kind → an edit by hand that must be put right."""
