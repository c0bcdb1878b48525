"""The benchmark: `make bench`, or

    python -m bench.run [--quick] [--only CASE ...] [--rounds N]

All cases write docs/performance.md; a choice of them, or --quick, prints its tables. The results of
the last run lie in .bench/results.jsonl. The exit code is 1 when a target did not start or a reply
of ours, of nginx or of the backend was wrong, whatever the figures are.
"""

import argparse
import asyncio
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import IO, Final

import msgspec

from bench import peers, place, report
from bench.cases import CASES, FULL, QUICK, SLOW, Case, Effort, Row, quick
from bench.figures import Figures
from bench.load import Calls, Sessions
from bench.peers import NotInstalled
from bench.processes import ROOT, Load, Processes
from bench.report import Result
from bench.targets import CannotStart, Target, Targets
from bench.token_load import Tokens

DOCUMENT: Final = ROOT / "docs" / "performance.md"
RESULTS: Final = peers.CACHE / "results.jsonl"
_LONGER: Final = {16: 2.0, 64: 5.0}
"""Factor by which FastMCP's window is longer if many clients wait for it."""


class Bench:
    """Runs cases, one after the other; the targets of a case take turns."""

    def __init__(
        self, processes: Processes, targets: Targets, effort: Effort, kept: IO[bytes]
    ) -> None:
        """Each result is written to `kept`, too, as a line of JSON."""
        self._kept = kept
        self._processes = processes
        self._targets = targets
        self._effort = effort
        self.errors: list[str] = []
        self.peer_errors: list[str] = []
        """Wrong replies of the proxies of other makers."""

    async def run(self, case: Case) -> list[Result]:
        """The results of a case; what went wrong is in `errors`, too."""
        rows = [row for row in case.rows if not self._targets.lacks(row)]
        print(f"\n{case.name}: {', '.join(row.label for row in rows)}", flush=True)
        command = [sys.executable, "-m", "bench.load"]
        core = self._processes.others
        load = Load(await self._processes.start("load", command, core, piped=True))
        try:
            once = case.life or case.tokens
            return await (self._lives if once else self._calls)(case, rows, load)
        finally:
            await self._processes.stop_all()
            self._targets.forget()

    async def _started(self, case: Case, row: Row) -> Target | None:
        """The target at work; None, and an error, when it does not start."""
        try:
            return await self._targets.start(row)
        except CannotStart as error:
            self._failed(row, f"{case.name}: {error}")
            return None

    def _failed(self, row: Row, error: str) -> None:
        (self.peer_errors if row.target in SLOW else self.errors).append(error)
        print(f"    {error}", flush=True)

    async def _calls(self, case: Case, rows: list[Row], load: Load) -> list[Result]:
        result = await asyncio.gather(*(self._started(case, row) for row in rows))
        targets = [target for target in result if target is not None]
        results: list[Result] = []
        for turn in range(self._effort.rounds):
            first = turn % max(1, len(targets))
            for level in case.levels:
                # Nobody always goes first.
                for target in (*targets[first:], *targets[:first]):
                    if level <= target.row.upto:
                        figures = await load.measure(self._plan(case, target, level))
                        results.append(self._noted(case, target, level, turn, figures))
        return results

    def _plan(self, case: Case, target: Target, level: int) -> Calls:
        row = target.row
        seconds = self._effort.slow_seconds if row.target in SLOW else self._effort.seconds
        if row.target == "fastmcp":
            seconds *= _LONGER.get(level, 1.0)
        return Calls(
            target.url,
            target.tools(case.operation),
            case.operation,
            row.era,
            level,
            seconds if case.rate is None else seconds + 1,
            rate=case.rate,
            listed=row.backend.tools * (row.backends if row.target == "ours" else 1),
            pid=target.process.pid if case.cpu else None,
            token=target.token,
        )

    async def _lives(self, case: Case, rows: list[Row], load: Load) -> list[Result]:
        results: list[Result] = []
        for turn in range(self._effort.rounds):
            for row in rows:
                target = await self._started(case, row)
                if target is None:
                    continue
                order = self._tokens(target) if case.tokens else self._sessions(target)
                figures = await load.measure(order)
                await self._processes.stop(target.process)
                values = {**figures.values, "start s": target.seconds}
                figures = Figures(values, figures.errors, figures.first_error)
                results.append(self._noted(case, target, 1, turn, figures))
        return results

    def _sessions(self, target: Target) -> Sessions:
        effort, slow = self._effort, target.row.target in SLOW
        sessions = effort.peer_sessions if slow else effort.sessions
        streams = effort.peer_streams if slow else effort.streams
        return Sessions(target.url, target.tools("echo"), target.process.pid, sessions, streams)

    def _tokens(self, target: Target) -> Tokens:
        issuer = self._targets.issuer
        path = self._processes.log(f"tokens-{target.process.pid}")
        tokens = (issuer.token(number) for number in range(self._effort.tokens + 1))
        path.write_text("\n".join(tokens), encoding="ascii")
        return Tokens(target.url, target.tools("echo"), target.process.pid, str(path))

    def _noted(self, case: Case, target: Target, level: int, turn: int, figures: Figures) -> Result:
        label = target.row.label
        shown = "  ".join(f"{key} {value:.2f}" for key, value in figures.values.items())
        print(f"  round {turn + 1}  c={level:<3} {label:18} {shown}", flush=True)
        if figures.errors:
            where = f"{case.name}, {label}, {level} connections"
            error = f"{where}: {figures.errors} errors: {figures.first_error}"
            self._failed(target.row, error)
        result = Result(case.name, label, level, turn, figures)
        self._kept.write(msgspec.json.encode(result) + b"\n")
        return result


