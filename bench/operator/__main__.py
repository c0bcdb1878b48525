"""The measurement of the operator: `make bench-operator`, or

    python -m bench.operator [--sizes 100,1000] [--rounds 1] [--json FILE]

For each number of MCPProxies, a script applies the children of all of them without an operator,
and then an operator makes the same children of the MCPProxies, each in a cluster of its own.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
from contextlib import AsyncExitStack
from datetime import date
from pathlib import Path
from typing import Final

from bench.operator.api import connected
from bench.operator.bare_cluster import Cluster, bare_cluster, missing, operating
from bench.operator.phases import Figures, Phases, install_crd, stub_of_pods
from bench.operator.report import Run, document
from scripts.generated import between

BEGIN: Final = "<!-- measured, by make bench-operator -->\n"
END: Final = "<!-- end -->\n"


def main() -> int:
    """Print the tables; return 1 if this machine lacks something."""
    parser = argparse.ArgumentParser(
        prog="bench.operator", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--sizes", default="100,1000", help="numbers of MCPProxies (100,1000)")
    parser.add_argument("--rounds", type=int, default=1, help="runs of each size (1)")
    parser.add_argument("--idle", type=float, default=60.0, help="seconds of rest (60)")
    parser.add_argument("--json", type=Path, help="file for the figures of each run")
    parser.add_argument("--write", type=Path, help="page between whose marks the table is written")
    parser.add_argument("--skip-plain", action="store_true", help="leave the script out")
    args = parser.parse_args()
    lack = missing()
    if lack is not None:
        sys.stderr.write(f"bench.operator: this machine lacks {lack}\n")
        return 1
    # Processes of the measurement end with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    runs, loads = [], [os.getloadavg()[0]]
    for number in range(args.rounds):
        for size in map(int, args.sizes.split(",")):
            sys.stderr.write(f"round {number + 1}: {size} MCPProxies\n")
            runs.append(asyncio.run(_measure(size, args)))
            loads.append(os.getloadavg()[0])
            if args.json is not None:
                with args.json.open("a") as file:
                    file.write(json.dumps({"size": size, **runs[-1].figures}) + "\n")
    text = document(runs)
    sys.stdout.write(text)
    if args.write is not None:
        page = args.write.read_text(encoding="utf-8")
        about = (
            f"{date.today().isoformat()}, {os.cpu_count()} cores, {args.rounds} round(s), load"
            f" averages around each size {', '.join(f'{load:.0f}' for load in loads)}.\n\n"
        )
        args.write.write_text(between(page, BEGIN, END, about + text), encoding="utf-8")
    return 0


async def _measure(size: int, args: argparse.Namespace) -> Run:
    figures: dict[str, Figures] = {}
    if not args.skip_plain:
        with tempfile.TemporaryDirectory() as name, bare_cluster(Path(name)) as cluster:
            figures["script"] = await _plain(cluster, size)
            _tell(figures["script"])
    with tempfile.TemporaryDirectory() as name, bare_cluster(Path(name)) as cluster:
        figures |= await _operator(cluster, size, args.idle, Path(name) / "operator.log")
    return Run(size, figures)


async def _plain(cluster: Cluster, size: int) -> Figures:
    async with AsyncExitStack() as stack:
        stub = await stack.enter_async_context(stub_of_pods(cluster.kubeconfig))
        api = await stack.enter_async_context(connected(cluster.kubeconfig.read_text()))
        return await Phases(api, cluster, size, stub, _log).plain()


async def _operator(cluster: Cluster, size: int, idle: float, log: Path) -> dict[str, Figures]:
    figures: dict[str, Figures] = {}
    async with AsyncExitStack() as stack:
        stub = await stack.enter_async_context(stub_of_pods(cluster.kubeconfig))
        api = await stack.enter_async_context(connected(cluster.kubeconfig.read_text()))
        await install_crd(api)
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        phases = Phases(api, cluster, size, stub, _log)
        watch = tasks.create_task(phases.watch())
        with operating(cluster, log) as (operator, _):
            _log(f"operator {operator.process.pid}")
            telling = tasks.create_task(phases.tell(operator))
            figures["create"] = await phases.create(operator)
            _tell(figures["create"])
            _tell_warnings(log)
            figures["idle"] = await phases.idle(operator, idle)
            _tell(figures["idle"])
            figures["lost backend"] = await phases.lose_backend(operator)
            _tell(figures["lost backend"])
            telling.cancel()
        with operating(cluster, log) as (operator, ready):
            _log(f"operator {operator.process.pid}")
            figures["restart"] = await phases.restarted(operator, ready)
            _tell(figures["restart"])
        watch.cancel()
    return figures


def _tell(figures: Figures) -> None:
    _log(", ".join(f"{key} {value:.2f}" for key, value in figures.items()))


def _tell_warnings(log: Path) -> None:
    warnings = [line for line in log.read_text().splitlines() if '"level": "info"' not in line]
    for line in warnings[:3]:
        _log(f"  of {len(warnings)} warnings: {line[:500]}")


def _log(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
