"""Calls to a healthy backend while calls to another one fail.

    python -m bench.faults [--rounds 7] [--seconds 2] [--clients 8] [--pause 0.1]

One client of each era calls the healthy backend at an even pace: undisturbed, while further clients
call the faulty backend past the proxy, and while they call it through the proxy. Both keep the
machine busy, so that the ratio of the two shows what the proxy adds. Prints the medians of the
ratios of the 99th percentiles within the rounds. Exits with 1 if one exceeds 2 or a call to the
healthy backend fails.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Final, NamedTuple

from bench import targets
from bench.faulty import FAULTS
from bench.hostile.soak import WellBehaved, backend, start_proxy
from bench.messages import Era
from bench.processes import Processes, free_port
from bench.stub import Behaviour

LARGEST: Final = 2.0
"""Maximum growth of the 99th percentile of the calls to the healthy backend."""
REFUSED: Final = "refused"
"""Fault of a backend at whose address nothing listens."""
_ERAS: Final[tuple[Era, ...]] = ("legacy", "modern")
_NICE: Final = ("nice", "-n", "19")
"""Only the proxy may make the healthy calls slower, and not the other programs on their core."""
_ALONE: Final = ("large",)
"""Faults for one client only: more would occupy the processors by themselves."""


async def _start(processes: Processes, directory: Path) -> tuple[str, str]:
    """Start the backends and the proxy; return the URLs of the proxy and the faulty backend."""
    backends: list[dict[str, object]] = []
    for name, sessions, mode in (("good", False, "Isolated"), ("own", True, "PerClient")):
        port = free_port()
        command = targets.stub_command(Behaviour("both", sessions=sessions), port)
        await processes.start(f"stub-{name}", command, processes.others)
        backends.append(backend(name, port, session={"mode": mode}))
    faulty = free_port()
    command = [*_NICE, sys.executable, "-m", "bench.faulty", "--port", str(faulty)]
    await processes.start("faulty", command, processes.others)
    optional = {"optional": True, "timeouts": {"request": "1s", "connect": "1s"}}
    backends.append(backend("faulty", faulty, **optional))
    backends.append(backend(REFUSED, free_port(), **optional))
    port = free_port()
    await start_proxy(processes, directory, backends, port, "error")
    return f"http://127.0.0.1:{port}/mcp", f"http://127.0.0.1:{faulty}/mcp"


class _Calls(NamedTuple):
    """Calls that fail."""

    url: str
    tool: str
    clients: int
    pause: float


class Bench:
    """Percentiles of one run."""

    def __init__(self, processes: Processes, urls: tuple[str, str], seconds: float) -> None:
        """`urls` are those of the proxy and of the faulty backend."""
        url, self._faulty = urls
        self.clients = [WellBehaved(url, era) for era in _ERAS]
        self.calls: dict[str, int] = defaultdict(int)
        """Number of calls that failed, by fault."""
        self.ratios: dict[tuple[str, str], list[float]] = defaultdict(list)
        self.slower: dict[tuple[str, str], list[float]] = defaultdict(list)
        self.undisturbed: dict[str, list[float]] = defaultdict(list)
        self._processes = processes
        self._url = url
        self._seconds = seconds

    async def measure(self) -> dict[str, float]:
        """99th percentiles by era, in ms."""
        end = time.monotonic() + self._seconds
        await asyncio.gather(*(item.call_until(end) for item in self.clients))
        return {item.era: item.percentile(0.99) for item in self.clients}

    async def run_round(self, clients: int, pause: float) -> None:
        """Measure undisturbed, and during each fault."""
        for era, value in (await self.measure()).items():
            self.undisturbed[era].append(value)
        for fault in (*FAULTS, REFUSED):
            count = 1 if fault in _ALONE else clients
            tool = f"{REFUSED}_echo" if fault == REFUSED else f"faulty_{fault}"
            direct = _Calls(self._faulty, fault, count, pause)
            past = None if fault == REFUSED else direct
            before = await self._measure_beside(past)
            during = await self._measure_beside(_Calls(self._url, tool, count, pause), fault)
            for era, value in before.items():
                self.ratios[fault, era].append(during[era] / value)
                self.slower[fault, era].append(during[era] / self.undisturbed[era][-1])

    async def _measure_beside(self, calls: _Calls | None, fault: str = "") -> dict[str, float]:
        """Measure while other clients make these calls, which are counted for the fault."""
        if calls is None:
            return await self.measure()
        command = [*_NICE, sys.executable, "-m", "bench.faulty_calls", calls.url, calls.tool]
        command += [f"--seconds={self._seconds}", f"--clients={calls.clients}"]
        command += [f"--pause={calls.pause}"]
        others = self._processes.others
        calling = await self._processes.start("calls", command, others, piped=True)
        assert calling.stdout is not None
        await calling.stdout.readline()
        during = await self.measure()
        self.calls[fault] += int(await calling.stdout.readline())
        await self._processes.stop(calling)
        return during

    def report(self) -> int:
        """Print the ratios; return 1 if one is too large or a call failed."""
        for era, values in self.undisturbed.items():
            print(f"{era}, undisturbed: p99 {statistics.median(values):.2f} ms")
        worst = 0.0
        for (fault, era), ratios in self.ratios.items():
            ratio = statistics.median(ratios)
            worst = max(worst, ratio)
            spread = f"{min(ratios):.2f}..{max(ratios):.2f}"
            slower = statistics.median(self.slower[fault, era])
            print(
                f"{fault}, {era}: {ratio:.2f} ({spread}), {slower:.2f} of undisturbed,"
                f" {self.calls[fault]} calls failed"
            )
        wrong = [text for item in self.clients for text in item.wrong]
        for text in wrong[:5]:
            print(text)
        idle = [fault for fault, _ in self.ratios if not self.calls[fault]]
        print(f"largest ratio: {worst:.2f} of {LARGEST}; {len(wrong)} wrong or lost")
        return int(worst > LARGEST or bool(wrong or idle))


async def run(args: argparse.Namespace) -> int:
    """Run all rounds; return the exit code."""
    with tempfile.TemporaryDirectory(prefix="faults-") as directory:
        async with Processes(Path(directory)) as processes:
            urls = await _start(processes, Path(directory))
            bench = Bench(processes, urls, args.seconds)
            await bench.measure()
            for item in bench.clients:
                item.forget_refused()
            for _ in range(args.rounds):
                await bench.run_round(args.clients, args.pause)
    return bench.report()


def main() -> int:
    """Run as the arguments say."""
    parser = argparse.ArgumentParser(description="one backend fails, another one is called")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--clients", type=int, default=8, help="of the faulty backend")
    parser.add_argument("--pause", type=float, default=0.1, help="after each of their calls, s")
    return asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
