"""Panels about the proxies: tiles, states, a table of backends, calls, sessions."""

from typing import Final

from grafana_foundation_sdk.builders import stat, statetimeline, table, timeseries
from grafana_foundation_sdk.builders.heatmap import Panel as Heatmap
from grafana_foundation_sdk.models import units

from scripts.dashboard import metrics as m
from scripts.dashboard.panels import (
    AMBER,
    BLUE,
    GRAY,
    RED,
    STATES,
    heat,
    lines,
    query,
    rows,
    states,
    thresholds,
    tile,
)

Panel = stat.Panel | timeseries.Panel | statetimeline.Panel | table.Panel | Heatmap

PROXY: Final = 'namespace=~"$namespace", mcpproxy=~"$mcpproxy"'
RATE: Final = "$__rate_interval"
KEYS: Final = ("namespace", "mcpproxy", m.BACKEND)
_BY_KEYS: Final = ", ".join(KEYS)
_NAMED: Final = "{{mcpproxy}}/{{" + m.BACKEND + "}}"
_FAILING: Final = thresholds((0.01, AMBER), (0.1, RED))
"""The alert MCPProxyCallsFail fires above 10 %."""
_SLOW: Final = thresholds((5, AMBER), (30, RED))
"""The alert MCPProxyCallsSlow fires above 30 s."""


def _rate(metric: str, more: str = "") -> str:
    return f"rate({metric}{{{PROXY}{more}}}[{RATE}])"


def _calls(metric: str, more: str = "") -> str:
    """Return the rate of a metric of calls, with the label that other metrics have for backends."""
    label = f'"{m.BACKEND}", "$1", "{m.CALL_BACKEND}", "(.*)"'
    return f"label_replace({_rate(metric, more)}, {label})"


def _failed(by: str = "") -> str:
    grouping = f"sum by ({by})" if by else "sum"
    failed = _calls(m.CALLS, f', {m.OUTCOME}!~"{m.NOT_FAILED}"')
    # Without a failed call there is no series: the share is 0 where there are calls.
    calls = f"{grouping} ({_calls(m.CALLS)})"
    return f"({grouping} ({failed}) or {calls} * 0) / {calls}"


def _duration(quantile: float, by: str = "") -> str:
    grouping = f"{by}, le" if by else "le"
    return f"histogram_quantile({quantile}, sum by ({grouping}) ({_calls(m.CALL_SECONDS)}))"


def _worst_state() -> str:
    """Return the worst state of each backend among all pods, as a position in STATES."""
    parts = [
        f'group by ({_BY_KEYS}) ({m.STATE}{{{PROXY}, state="{state}"}} == 1) * {number}'
        for number, (state, _) in enumerate(STATES)
    ]
    return " or ".join(reversed(parts))


def overview() -> list[Panel]:
    """Return the tiles."""
    down = f'{m.STATE}{{{PROXY}, state!~"Healthy|Unknown"}} == 1'
    return [
        tile(
            "MCPProxies",
            "Number of MCPProxies whose pods report metrics.",
            f"count(count by (namespace, mcpproxy) ({m.STATE}{{{PROXY}}})) or vector(0)",
            thresholds(first=BLUE),
        ),
        tile(
            "Backends down",
            "Backends that at least one pod reports as neither Healthy nor Unknown. The table"
            " below names them.",
            f"count(group by ({_BY_KEYS}) ({down})) or vector(0)",
            thresholds((1, RED)),
        ),
        tile(
            "Calls per second",
            "Requests that the proxies send to backends.",
            f"sum({_rate(m.CALLS)}) or vector(0)",
            thresholds(first=BLUE),
            unit=units.RequestsPerSecond,
        ),
        tile(
            "Failed calls",
            "Share of calls that failed. Calls that clients cancelled do not count.",
            _failed(),
            _FAILING,
            unit=units.PercentUnit,
            decimals=2,
        ),
        tile(
            "Call duration (p95)",
            "95 % of the calls are faster.",
            _duration(0.95),
            _SLOW,
            unit=units.Seconds,
        ),
        tile(
            "Client sessions",
            "Client sessions with state in a pod. Modern clients have none.",
            f"sum({m.CLIENT_SESSIONS}{{{PROXY}}}) or vector(0)",
            thresholds(first=BLUE),
        ),
    ]


def backends() -> list[Panel]:
    """Return states over time, and one row for each backend."""
    return [
        states(
            "State of each backend",
            "Worst state among the pods of a proxy. The status of the MCPProxy shows the cause.",
            _worst_state(),
            _NAMED,
        ),
        rows(
            "Backends",
            "State and traffic of each backend now. The status of the MCPProxy shows the reason"
            " of a state.",
            KEYS,
            (
                ("State", _worst_state(), "state", None),
                (
                    "Calls",
                    f"sum by ({_BY_KEYS}) ({_calls(m.CALLS)})",
                    units.RequestsPerSecond,
                    None,
                ),
                ("Failed", _failed(_BY_KEYS), units.PercentUnit, _FAILING),
                ("p95", _duration(0.95, _BY_KEYS), units.Seconds, _SLOW),
                (
                    "Sessions",
                    f"sum by ({_BY_KEYS}) ({m.BACKEND_SESSIONS}{{{PROXY}}})",
                    units.Short,
                    None,
                ),
                (
                    "Tools",
                    f'max by ({_BY_KEYS}) ({m.COMPONENTS}{{{PROXY}, kind="tools"}})',
                    units.Short,
                    None,
                ),
            ),
        ),
    ]


