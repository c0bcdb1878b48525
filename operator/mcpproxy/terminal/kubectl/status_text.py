"""Text of `kubectl mcpproxy status`. Pure: from objects of the API server to lines."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from mcpproxy.api.untrusted_text import clean_text
from mcpproxy.plan.terminal_text import table_lines

MAX_LINE: Final = 1000
MAX_EVENTS: Final = 10
"""Number of the latest events that are shown."""


def render_overview(proxies: Sequence[Mapping[str, Any]], operators: Sequence[Any]) -> str:
    """Return one line for each MCPProxy and one for each operator."""
    rows = [
        (
            _at(proxy, "metadata", "namespace"),
            _at(proxy, "metadata", "name"),
            _ready(proxy),
            _at(proxy, "status", "backendsHealthy"),
            _at(proxy, "status", "components", "tools"),
            _at(proxy, "status", "pods"),
            _at(proxy, "status", "url"),
        )
        for proxy in proxies
    ]
    head = ("NAMESPACE", "NAME", "READY", "BACKENDS", "TOOLS", "PODS", "URL")
    lines = ["MCPProxies:", *table_lines([head, *rows])] if rows else ["no MCPProxies"]
    return _text([*_operator_lines(operators), *lines])


def render_status(
    proxy: Mapping[str, Any], pods: Sequence[Any], events: Sequence[Any], operators: Sequence[Any]
) -> str:
    """Return the state of one MCPProxy: conditions, backends, pods and the latest events."""
    name = _at(proxy, "metadata", "name")
    lines = [f"MCPProxy {name} in {_at(proxy, 'metadata', 'namespace')}"]
    lines += [f"  URL      {_url(proxy)}", f"  Ready    {_ready(proxy)}"]
    lines += _operator_lines(operators)
    sections = (
        ("Conditions", ("TYPE", "STATUS", "REASON", "MESSAGE"), list(_conditions(proxy))),
        ("Backends", ("NAME", "STATE", "TOOLS", "REASON", "MESSAGE"), list(_backends(proxy))),
        ("Pods", ("NAME", "PHASE", "READY", "RESTARTS", "WAITING"), list(map(_pod, pods))),
        ("Events", ("LAST", "TYPE", "REASON", "MESSAGE"), _events(events)),
    )
    for title, head, rows in sections:
        if rows:
            lines += ["", f"{title}:", *table_lines([head, *rows])]
    return _text(lines)


def _text(lines: Iterable[str]) -> str:
    """Return the lines without anything that controls a terminal."""
    return "".join(f"{clean_text(line, MAX_LINE)}\n" for line in lines)


def _at(value: Any, *path: str) -> Any:
    """Return the value at a path, or `-` if it is absent."""
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return "-" if value is None else value


def _url(proxy: Mapping[str, Any]) -> str:
    url = _at(proxy, "status", "url")
    return "none yet: it is set once the proxy is Ready for the first time" if url == "-" else url


def _entries(value: Any, *path: str) -> list[Mapping[str, Any]]:
    entries = _at(value, *path)
    return [e for e in entries if isinstance(e, Mapping)] if isinstance(entries, list) else []


def _ready(proxy: Mapping[str, Any]) -> str:
    ready = [c for c in _entries(proxy, "status", "conditions") if c.get("type") == "Ready"]
    if not ready:
        return "Unknown"
    status, reason = _at(ready[0], "status"), _at(ready[0], "reason")
    return str(status) if status == "True" else f"{status}: {reason}"


def _conditions(proxy: Mapping[str, Any]) -> Iterator[Sequence[Any]]:
    for entry in _entries(proxy, "status", "conditions"):
        yield tuple(_at(entry, key) for key in ("type", "status", "reason", "message"))


def _backends(proxy: Mapping[str, Any]) -> Iterator[Sequence[Any]]:
    for entry in _entries(proxy, "status", "backends"):
        tools = _at(entry, "components", "tools")
        yield (
            _at(entry, "name"),
            _at(entry, "state"),
            tools,
            _at(entry, "reason"),
            _at(entry, "message"),
        )


def _pod(pod: Any) -> Sequence[Any]:
    containers = _entries(pod, "status", "containerStatuses")
    ready = sum(_at(container, "ready") is True for container in containers)
    restarts = sum(n for item in containers if isinstance(n := _at(item, "restartCount"), int))
    waiting = [_at(entry, "state", "waiting", "reason") for entry in containers]
    return (
        _at(pod, "metadata", "name"),
        _at(pod, "status", "phase"),
        f"{ready}/{len(containers)}",
        restarts,
        ", ".join(str(reason) for reason in waiting if reason != "-") or "-",
    )


def _events(events: Sequence[Any]) -> list[Sequence[Any]]:
    rows: list[Sequence[Any]] = [
        (
            _last(event),
            _at(event, "type"),
            _at(event, "reason"),
            _at(event, "note") if _at(event, "message") == "-" else _at(event, "message"),
        )
        for event in events
    ]
    return sorted(rows, key=lambda row: str(row[0]))[-MAX_EVENTS:]


def _last(event: Any) -> str:
    times = (
        _at(event, "series", "lastObservedTime"),
        _at(event, "lastTimestamp"),
        _at(event, "eventTime"),
    )
    return next((str(time) for time in times if time != "-"), "-")


def _operator_lines(operators: Sequence[Any]) -> list[str]:
    lines = []
    for operator in operators:
        images = [
            _at(c, "image") for c in _entries(operator, "spec", "template", "spec", "containers")
        ]
        ready = _at(operator, "status", "readyReplicas")
        place = f"{_at(operator, 'metadata', 'namespace')}/{_at(operator, 'metadata', 'name')}"
        lines.append(f"  Operator {place}: {ready} ready, {', '.join(map(str, images))}")
    return lines or ["  Operator not found, or its namespace cannot be read"]
