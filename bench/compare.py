"""Two builds of mcpproxy in one run, taking turns: `make bench-compare BEFORE=PATH`, or

    python -m bench.compare --before PATH [--rounds 7] [--only CASE ...]

PATH is the `mcpproxy` executable of the other build. Prints the median of the ratios of this build
to it, for each case and number of connections; rates above 1 are faster. The exit code is 1 when a
target did not start or a reply was wrong, or when a median is below `--least`.
"""

import argparse
import asyncio
import io
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from bench.cases import CASES, QUICK, Case, Row
from bench.processes import Processes
from bench.report import Result
from bench.run import Bench
from bench.targets import Targets

_CASES: Final = ("call", "call-100k", "call-events", "eras", "sessions", "list-10", "progress")
_BEFORE: Final = " (before)"


def paired(case: Case, program: str) -> Case:
    """The rows of this project in a case, each beside the same one of the other build."""
    rows: list[Row] = []
    for row in case.rows:
        if row.target == "ours" and row.workers is None:
            rows += [row, replace(row, label=row.label + _BEFORE, program=program)]
    return replace(case, rows=tuple(rows))


def ratios(results: Sequence[Result]) -> dict[tuple[str, str, int], list[float]]:
    """Ratios of this build to the other by case, row and connections, one for each round."""
    rates: dict[tuple[str, str, int, int], float] = {}
    for result in results:
        for key, value in result.figures.values.items():
            if key == "calls/s":
                rates[result.case, result.row, result.level, result.round] = value
    actual: dict[tuple[str, str, int], list[float]] = defaultdict(list)
    for (case, row, level, turn), rate in rates.items():
        before = rates.get((case, row + _BEFORE, level, turn))
        if before:
            actual[case, row, level].append(rate / before)
    return actual


async def compare(program: str, rounds: int, only: Sequence[str], least: float) -> int:
    """Measure both builds; 0, or 1 where something was wrong or too slow."""
    cases = [paired(case, program) for case in CASES if case.name in (only or _CASES)]
    slow = False
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        async with Processes(Path(directory)) as processes:
            targets = Targets(processes, {}, Path(directory))
            bench = Bench(processes, targets, replace(QUICK, rounds=rounds), io.BytesIO())
            for case in cases:
                for (name, row, level), result in ratios(await bench.run(case)).items():
                    median = statistics.median(result)
                    slow = slow or median < least
                    spread = f"{min(result):.2f}..{max(result):.2f}"
                    print(f"{name:12} {row:18} c={level:<3} {median:.3f} ({spread})", flush=True)
    for line in bench.errors:
        print(line)
    return 1 if bench.errors or slow else 0


def main() -> int:
    """Compare as the arguments say."""
    parser = argparse.ArgumentParser(description="compare two builds of mcpproxy in one run")
    parser.add_argument("--before", required=True, help="mcpproxy executable of the other build")
    parser.add_argument("--rounds", type=int, default=7, help="%(default)s")
    parser.add_argument("--only", nargs="+", default=[], choices=[case.name for case in CASES])
    parser.add_argument("--least", type=float, default=0.97, help="median ratio (%(default)s)")
    args = parser.parse_args()
    return asyncio.run(compare(args.before, args.rounds, args.only, args.least))


if __name__ == "__main__":
    sys.exit(main())