def calls() -> list[Panel]:
    """Return the number, the failures and the duration of calls."""
    failed = f', {m.OUTCOME}!="{m.SUCCESS}"'
    of_tools = _rate(m.REQUESTS, f', {m.TOOL}!=""')
    return [
        lines(
            "Calls by backend",
            "Requests per second to each backend.",
            [query(f"sum by (mcpproxy, {m.BACKEND}) ({_calls(m.CALLS)})", _NAMED)],
            unit=units.RequestsPerSecond,
        ),
        lines(
            "Failed calls by error",
            "The error is a JSON-RPC code, or a reason that docs/troubleshooting.md explains.",
            [
                query(
                    f"sum by (mcpproxy, {m.BACKEND}, {m.OUTCOME}) ({_calls(m.CALLS, failed)})",
                    _NAMED + " {{" + m.OUTCOME + "}}",
                )
            ],
            unit=units.RequestsPerSecond,
        ),
        lines(
            "Calls by method",
            "Requests per second of each MCP method.",
            [query(f"sum by ({m.METHOD}) ({_rate(m.CALLS)})", "{{" + m.METHOD + "}}")],
            unit=units.RequestsPerSecond,
        ),
        lines(
            "Calls by tool",
            "The ten tools that clients call most, by the names that clients see.",
            [query(f"topk(10, sum by ({m.TOOL}) ({of_tools}))", "{{" + m.TOOL + "}}")],
            unit=units.RequestsPerSecond,
        ),
        lines(
            "Call duration (p95) by backend",
            "95 % of the calls are faster. The alert MCPProxyCallsSlow fires above 30 s.",
            [query(_duration(0.95, f"mcpproxy, {m.BACKEND}"), _NAMED)],
            unit=units.Seconds,
            limits=_SLOW,
        ),
        heat(
            "Call durations",
            "Number of calls by duration.",
            f"sum by (le) (increase({m.CALL_SECONDS}{{{PROXY}}}[{RATE}]))",
        ),
        lines(
            "Calls in progress",
            "Calls that wait for a backend, and calls that wait for input from their clients.",
            [
                query(f"sum({m.IN_FLIGHT}{{{PROXY}}})", "waiting for a backend"),
                query(f"sum({m.PARKED}{{{PROXY}}})", "waiting for a client"),
            ],
        ),
    ]


def sessions() -> list[Panel]:
    """Return sessions, caches, the catalog and limits."""
    hits = _rate(m.LIST_REQUESTS, ', cache="hit"')
    warm = _rate(m.ISOLATED_REQUESTS, ', session="warm"')
    isolated = f"sum by (mcpproxy, {m.BACKEND}) ({_rate(m.ISOLATED_REQUESTS)})"
    return [
        lines(
            "Backend sessions",
            "Open sessions with each backend, including warm ones.",
            [query(f"sum by (mcpproxy, {m.BACKEND}) ({m.BACKEND_SESSIONS}{{{PROXY}}})", _NAMED)],
        ),
        lines(
            "Client streams",
            "Open streams of change notifications to clients.",
            [query(f"sum by (mcpproxy) ({m.CLIENT_STREAMS}{{{PROXY}}})", "{{mcpproxy}}")],
        ),
        lines(
            "Tools, prompts and resources",
            "Number of components that each backend offers.",
            [
                query(
                    f"max by (mcpproxy, {m.BACKEND}, kind) ({m.COMPONENTS}{{{PROXY}}})",
                    _NAMED + " {{kind}}",
                )
            ],
        ),
        lines(
            "List requests answered from the cache",
            "Share of the lists of tools, prompts and resources for which no backend was asked.",
            [
                query(
                    f"sum by ({m.LIST_METHOD}) ({hits})"
                    f" / sum by ({m.LIST_METHOD}) ({_rate(m.LIST_REQUESTS)})",
                    "{{" + m.LIST_METHOD + "}}",
                )
            ],
            unit=units.PercentUnit,
        ),
        lines(
            "Isolated requests with a warm session",
            "Share of the requests to backends with the session mode Isolated that found an open"
            " session.",
            [query(f"sum by (mcpproxy, {m.BACKEND}) ({warm}) / {isolated}", _NAMED)],
            unit=units.PercentUnit,
        ),
        lines(
            "Limits reached",
            "Number of times per second that a client or backend exceeded a limit;"
            " docs/security.md lists the limits.",
            [query(f"sum by (mcpproxy, limit) ({_rate(m.LIMIT_REACHED)}) > 0", "{{limit}}")],
            unit=units.OpsPerSecond,
            limits=thresholds((0.001, AMBER), first=GRAY),
        ),
    ]
