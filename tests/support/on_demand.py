"""Children that are only there when asked for: what asks for them, and how others spoil them."""

from collections.abc import Callable
from typing import Any, Final

from mcpproxy.api.kubernetes.objects import Object
from mcpproxy.cluster.resources import (
    AUTOSCALER,
    DISRUPTION_BUDGET,
    NETWORK_POLICY,
    POD_MONITOR,
    ResourceKind,
)

ASKED: Final[dict[ResourceKind, dict[str, Any]]] = {
    NETWORK_POLICY: {"networkPolicy": {}},
    POD_MONITOR: {"monitoring": {"podMonitor": {"labels": {"release": "x"}}}},
    AUTOSCALER: {"autoscaling": {"minReplicas": 2, "maxReplicas": 3}},
    DISRUPTION_BUDGET: {"disruptionBudget": {"maxUnavailable": 1}},
}
"""Kind → the part of a spec that asks for it."""

ASKING: Final[dict[str, Any]] = {
    **{field: value for asked in ASKED.values() for field, value in asked.items()},
    "networkPolicy": {"scrapers": [{"podSelector": {}}]},
}
"""The part of a spec that asks for all of them."""


def _more_pods(live: Object) -> None:
    live["spec"]["maxReplicas"] = 99


def _no_evictions(live: Object) -> None:
    live["spec"]["maxUnavailable"] = 0


def _open_door(live: Object) -> None:
    live["spec"]["ingress"].append({"from": [{"podSelector": {}}]})


def _another_port(live: Object) -> None:
    live["spec"]["podMetricsEndpoints"] = [{"port": "http"}]


EDITS: Final[dict[ResourceKind, Callable[[Object], None]]] = {
    NETWORK_POLICY: _open_door,
    POD_MONITOR: _another_port,
    AUTOSCALER: _more_pods,
    DISRUPTION_BUDGET: _no_evictions,
}
"""Kind → an edit by hand that must be put right."""
