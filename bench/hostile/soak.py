"""The soak among hostile peers: `make hostile`, or

    python -m bench.hostile.soak [--seconds 300] [--quiet 30] [--seed N] [--untimed]

A well-behaved client of each era calls a well-behaved backend while hostile clients and hostile
backends do to the same proxy whatever they can. Its 99th percentile stays within three times of
that before the attacks, no reply is wrong or missing, memory stays within its bound, and
descriptors return to where they were; otherwise the exit code is 1. With `--untimed` the
percentiles are printed only: a machine that does other work too says nothing about them.
"""

import argparse
import asyncio
import json
import math
import os
import random
import re
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx2

from bench import client, replies, targets
from bench.memory import resident
from bench.messages import Era
from bench.processes import Processes, free_port
from bench.replies import Reply
from bench.stub import Behaviour
from mcpproxy.limits.table import OF_THE_RUNTIME

SLOWER: Final = 3.0
"""Maximum growth of the 99th percentile of a well-behaved client."""
SPARE: Final = 8
"""Descriptors that may be open at the end beyond those at the start."""
_PAUSE: Final = 0.01
_WINDOW: Final = 5.0
"""Seconds."""
_SETTLE: Final = 180.0
"""Seconds in which everything that the attacks have opened ends."""
_ERAS: Final[tuple[Era, ...]] = ("legacy", "modern")
_GOOD: Final = ("good", "own")
_PATH: Final = "/mcp"


def backend(name: str, port: int, **more: object) -> dict[str, object]:
    """Return a backend of the spec, at a port of this machine."""
    return {"name": name, "url": f"http://127.0.0.1:{port}{_PATH}", **more}