def _peers(install: bool, notes: list[str]) -> dict[str, Path]:
    """The environments of the peers that are there; a note for each that is not."""
    result: dict[str, Path] = {}
    ways: dict[str, Callable[[bool], Path]] = {
        "fastmcp": peers.fastmcp,
        "mcp-proxy": peers.mcp_proxy,
    }
    for name, way in ways.items():
        try:
            result[name] = way(install)
        except NotInstalled as error:
            notes.append(str(error))
    return result


def _chosen(args: argparse.Namespace) -> list[Case]:
    cases = [case for case in CASES if not args.only or case.name in args.only]
    return [quick(case) for case in cases] if args.quick else cases


async def _measure(args: argparse.Namespace) -> int:
    notes: list[str] = []
    RESULTS.parent.mkdir(exist_ok=True)
    pythons = _peers(not args.quick, notes)
    cases = _chosen(args)
    effort = QUICK if args.quick else FULL
    if args.rounds:
        effort = replace(effort, rounds=args.rounds)
    about = place.described(pythons)
    sections = []
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        async with Processes(Path(directory)) as processes:
            if not processes.pinned:
                notes.append("pinning: it needs two cores and taskset")
            targets = Targets(processes, pythons, Path(directory))
            with RESULTS.open("wb") as kept:
                bench = Bench(processes, targets, effort, kept)
                for case in cases:
                    sections.append(report.section(case, await bench.run(case)))
                    print(f"\n{sections[-1]}", flush=True)
    about.append(f"{effort.rounds} rounds; load average at the end: {place.load_average()}.")
    if not (args.quick or args.only):
        DOCUMENT.write_text(report.document(about, notes, sections), encoding="utf-8")
        print(f"written: {DOCUMENT.relative_to(ROOT)}")
    for line in (*notes, *bench.peer_errors, *bench.errors):
        print(line)
    return 1 if bench.errors else 0


async def _stoppable(args: argparse.Namespace) -> int:
    """Ends on SIGTERM, too, with all processes that were started."""
    work = asyncio.ensure_future(_measure(args))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, work.cancel)
    return await work


def main() -> int:
    """Run the cases that are asked for."""
    parser = argparse.ArgumentParser(description="measure mcpproxy next to nginx and its peers")
    names = [case.name for case in CASES]
    parser.add_argument("--quick", action="store_true", help="one short round, printed only")
    parser.add_argument("--only", action="append", choices=names, help="this case (repeatable)")
    parser.add_argument("--rounds", type=int, help="default: 5, with --quick 1")
    args = parser.parse_args()
    if shutil.which("nginx") is None:
        print("nginx is not installed; the benchmark compares with it (apt-get install nginx)")
        return 2
    try:
        return asyncio.run(_stoppable(args))
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("stopped")
        return 130


if __name__ == "__main__":
    sys.exit(main())
