"""Panels about the operator: leadership, reconciliations, watches, resources."""

from typing import Final

from grafana_foundation_sdk.builders import stat, timeseries
from grafana_foundation_sdk.models import units

from scripts.dashboard import metrics as m
from scripts.dashboard.panels import AMBER, GREEN, RED, lines, query, thresholds, tile

NAMED: Final = 'name="mcpproxy-operator"'
RECONCILER: Final = 'controller="mcpproxy"'
RATE: Final = "$__rate_interval"
_PODS: Final = f"and on (pod) {m.LEADER}{{{NAMED}}}"
"""Metrics of processes, of pods that are operators."""


def _quantile(metric: str) -> str:
    rate = f"rate({metric}{{{RECONCILER}}}[{RATE}])"
    return f"histogram_quantile(0.99, sum by (le) ({rate}))"


def operator() -> list[stat.Panel | timeseries.Panel]:
    """Return the panels of the row."""
    return [
        tile(
            "Leaders",
            "Replicas that hold the Lease. Without a leader, no MCPProxy is reconciled.",
            f"sum({m.LEADER}{{{NAMED}}}) or vector(0)",
            thresholds((1, GREEN), (2, RED), first=RED),
        ),
        tile(
            "Statuses not written",
            "MCPProxies whose status the API server rejects; their status is outdated.",
            f"sum({m.UNWRITTEN}) or vector(0)",
            thresholds((1, RED)),
        ),
        tile(
            "Queued MCPProxies",
            "MCPProxies that wait for reconciliation.",
            f"sum({m.QUEUE}{{{RECONCILER}}}) or vector(0)",
            thresholds((20, AMBER), (50, RED)),
        ),
        lines(
            "Versions",
            "Replicas of the operator by version.",
            [query(f"count by (version) ({m.BUILD})", "{{version}}")],
        ),
        lines(
            "Reconciliations by result",
            "Reconciliations per second. The operator's log names the MCPProxy of each error.",
            [
                query(
                    f"sum by (result) (rate({m.RECONCILIATIONS}{{{RECONCILER}}}[{RATE}]))",
                    "{{result}}",
                )
            ],
            unit=units.OpsPerSecond,
        ),
        lines(
            "Reconciliation duration and time in queue (p99)",
            "99 % of the reconciliations are faster.",
            [
                query(_quantile(m.RECONCILE_SECONDS), "reconciliation"),
                query(_quantile(m.QUEUE_SECONDS), "queue"),
            ],
            unit=units.Seconds,
        ),
        lines(
            "Writes by result",
            "Writes per second to the API server.",
            [
                query(
                    f"sum by (kind, verb, result) (rate({m.WRITES}[{RATE}])) > 0",
                    "{{verb}} {{kind}} {{result}}",
                )
            ],
            unit=units.OpsPerSecond,
        ),
        lines(
            "Watch lag",
            "Time since a list showed an object that its watch has not delivered. The operator"
            " restarts after 60 s.",
            [query(f"max by (resource) ({m.WATCH_BEHIND})", "{{resource}}")],
            unit=units.Seconds,
            limits=thresholds((10, AMBER), (45, RED)),
        ),
        lines(
            "Time since the last event of a watch",
            "Quiet clusters have few events: a long time alone is no problem.",
            [query(f"max by (resource) ({m.WATCH_AGE})", "{{resource}}")],
            unit=units.Seconds,
        ),
        lines(
            "Streams from pods by state",
            "Pods that the operator follows, and pods whose reports it receives.",
            [query(f"sum by (state) ({m.POD_STREAMS})", "{{state}}")],
        ),
        lines(
            "Memory of the operator",
            "Resident memory of each replica.",
            [query(f"{m.MEMORY} {_PODS}", "{{pod}}")],
            unit=units.BytesIEC,
        ),
        lines(
            "CPU of the operator",
            "Processor time per second of each replica.",
            [query(f"rate({m.CPU}[{RATE}]) {_PODS}", "{{pod}}")],
        ),
    ]