async def start_proxy(
    processes: Processes, directory: Path, backends: list[dict[str, object]], port: int, level: str
) -> asyncio.subprocess.Process:
    """Write the manifest of a proxy of these backends, start it, and wait until it is ready.

    `level` is that of its log. Raises TimeoutError.
    """
    # JSON is YAML.
    path = directory / "mcpproxy.yaml"
    path.write_text(json.dumps(targets.manifest_of({"backends": backends})), encoding="utf-8")
    admin = free_port()
    command = [str(Path(sys.executable).with_name("mcpproxy")), "run", "-f", str(path)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--log-level", level]
    command += ["--admin-port", str(admin)]
    process = await processes.start("mcpproxy", command, processes.tested)
    async with asyncio.timeout(targets.START), httpx2.AsyncClient() as http:
        # Another process sets no event.
        while True:
            try:
                answer = await http.get(f"http://127.0.0.1:{admin}/readyz")
                if answer.status_code == 200:
                    return process
            except httpx2.TransportError:
                pass
            await asyncio.sleep(0.1)


@dataclass
class WellBehaved:
    """A client of one era that calls at an even pace."""

    url: str
    era: Era
    seconds: list[tuple[float, float]] = field(default_factory=list)
    """When each call ended, and how long it took."""
    wrong: list[str] = field(default_factory=list)
    _number: int = 0

    async def call_until(self, end: float) -> None:
        """Call one tool after the other; each reply must be the one to its request."""
        connection = await client.connect(self.url)
        requests = client.requests(self.url, self.era)
        if self.era == "legacy":
            await client.begin(connection, requests)
        while time.monotonic() < end:
            self._number += 1
            tool = f"{_GOOD[self._number % len(_GOOD)]}_echo"
            begun = time.perf_counter()
            try:
                request = requests.operation("echo", self._number, tool)
                reply = await connection.exchange(request)
            except TimeoutError:
                reply = Reply(0, b"no reply")
            ended = time.perf_counter()
            self.seconds.append((ended, ended - begun))
            if not replies.is_right("echo", self._number, reply, 0):
                self.wrong.append(f"{self.era} {tool}: {reply.status} {reply.body[:300]!r}")
                await client.close(connection)
                connection = await client.connect(self.url)
            await asyncio.sleep(_PAUSE)
        await client.close(connection)

    def forget_refused(self) -> None:
        """Forget the calls that found no backend: backends start beside the proxy, and may not have
        listened yet."""
        self.wrong[:] = [text for text in self.wrong if "connection refused" not in text]

    def percentile(self, share: float) -> float:
        """The duration that this share of the calls does not exceed, in ms; forgets all.

        The median over windows of 5 s: a pause of the machine itself falls into one of them.
        """
        windows: dict[int, list[float]] = defaultdict(list)
        for ended, duration in self.seconds:
            windows[int(ended / _WINDOW)].append(duration)
        self.seconds.clear()
        ordered = (sorted(window) for window in windows.values())
        return 1000 * statistics.median(item[int((len(item) - 1) * share)] for item in ordered)


class Soak:
    """One run."""

    def __init__(
        self, processes: Processes, directory: Path, seed: int, slower: float = SLOWER
    ) -> None:
        self._processes = processes
        self._slower = slower
        self._directory = directory
        self._seed = seed
        self._port = free_port()
        self._pid = 0
        self.url = f"http://127.0.0.1:{self._port}{_PATH}"
        self.faults: list[str] = []

    async def start(self) -> None:
        """Start backends and proxy, and wait until both well-behaved backends answer."""
        backends: list[dict[str, object]] = []
        for name, sessions, mode in (
            ("good", False, "Isolated"),
            ("own", True, "PerClient"),
            ("shared", True, "Reused"),
        ):
            port = await self._started(name, Behaviour("both", sessions=sessions))
            session = {"mode": mode, **({"stateless": True} if mode == "Reused" else {})}
            backends.append(backend(name, port, session=session))
        for name, flags in (("evil", []), ("cruel", ["--sessions"])):
            port = free_port()
            module = [sys.executable, "-m", "bench.hostile.backend", "--port", str(port)]
            command = [*module, "--seed", str(self._seed), *flags]
            await self._processes.start(name, command, self._processes.others)
            timeouts = {"request": "5s", "connect": "2s", "initialize": "5s", "idle": "20s"}
            more = {"optional": True, "timeouts": timeouts}
            kept = {"mode": "PerClient" if flags else "Isolated"}
            backends.append(backend(name, port, session=kept, **more))
        directory = self._directory
        process = await start_proxy(self._processes, directory, backends, self._port, "warning")
        self._pid = process.pid

    async def _started(self, name: str, behaviour: Behaviour) -> int:
        port = free_port()
        command = targets.stub_command(behaviour, port)
        await self._processes.start(f"stub-{name}", command, self._processes.others)
        return port

    def descriptors(self) -> int:
        """Number of descriptors that the proxy has open."""
        return len(os.listdir(f"/proc/{self._pid}/fd"))

    async def measure(self, clients: list[WellBehaved], seconds: float) -> dict[str, float]:
        """99th percentiles by era after so many seconds, in ms."""
        end = time.monotonic() + seconds
        await asyncio.gather(*(item.call_until(end) for item in clients))
        return {entry.era: entry.percentile(0.99) for entry in clients}

    async def attack(self, clients: list[WellBehaved], seconds: float) -> dict[str, float]:
        """99th percentiles during the attacks, by era, in ms."""
        command = [sys.executable, "-m", "bench.hostile.clients", "--port", str(self._port)]
        command += ["--seconds", str(seconds), "--seed", str(self._seed)]
        process = await self._processes.start(
            "clients", command, self._processes.others, piped=True
        )
        result, _ = await asyncio.gather(
            self.measure(clients, seconds), self._watch_memory(time.monotonic() + seconds)
        )
        assert process.stdout is not None
        made = json.loads(await process.stdout.read() or b"{}")
        print(f"attacks: {made}", flush=True)
        if not made or min(made.values()) == 0:
            self.faults.append("the hostile clients did not attack")
        return result

    async def _watch_memory(self, end: float) -> None:
        largest, bound = 0, self._base + memory_bound()
        while time.monotonic() < end:
            try:
                largest = max(largest, resident(self._pid))
            except OSError:
                self.faults.append("the proxy has ended")
                return
            await asyncio.sleep(0.25)
        print(f"memory: {largest / 2**20:.0f} MiB at most; bound {bound / 2**20:.0f} MiB")
        if largest > bound:
            self.faults.append(f"memory: {largest} bytes, beyond {bound}")

    async def run(self, quiet: float, seconds: float) -> None:
        """Measure, attack, and look at what is left; faults are collected."""
        clients = [WellBehaved(self.url, era) for era in _ERAS]
        await self.measure(clients, min(5.0, quiet))
        for item in clients:
            item.forget_refused()
        self._base, files = resident(self._pid), self.descriptors()
        before = await self.measure(clients, quiet)
        during = await self.attack(clients, seconds)
        for item in clients:
            ratio = during[item.era] / before[item.era]
            print(
                f"{item.era}: p99 {before[item.era]:.1f} ms undisturbed, {during[item.era]:.1f} ms "
                f"under attack: {ratio:.2f} of {self._slower}; {item._number} calls, "
                f"{len(item.wrong)} wrong or lost"
            )
            self.faults += item.wrong[:5]
            if ratio > self._slower:
                self.faults.append(f"{item.era}: p99 is {ratio:.1f} times that before")
        await self._settled(files + SPARE)
        log = self._processes.log("mcpproxy").read_text(encoding="utf-8", errors="replace")
        if "Traceback" in re.sub(r"\\r\\nTraceback", "", log) or '"exception"' in log:
            self.faults.append("the log has a traceback: " + log[-3000:])

    async def _settled(self, files: int) -> None:
        end = time.monotonic() + _SETTLE
        # Another process sets no event.
        while self.descriptors() > files and time.monotonic() < end:  # noqa: ASYNC110
            await asyncio.sleep(0.5)
        left = self.descriptors()
        print(f"descriptors: {left} at the end, {files} permitted", flush=True)
        if left > files:
            self.faults.append(f"{left} descriptors are open; {files} are permitted")


def memory_bound() -> int:
    """Bytes that peers can make one process hold, as the table of limits says."""
    return sum(
        limit.value
        for limit in OF_THE_RUNTIME
        if limit.unit == "bytes" and limit.share == "process"
    )


async def soak(quiet: float, seconds: float, seed: int, slower: float) -> int:
    """Run it; 0, or 1 where a fault was found."""
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="hostile-") as directory:
        async with Processes(Path(directory)) as processes:
            if processes.pinned:
                os.sched_setaffinity(0, {processes.others})
            run = Soak(processes, Path(directory), seed, slower)
            await run.start()
            await run.run(quiet, seconds)
    for fault in run.faults:
        print(fault)
    return 1 if run.faults else 0


def main() -> int:
    """Soak as the arguments say."""
    parser = argparse.ArgumentParser(description="a proxy among hostile peers, on loopback")
    parser.add_argument("--seconds", type=float, default=300.0, help="of attacks (%(default)s)")
    parser.add_argument("--quiet", type=float, default=30.0, help="before them (%(default)s)")
    seed = os.environ.get("SEED") or random.randrange(10**6)
    parser.add_argument("--seed", type=int, default=seed, help="default: $SEED, or a random one")
    parser.add_argument("--untimed", action="store_true", help="print the percentiles only")
    args = parser.parse_args()
    slower = math.inf if args.untimed else SLOWER
    return asyncio.run(soak(args.quiet, args.seconds, args.seed, slower))


if __name__ == "__main__":
    sys.exit(main())
