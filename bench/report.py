"""Tables of what was measured: medians with spreads, and ratios within a round."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from bench.cases import Case
from bench.figures import Figures

_LIFE: Final = {
    "start s": 2,
    "idle MiB": 1,
    "session KiB": 2,
    "stream KiB": 1,
    "all MiB": 1,
}
"""Figures of a life, and their decimals."""
_TOKENS: Final = {
    "first p50": 2,
    "again p50": 2,
    "added p50": 2,
    "tokens": 0,
    "tokens MiB": 1,
    "one more KiB": 2,
}
"""Figures of tokens, and their decimals."""


@dataclass(frozen=True, slots=True)
class Result:
    """Results of one row in one round."""

    case: str
    row: str
    level: int
    round: int
    figures: Figures


def table(case: Case, results: Sequence[Result]) -> str:
    """The results of a case as a Markdown table."""
    lines = [_cells(_header(case)), _cells("---" for _ in _header(case))]
    for level in case.levels:
        for row in case.rows:
            own = [r for r in results if (r.row, r.level) == (row.label, level)]
            if own:
                lines.append(_cells(_line(case, own, results)))
    return "\n".join(lines)


def _header(case: Case) -> list[str]:
    if case.life or case.tokens:
        return ["target", *_figures_of(case), "errors"]
    if case.rate is not None:
        return ["target", "p50 ms", "p99 ms", "added p50", "added p99", "errors"]
    ratios = [f"× {label}" for label in case.compare]
    cpu = ["calls/CPU s", *ratios] if case.cpu else []
    return ["connections", "target", "calls/s", "p50 ms", "p99 ms", *ratios, *cpu, "errors"]


def _figures_of(case: Case) -> dict[str, int]:
    return _LIFE if case.life else _TOKENS


def _line(case: Case, own: list[Result], results: Sequence[Result]) -> list[str]:
    errors = str(sum(result.figures.errors for result in own))
    name = own[0].row
    if case.life or case.tokens:
        figures = _figures_of(case).items()
        return [name, *(_spread(own, key, digits) for key, digits in figures), errors]
    percentiles = [_spread(own, "p50", 2), _spread(own, "p99", 2)]
    if case.rate is not None:
        added = [_added(own, results, case.compare[0], key) for key in ("p50", "p99")]
        return [name, *percentiles, *added, errors]
    rates = [_spread(own, "calls/s", 0), *percentiles, *_ratios(case, own, results, "calls/s")]
    if case.cpu:
        rates += [_spread(own, "calls/CPU s", 0), *_ratios(case, own, results, "calls/CPU s")]
    return [str(own[0].level), name, *rates, errors]


def _ratios(case: Case, own: list[Result], results: Sequence[Result], key: str) -> list[str]:
    return [_ratio(own, results, label, key) for label in case.compare]


def _cells(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _spread(own: list[Result], key: str, digits: int) -> str:
    """The median, and the least and the greatest of several."""
    results = [result.figures.values[key] for result in own if key in result.figures.values]
    if not results:
        return "–"
    median = _number(statistics.median(results), digits)
    if len(results) == 1:
        return median
    return f"{median} ({_number(min(results), digits)}..{_number(max(results), digits)})"


def _number(value: float, digits: int) -> str:
    """Rates of a few calls a second keep a decimal."""
    return f"{value:.1f}" if digits == 0 and value < 100 else f"{value:.{digits}f}"


def _ratio(own: list[Result], results: Sequence[Result], label: str, key: str) -> str:
    result = paired(own, results, label, key, _quotient)
    if not result or own[0].row == label:
        return "" if own[0].row == label else "–"
    median = statistics.median(result)
    return f"{median:.0f}" if median >= 100 else f"{median:.2f}"


def _added(own: list[Result], results: Sequence[Result], label: str, key: str) -> str:
    result = paired(own, results, label, key, lambda value, other: value - other)
    return "–" if not result or own[0].row == label else f"{statistics.median(result):.2f}"


def _quotient(value: float, other: float) -> float | None:
    return value / other if other else None


def paired(
    own: Iterable[Result],
    results: Sequence[Result],
    label: str,
    key: str,
    compare: Callable[[float, float], float | None],
) -> list[float]:
    """A figure compared with that of the row `label` in the same round and with as many clients."""
    others = {(r.level, r.round): r.figures.values for r in results if r.row == label}
    actual = []
    for result in own:
        other = others.get((result.level, result.round), {})
        if key in result.figures.values and key in other:
            compared = compare(result.figures.values[key], other[key])
            actual += [] if compared is None else [compared]
    return actual


def section(case: Case, results: Sequence[Result]) -> str:
    """A case with its heading."""
    return f"## {case.title}\n\n{case.about}\n\n{table(case, results)}\n"


def document(about: Sequence[str], notes: Sequence[str], sections: Sequence[str]) -> str:
    """docs/performance.md: what was measured where, what was left out, all cases."""
    head = """# Performance

`make bench` writes this page. All processes run on one machine and connect over its loopback
device. The target is pinned to one core; the load generator and the backends share another one. The
targets of a case are measured in turn, round by round. A figure is the median over the rounds, with
the minimum and the maximum in parentheses. A ratio (×) is the median of the ratios within the
rounds. Compare figures within a case only, because load on the machine affects all of its figures.
The id and the content of every response are checked.

- direct: the stub backend itself, on the core of the target.
- nginx: one worker, keep-alive, no buffering. It forwards bytes and does not parse MCP.
- FastMCP: `create_proxy(url)` with its defaults. FastMCP held: one session that stays open.
- mcp-proxy: two processes, because each supports HTTP on one side only.
- mcpproxy and rows without a product name: `mcpproxy run`, with a prefix for every backend.
"""
    bullets = "".join(f"- {line}\n" for line in about)
    left_out = "".join(f"- {line}\n" for line in notes)
    rest = f"\n## Left out\n\n{left_out}" if notes else ""
    return "\n".join([head, f"## Environment\n\n{bullets}{rest}", *sections])
