"""The sizing table of docs/operations.md, from the figures in docs/performance.md.

python -m scripts.sizing [--check]
"""

import re
import sys
from typing import Final

from scripts.generated import between, write_or_compare
from scripts.machine import ROOT

MEASURED: Final = ROOT / "docs" / "performance.md"
PAGE: Final = ROOT / "docs" / "operations.md"
BEGIN: Final = "<!-- from performance.md, by make reference -->\n"
END: Final = "<!-- end -->\n"
REQUEST: Final = 0.05
"""Cores that a pod requests by default."""


def figure(text: str, case: str, row: tuple[str, ...], column: str) -> str:
    """Return the median in one cell: of the case with this heading, in the row with these cells.

    Raise ValueError if the cell does not exist.
    """
    section = re.search(rf"^## {re.escape(case)}\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    if section is None:
        raise ValueError(f"{MEASURED.name} has no case {case!r}")
    lines = [line for line in section[1].splitlines() if line.startswith("| ")]
    head, _, *rows = ([cell.strip() for cell in line.strip("| ").split("|")] for line in lines)
    for cells in rows:
        if tuple(cells[: len(row)]) == row:
            return cells[head.index(column)].split()[0]
    raise ValueError(f"{case!r} has no row {' '.join(row)!r}")


def table(text: str) -> str:
    """Return the table, from the text of docs/performance.md."""
    one_core = figure(text, "tools/call, small answers", ("16", "mcpproxy"), "calls/s")
    large = figure(text, "tools/call, answers of 100 KiB", ("16", "mcpproxy"), "calls/s")
    share = figure(text, "tools/call, session modes", ("16", "Isolated"), "× Reused")
    idle, session, stream = (
        figure(text, "Start and memory", ("mcpproxy",), column)
        for column in ("idle MiB", "session KiB", "stream KiB")
    )
    in_part = int(float(one_core) * REQUEST)
    rows = (
        ("small calls, one core, 16 connections", f"{one_core} per second"),
        (
            f"small calls in proportion, with the requested {REQUEST * 1000:.0f}m of a core",
            f"{in_part} per second",
        ),
        ("calls with results of 100 KiB, one core", f"{large} per second"),
        ("throughput of `Isolated` relative to `Reused`", share),
        ("memory of an idle proxy", f"{idle} MiB"),
        ("memory of an idle client session", f"{session} KiB"),
        ("memory of an open stream of changes", f"{stream} KiB"),
    )
    return "| | |\n|---|---|\n" + "".join(f"| {quantity} | {value} |\n" for quantity, value in rows)


def render(page: str, text: str) -> str:
    """Return the page with the table of these figures."""
    return between(page, BEGIN, END, table(text))


def main() -> int:
    """Write the table, or compare it."""
    wanted = render(PAGE.read_text(encoding="utf-8"), MEASURED.read_text(encoding="utf-8"))
    difference = "the sizing in docs/operations.md is not what docs/performance.md says"
    return write_or_compare(PAGE, wanted, difference)


if __name__ == "__main__":
    sys.exit(main())
