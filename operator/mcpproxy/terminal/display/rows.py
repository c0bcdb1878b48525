"""Rows of the table of backends. Pure: from a report to texts without control characters."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from mcpproxy.api.untrusted_text import clean_text
from mcpproxy.api.v1alpha1.status import BackendStatus

MAX_NAME: Final = 40
MAX_NOTE: Final = 300
STARTING: Final = "starting"
"""State of a backend until its first check is complete."""
_FIRST: Final = ("Unhealthy", "Unauthorized", "Degraded", "RateLimited", STARTING, "Healthy")
"""Order of rows, so that problems stay visible on a small screen."""


@dataclass(frozen=True, slots=True)
class BackendLine:
    """One backend in the table."""

    name: str
    state: str
    tools: str
    note: str
    """Cause of the state; empty for a healthy backend without remarks."""


def rows_of(backends: Sequence[BackendStatus]) -> list[BackendLine]:
    """Return the rows of all backends, problems first."""
    rows = [_row(backend) for backend in backends]
    return sorted(rows, key=lambda row: (_FIRST.index(row.state), row.name))


def _row(backend: BackendStatus) -> BackendLine:
    state = STARTING if backend.state == "Unknown" else backend.state
    count = backend.components.tools if backend.components else None
    note = ": ".join(filter(None, [backend.reason, backend.message]))
    return BackendLine(
        clean_text(backend.name, MAX_NAME),
        state,
        "" if count is None else str(count),
        "" if state == STARTING else clean_text(note, MAX_NOTE),
    )


def summarize_rows(rows: Sequence[BackendLine]) -> str:
    """Return the number of healthy backends and of their tools in one line."""
    healthy = sum(row.state == "Healthy" for row in rows)
    tools = sum(int(row.tools) for row in rows if row.tools)
    starting = sum(row.state == STARTING for row in rows)
    text = f"{healthy} of {len(rows)} backends healthy, {tools} tools"
    return f"{text}, {starting} starting" if starting else text


def summarize_rest(rows: Sequence[BackendLine]) -> str:
    """Return the number of rows by state, for rows that the screen has no room for."""
    counts = Counter(row.state for row in rows)
    states = ", ".join(f"{counts[state]} {state}" for state in _FIRST if counts[state])
    return f"and {len(rows)} more: {states}"
