"""The Grafana dashboard, generated from a list of panels."""

import json
from typing import Any

_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_WIDTH, _HEIGHT, _COLUMNS = 8, 8, 3
_OPERATOR = 'controller="mcpproxy"'
_PROXY = 'namespace=~"$namespace", mcpproxy=~"$mcpproxy"'

Panel = tuple[str, str, str, str]
"""Title, unit, expression and legend."""

ROWS: dict[str, tuple[Panel, ...]] = {
    "Proxies": (
        (
            "Calls by backend",
            "reqps",
            (
                "sum by (mcpproxy_backend) (rate("
                f"mcp_client_operation_duration_seconds_count{{{_PROXY}}}[$__rate_interval]))"
            ),
            "{{mcpproxy_backend}}",
        ),
        (
            "Failed calls",
            "reqps",
            (
                "sum by (mcpproxy_backend, error_type) (rate("
                f'mcp_client_operation_duration_seconds_count{{{_PROXY}, error_type!=""}}'
                "[$__rate_interval]))"
            ),
            "{{mcpproxy_backend}} {{error_type}}",
        ),
        (
            "Call duration, 95th percentile",
            "s",
            (
                "histogram_quantile(0.95, sum by (mcpproxy_backend, le) (rate("
                f"mcp_client_operation_duration_seconds_bucket{{{_PROXY}}}[$__rate_interval])))"
            ),
            "{{mcpproxy_backend}}",
        ),
        (
            "Calls by tool",
            "reqps",
            (
                "topk(10, sum by (gen_ai_tool_name) (rate("
                f'mcp_server_operation_duration_seconds_count{{{_PROXY}, gen_ai_tool_name!=""}}'
                "[$__rate_interval])))"
            ),
            "{{gen_ai_tool_name}}",
        ),
        (
            "Pods by backend state",
            "short",
            f"sum by (backend, state) (mcpproxy_backend_state{{{_PROXY}}}) > 0",
            "{{backend}} {{state}}",
        ),
        (
            "Components",
            "short",
            f"max by (backend, kind) (mcpproxy_components{{{_PROXY}}})",
            "{{backend}} {{kind}}",
        ),
        (
            "List requests served from the cache",
            "percentunit",
            (
                "sum by (method)"
                f' (rate(mcpproxy_list_requests_total{{{_PROXY}, cache="hit"}}[$__rate_interval]))'
                " / sum by (method)"
                f" (rate(mcpproxy_list_requests_total{{{_PROXY}}}[$__rate_interval]))"
            ),
            "{{method}}",
        ),
        (
            "Isolated requests with a warm session",
            "percentunit",
            (
                "sum by (backend) (rate(mcpproxy_isolated_requests_total"
                f'{{{_PROXY}, session="warm"}}[$__rate_interval]))'
                " / sum by (backend)"
                f" (rate(mcpproxy_isolated_requests_total{{{_PROXY}}}[$__rate_interval]))"
            ),
            "{{backend}}",
        ),
        (
            "Open sessions by backend",
            "short",
            f"sum by (backend) (mcpproxy_backend_sessions{{{_PROXY}}})",
            "{{backend}}",
        ),
        (
            "Open client streams",
            "short",
            f"sum by (namespace, mcpproxy) (mcpproxy_client_streams{{{_PROXY}}})",
            "{{namespace}}/{{mcpproxy}}",
        ),
    ),
    "Operator": (
        (
            "Leader",
            "short",
            'leader_election_master_status{name="mcpproxy-operator"}',
            "{{pod}}",
        ),
        (
            "Queued MCPProxies",
            "short",
            f"sum by (pod) (workqueue_depth{{{_OPERATOR}}})",
            "{{pod}}",
        ),
        (
            "Reconciliations by result",
            "ops",
            (
                "sum by (result)"
                f" (rate(controller_runtime_reconcile_total{{{_OPERATOR}}}[$__rate_interval]))"
            ),
            "{{result}}",
        ),
        (
            "Reconciliation duration, 99th percentile",
            "s",
            (
                "histogram_quantile(0.99, sum by (le) (rate("
                f"controller_runtime_reconcile_time_seconds_bucket{{{_OPERATOR}}}[$__rate_interval])))"
            ),
            "reconciliation",
        ),
        (
            "Time in queue, 99th percentile",
            "s",
            (
                "histogram_quantile(0.99, sum by (le) (rate("
                f"workqueue_queue_duration_seconds_bucket{{{_OPERATOR}}}[$__rate_interval])))"
            ),
            "queue",
        ),
        (
            "Writes",
            "ops",
            (
                "sum by (kind, verb, result)"
                " (rate(mcpproxy_operator_writes_total[$__rate_interval])) > 0"
            ),
            "{{verb}} {{kind}} {{result}}",
        ),
        (
            "Time since the last event of a watch",
            "s",
            "max by (resource) (mcpproxy_operator_watch_age_seconds)",
            "{{resource}}",
        ),
        (
            "Watch lag",
            "s",
            "max by (resource) (mcpproxy_operator_watch_behind_seconds)",
            "{{resource}}",
        ),
        (
            "Pod report streams by state",
            "short",
            "sum by (state) (mcpproxy_operator_pod_streams)",
            "{{state}}",
        ),
    ),
}


def dashboard() -> str:
    """Return the dashboard as JSON for Grafana."""
    content = {
        "uid": "mcpproxy",
        "title": "MCPProxy",
        "tags": ["mcpproxy"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": _variables()},
        "panels": _panels(),
    }
    return json.dumps(content, indent=2) + "\n"


def _variables() -> list[dict[str, Any]]:
    source = {"name": "datasource", "type": "datasource", "query": "prometheus"}
    return [
        source,
        _variable("namespace", "label_values(mcpproxy_backend_state, namespace)"),
        _variable(
            "mcpproxy", 'label_values(mcpproxy_backend_state{namespace=~"$namespace"}, mcpproxy)'
        ),
    ]


def _variable(name: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": "query",
        "datasource": _SOURCE,
        "query": query,
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def _panels() -> list[dict[str, Any]]:
    panels: list[dict[str, Any]] = []
    top = 0
    for row, shown in ROWS.items():
        place = {"x": 0, "y": top, "w": _WIDTH * _COLUMNS, "h": 1}
        panels.append({"id": len(panels) + 1, "type": "row", "title": row, "gridPos": place})
        top += 1
        for number, panel in enumerate(shown):
            line, column = divmod(number, _COLUMNS)
            place = {"x": column * _WIDTH, "y": top + line * _HEIGHT, "w": _WIDTH, "h": _HEIGHT}
            panels.append(_panel(len(panels) + 1, panel, place))
        top += -(-len(shown) // _COLUMNS) * _HEIGHT
    return panels


def _panel(number: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    title, unit, expression, legend = panel
    return {
        "id": number,
        "type": "timeseries",
        "title": title,
        "datasource": _SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "targets": [
            {
                "refId": "A",
                "datasource": _SOURCE,
                "expr": expression,
                "legendFormat": legend,
            }
        ],
    }
