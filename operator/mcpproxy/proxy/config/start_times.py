"""Timeouts of servers in mcp.json files."""

from collections.abc import Mapping
from math import isfinite
from typing import Any, Final

from mcpproxy.api.defaults import INITIALIZE_PROGRAM
from mcpproxy.api.kubernetes.durations import parse_duration
from mcpproxy.api.manifest_errors import ManifestError

_STARTS: Final[Mapping[str, float | None]] = {
    "startup_timeout": None,
    "startupTimeout": None,
    "startup_timeout_sec": 1000.0,
    "startup_timeout_ms": 1.0,
}
"""Field for the start timeout → milliseconds per unit; None if clients disagree about the unit."""
_CALL: Final = "tool_timeout_sec"
"""Field of Codex for the timeout of calls."""
MEMBERS: Final = ("timeout", _CALL, *_STARTS)
_SECONDS_BELOW: Final = 1000
"""Start timeouts below this value are in seconds if clients disagree about the unit."""
_LONGEST_START: Final = 300_000.0
"""Maximum start timeout in milliseconds that `timeout`, which is meant for calls, implies."""


def timeouts_of(server: Mapping[str, Any], where: str) -> dict[str, str]:
    """Return the timeouts of a backend; `where` is the path of the server. Raise ManifestError.

    Clients apply `timeout` to the start of a program as well. If it exceeds the default start
    timeout, it becomes the start timeout.
    """
    timeouts: dict[str, str] = {}
    request = _number(server, "timeout", where)
    if request is None and (seconds := _number(server, _CALL, where)) is not None:
        request = seconds * 1000
    if request is not None:
        timeouts["request"] = f"{int(request)}ms"
        start = min(request, _LONGEST_START)
        if "command" in server and start > parse_duration(INITIALIZE_PROGRAM) * 1000:
            timeouts["initialize"] = f"{int(start)}ms"
    for member, unit in _STARTS.items():
        limit = _number(server, member, where)
        if limit is None:
            continue
        if unit is None:
            unit = 1000.0 if limit < _SECONDS_BELOW else 1.0
        timeouts["initialize"] = f"{int(limit * unit)}ms"
    return timeouts


def _number(server: Mapping[str, Any], member: str, where: str) -> float | None:
    number = server.get(member)
    if number is None:
        return None
    if isinstance(number, bool) or not isinstance(number, int | float) or not isfinite(number):
        unit = "seconds" if member.endswith("_sec") else "milliseconds"
        raise ManifestError(f"expected a number of {unit}", f"{where}.{member}")
    return float(number)
