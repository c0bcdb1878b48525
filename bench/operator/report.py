"""Tables of a measurement of the operator: medians over the rounds, and ratios within a round."""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

Phase = Mapping[str, float]
Value = Callable[["Run"], float | None]


@dataclass(frozen=True, slots=True)
class Run:
    """Results of one round with one number of MCPProxies."""

    size: int
    figures: Mapping[str, Phase]
    """Figures by phase and name."""

    def get(self, phase: str, name: str) -> float | None:
        """Return one figure; None if it was not measured."""
        return self.figures.get(phase, {}).get(name)

    def ratio(self, name: str) -> float | None:
        """Return a figure of the operator as a multiple of that of the script."""
        script, operator = self.get("script", name), self.get("create", name)
        return operator / script if script and operator is not None else None


def _of(phase: str, name: str) -> Value:
    return lambda run: run.get(phase, name)


def _times(name: str) -> Value:
    return lambda run: run.ratio(name)


def _each(phase: str, name: str, factor: float = 1.0) -> Value:
    def value(run: Run) -> float | None:
        figure = run.get(phase, name)
        return None if figure is None else factor * figure / run.size

    return value


ROWS: Final[Sequence[tuple[str, Value, int]]] = (
    ("script: children applied, s", _of("script", "applied s"), 1),
    ("operator: children applied and first statuses written, s", _of("create", "applied s"), 1),
    ("× script", _times("applied s"), 2),
    ("script: all available, s", _of("script", "available s"), 1),
    ("operator: all Ready, s", _of("create", "ready s"), 1),
    ("writes per MCPProxy", _of("create", "writes per proxy"), 2),
    ("reads per MCPProxy", _of("create", "reads per proxy"), 2),
    ("passes per MCPProxy", _of("create", "passes per proxy"), 2),
    ("CPU of the operator per MCPProxy, ms", _each("create", "CPU s", 1000), 1),
    ("CPU of the API server: script, s", _of("script", "API server CPU s"), 1),
    ("CPU of the API server: operator, s", _of("create", "API server CPU s"), 1),
    ("× script", _times("API server CPU s"), 2),
    ("memory of the operator without MCPProxies, MiB", _of("create", "empty MiB"), 0),
    ("with all of them, MiB", _of("create", "MiB"), 0),
    ("peak until then, MiB", _of("create", "peak MiB"), 0),
    ("at rest: cores", _of("idle", "cores"), 3),
    ("at rest: writes", _of("idle", "writes"), 0),
    ("a backend dies: seconds until its status says so", _of("lost backend", "lost s"), 2),
    ("a backend dies: statuses of others written", _of("lost backend", "others"), 0),
    ("restart: ready, s", _of("restart", "ready s"), 1),
    ("restart: CPU until ready, s", _of("restart", "ready CPU s"), 1),
    ("restart: writes", _of("restart", "writes"), 0),
    ("restart: reads per MCPProxy", _each("restart", "reads"), 2),
    ("restart: CPU, s", _of("restart", "CPU s"), 1),
    ("restart: memory, MiB", _of("restart", "MiB"), 0),
)


def document(runs: Sequence[Run]) -> str:
    """Return the table of all runs: one column for each number of MCPProxies."""
    sizes = sorted({run.size for run in runs})
    lines = [_cells(["MCPProxies", *map(str, sizes)]), _cells("---" for _ in ("", *sizes))]
    for label, value, digits in ROWS:
        columns = [
            _cell([value(run) for run in runs if run.size == size], digits) for size in sizes
        ]
        lines.append(_cells([label, *columns]))
    return "\n".join(lines) + "\n"


def _cell(values: Iterable[float | None], digits: int) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    median = f"{statistics.median(known):.{digits}f}"
    if len(known) == 1:
        return median
    return f"{median} ({min(known):.{digits}f}..{max(known):.{digits}f})"


def _cells(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
