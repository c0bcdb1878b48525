"""The soak: `make soak`, or

    python -m bench.soak [--seconds 600] [--clients 32] [--workers 1] [--seed N] [--calm]

Clients of both eras come, call as fast as replies come, and go: with a DELETE, or without a word.
Meanwhile backends are killed, restarted and stopped at random times from a printed seed, one at a
time; `--calm` leaves them alone. Once warm, the resident memory of the proxy's processes is flat
within 5 %, no reply is wrong, and calls fail only at disturbed backends, with an error that says
whether they may have run; else the exit code is 1. `make soak DURATION=3600` takes an hour.
"""

import argparse
import asyncio
import functools
import itertools
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from bench import client, replies, targets
from bench.client import Connection
from bench.disturbances import Disturbances
from bench.memory import resident
from bench.messages import Operation, Requests
from bench.processes import Processes, free_port
from bench.replies import BadReply, Reply
from bench.stub import Behaviour

FLAT: Final = 0.05
"""Maximum growth between the emptiest and the fullest part of the time."""
WARM: Final = 0.25
"""Part of the time that is ignored."""
WINDOWS: Final = 6
_SAMPLES: Final = 60
_RETRY: Final = 0.5
"""Seconds that a client waits after a call that failed."""
_SAYS: Final = b'"mayHaveRun"'
"""Member of errors that says whether a call may have run."""
_TOOLS: Final = 10
_BACKENDS: Final[dict[str, tuple[bool, str]]] = {
    "plain": (False, "Isolated"),
    "fresh": (True, "Isolated"),
    "held": (True, "PerClient"),
}
"""By name: whether the backend gives sessions, and the mode."""
_MIX: Final[tuple[Operation, ...]] = (*(("echo",) * 16), "list", "progress", "large")


class Clients:
    """Comes and goes in a number of places at once."""

    def __init__(self, url: str, end: float, faults: Disturbances | None = None) -> None:
        """Until `end`, in seconds of time.monotonic."""
        self.url, self._end = url, end
        self._faults = faults
        self.lost = 0
        """Number of calls that failed at a backend that was disturbed."""
        self.lives = itertools.count()
        self.calls = 0
        self.errors: list[str] = []

    async def place(self) -> None:
        """One client after the other."""
        for number in self.lives:
            if time.monotonic() >= self._end:
                return
            try:
                await self._live(number)
            except (BadReply, OSError, TimeoutError) as error:
                self.errors.append(f"client {number}: {type(error).__name__}: {error}")

    async def _live(self, number: int) -> None:
        legacy = number % 2 == 0
        connection = await client.connect(self.url)
        streams: list[Connection] = []
        try:
            requests = client.requests(self.url, "legacy" if legacy else "modern")
            if legacy:
                await client.begin(connection, requests)
            if number % 8 == 0:
                streams.append(await self._stream(requests))
            # What is held for a client that goes without a word is kept for a while, as it should.
            stays = number % 4 == 0
            backends = ["plain", "fresh", "held"] if stays else ["plain", "fresh"]
            for call in _calls(number):
                await self._call(connection, requests, call, backends)
            if stays:
                reply = await connection.exchange(requests.delete())
                if reply.status not in (200, 204):
                    raise BadReply("DELETE", reply)
        finally:
            await client.close(connection, *streams)

    async def _stream(self, requests: Requests) -> Connection:
        stream = await client.connect(self.url)
        status = await stream.open_stream(requests.stream())
        if status != 200:
            await client.close(stream)
            raise BadReply("GET", Reply(status, b""))
        return stream

    async def _call(
        self, connection: Connection, requests: Requests, number: int, backends: list[str]
    ) -> None:
        operation = _MIX[number % len(_MIX)]
        tool = "echo" if operation == "list" else operation
        name = f"{backends[number % len(backends)]}_{tool}"
        reply = await connection.exchange(requests.operation(operation, number, name))
        self.calls += 1
        if replies.is_right(operation, number, reply, _TOOLS * len(_BACKENDS)):
            return
        if not self._explains(operation, name, reply):
            raise BadReply(f"{operation} of {name}", reply)
        self.lost += 1
        # As other clients, it waits before it tries again.
        await asyncio.sleep(_RETRY)

    def _explains(self, operation: Operation, name: str, reply: Reply) -> bool:
        """Return True if a fault of a backend explains a reply that has no result."""
        faults = self._faults
        if faults is None or reply.status not in (200, 400, 404):
            return False
        if operation == "list":
            # The list is that of the backends that are left.
            return faults.any_lately
        backend = name.partition("_")[0]
        return faults.concern(backend) and _SAYS in reply.body and b'"result"' not in reply.body


def _calls(number: int) -> Iterator[int]:
    """The numbers of a client's calls; no other client has them."""
    count = random.Random(number).randint(1, 100)
    return iter(range(number * 100 + 1, number * 100 + 1 + count))


