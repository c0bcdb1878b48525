"""How long a server of an mcp.json file may take, as clients write it there."""

from collections.abc import Mapping
from math import isfinite
from typing import Any, Final

from mcpproxy.api.defaults import INITIALIZE_PROGRAM
from mcpproxy.api.kubernetes.quantities import parse_duration
from mcpproxy.api.manifest import ManifestError

_STARTS: Final[Mapping[str, float | None]] = {
    "startup_timeout": None,
    "startupTimeout": None,
    "startup_timeout_sec": 1000.0,
    "startup_timeout_ms": 1.0,
}
"""Member for the time to start → milliseconds in its unit; None where clients do not agree."""
MEMBERS: Final = ("timeout", *_STARTS)
_SECONDS_BELOW: Final = 1000
"""A start in fewer milliseconds than these is meant in seconds, where the unit is not agreed on."""
_LONGEST_START: Final = 300_000.0
"""Milliseconds that `timeout`, which is meant for calls, gives a program to start at most."""


def timeouts_of(server: Mapping[str, Any], where: str) -> dict[str, str]:
    """The timeouts of a backend; `where` is the member of the file. Raises ManifestError.

    Clients wait `timeout` milliseconds also for a program to start: one that may take longer for
    its calls than programs have to start gets that time there, too.
    """
    found: dict[str, str] = {}
    request = _number(server, "timeout", where)
    if request is not None:
        found["request"] = f"{int(request)}ms"
        start = min(request, _LONGEST_START)
        if "command" in server and start > parse_duration(INITIALIZE_PROGRAM) * 1000:
            found["initialize"] = f"{int(start)}ms"
    for member, unit in _STARTS.items():
        given = _number(server, member, where)
        if given is None:
            continue
        if unit is None:
            unit = 1000.0 if given < _SECONDS_BELOW else 1.0
        found["initialize"] = f"{int(given * unit)}ms"
    return found


def _number(server: Mapping[str, Any], member: str, where: str) -> float | None:
    given = server.get(member)
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, int | float) or not isfinite(given):
        unit = "seconds" if member.endswith("_sec") else "milliseconds"
        raise ManifestError(f"{where}.{member}: expected a number of {unit}")
    return float(given)