def spread(samples: Sequence[float]) -> float:
    """Return the growth between the emptiest and the fullest window once warm; 0.05 is 5 %.

    A window's figure is its median: one sample may fall into the midst of a large answer.
    """
    warm = samples[int(len(samples) * WARM) :]
    size = max(1, len(warm) // WINDOWS)
    windows = [warm[begin : begin + size] for begin in range(0, len(warm) - size + 1, size)]
    medians = [statistics.median(window) for window in windows]
    return max(medians) / min(medians) - 1


async def _proxy(
    processes: Processes, directory: Path, workers: int, seed: int
) -> tuple[str, int, Disturbances]:
    """The proxy's URL and process, and the faults of its backends, which run."""
    backends, starts = [], {}
    for name, (sessions, mode) in _BACKENDS.items():
        port = free_port()
        command = targets.stub_command(Behaviour("both", sessions=sessions, tools=_TOOLS), port)
        starts[name] = functools.partial(processes.start, f"stub-{name}", command, processes.others)
        url = f"http://127.0.0.1:{port}/mcp"
        backends.append({"name": name, "url": url, "session": {"mode": mode}})
    faults = Disturbances(starts, seed)
    await faults.start()
    path = directory / "mcpproxy.yaml"
    # JSON is YAML.
    path.write_text(json.dumps(targets.manifest_of({"backends": backends})), encoding="utf-8")
    port, pin = free_port(), processes.tested if workers == 1 else None
    command = targets.run_command(path, port, workers)
    process = await processes.start("mcpproxy", command, pin)
    return f"http://127.0.0.1:{port}/mcp", process.pid, faults


async def _ready(url: str) -> None:
    """Return when every backend answers through the proxy. Raises TimeoutError."""
    async with asyncio.timeout(targets.START):
        for name in _BACKENDS:
            # Another process's backend sets no event.
            while not await _answers(url, name):  # noqa: ASYNC110
                await asyncio.sleep(0.1)


async def _answers(url: str, backend: str) -> bool:
    try:
        connection = await client.connect(url)
    except OSError:
        return False
    requests = client.requests(url, "modern")
    reply = await connection.exchange(requests.operation("echo", 1, f"{backend}_echo"))
    await client.close(connection)
    return replies.is_right("echo", 1, reply, 0)


async def _watched(clients: Clients, pid: int, seconds: float) -> list[float]:
    """MiB, so often in this time; each is printed."""
    samples, pause, before = [], seconds / _SAMPLES, 0
    for number in range(1, _SAMPLES + 1):
        await asyncio.sleep(pause)
        samples.append(resident(pid) / 2**20)
        rate, before = (clients.calls - before) / pause, clients.calls
        shown = f"{number * pause:6.0f} s  {samples[-1]:6.1f} MiB  {rate:6.0f} calls/s"
        print(f"{shown}  {len(clients.errors)} errors  {clients.lost} lost", flush=True)
    return samples


async def soak(seconds: float, places: int, workers: int, seed: int | None) -> int:
    """Run it; 0, or 1 when memory is not flat or a reply is wrong. Without a seed, no faults."""
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="soak-") as directory:
        async with Processes(Path(directory)) as processes:
            if processes.pinned:
                os.sched_setaffinity(0, {processes.others})
            url, pid, faults = await _proxy(processes, Path(directory), workers, seed or 0)
            await _ready(url)
            end = time.monotonic() + seconds
            clients = Clients(url, end, None if seed is None else faults)
            work = asyncio.gather(*(clients.place() for _ in range(places)))
            disturbing = asyncio.create_task(faults.run(0.0 if seed is None else end))
            samples = await _watched(clients, pid, seconds)
            await asyncio.gather(work, disturbing)
    grown = spread(samples)
    lives = next(clients.lives)
    print(f"{clients.calls} calls of {lives} clients, {len(clients.errors)} errors")
    print(f"faults: {dict(faults.made)}; {clients.lost} calls failed at disturbed backends")
    print(
        f"memory once warm: {grown:.1%} between the emptiest and the fullest part; {FLAT:.0%} may"
    )
    for error in clients.errors[:10]:
        print(error)
    return 1 if clients.errors or grown > FLAT else 0


def main() -> int:
    """Soak as it is asked for."""
    parser = argparse.ArgumentParser(description="clients that come and go, for long")
    parser.add_argument("--seconds", type=float, default=600.0, help="%(default)s")
    parser.add_argument("--clients", type=int, default=32, help="at once (%(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="of the proxy (%(default)s)")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32), help="of the faults")
    parser.add_argument("--calm", action="store_true", help="without faults")
    args = parser.parse_args()
    seed = None if args.calm else args.seed
    return asyncio.run(soak(args.seconds, args.clients, args.workers, seed))


if __name__ == "__main__":
    sys.exit(main())
