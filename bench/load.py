"""Loads: a closed loop, a fixed rate, and many idle sessions.

    python -m bench.load

reads one order a line from the standard input and writes one line of figures for each, so that a
measurement does not pay for the start of a process.
"""

import asyncio
import statistics
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator

import msgspec

from bench import client
from bench.client import Connection
from bench.figures import Figures
from bench.memory import cpu_seconds, resident
from bench.messages import Era, Operation, Requests
from bench.replies import BadReply, Checker, Reply
from bench.token_load import Tokens, measure_tokens

GRACE = 30.0
"""Seconds that the last replies may take beyond the time of the load."""
_APART = 10_000_019
"""Between the numbers of two connections; a prime, so that they call different tools at a time."""
SETTLE = 0.5
"""Seconds between the last session and the reading of memory."""


class Calls(msgspec.Struct, tag="calls", frozen=True):
    """Call as fast as replies come, or at `rate` calls a second over all connections."""

    url: str
    tools: tuple[str, ...]
    """Names behind this endpoint; the calls take turns."""
    operation: Operation = "echo"
    era: Era = "legacy"
    connections: int = 1
    seconds: float = 1.0
    warmup: float = 0.2
    rate: float | None = None
    listed: int = 0
    """Number of tools in a list."""
    pid: int | None = None
    """A process whose time is looked at, with its descendants."""
    token: str = ""
    """Sent with every request, if there is one."""


class Sessions(msgspec.Struct, tag="sessions", frozen=True):
    """Open idle sessions, then a GET stream for the first ones; read the memory of `pid`."""

    url: str
    tools: tuple[str, ...]
    pid: int
    sessions: int
    streams: int


Order = Calls | Sessions | Tokens


class Tally:
    """Counts the calls of one load; only those that end in its window."""

    def __init__(self, plan: Calls) -> None:
        now = time.perf_counter()
        self._plan = plan
        self._checker = Checker(plan.operation, plan.listed)
        self._begin = now + plan.warmup
        self.end = self._begin + plan.seconds
        self._latencies: list[float] = []
        self._right = 0
        self._used = 0.0 if plan.pid is None else cpu_seconds(plan.pid)
        self._errors = 0
        self._first_error = ""

    def count(self, number: int, begun: float, now: float, reply: Reply) -> None:
        """Count a call that was begun and has ended at these times."""
        if not self._checker.is_right(number, reply):
            self.fail(str(BadReply(self._plan.operation, reply)))
            return
        self._right += 1
        if self._begin <= now < self.end:
            self._latencies.append(now - begun)

    def fail(self, why: str) -> None:
        """Count an error."""
        self._errors += 1
        self._first_error = self._first_error or why

    def figures(self) -> Figures:
        """calls/s, p50 and p99 in ms where a call has ended, calls per second of the process."""
        values = {"calls/s": len(self._latencies) / self._plan.seconds}
        if len(self._latencies) > 1:
            cuts = statistics.quantiles(self._latencies, n=100, method="inclusive")
            values |= {"p50": cuts[49] * 1000, "p99": cuts[98] * 1000}
        if self._plan.pid is not None:
            used = cpu_seconds(self._plan.pid) - self._used
            values["calls/CPU s"] = self._right / max(used, 0.01)
        return Figures(values, self._errors, self._first_error)


class Caller:
    """One connection and one session, calling on and on."""

    def __init__(
        self, connection: Connection, requests: Requests, plan: Calls, tally: Tally, first: int
    ) -> None:
        """Calls are numbered from `first`."""
        self._connection, self._requests = connection, requests
        self._plan, self._tally = plan, tally
        self._number, self._begun = first, 0.0
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Call until the time is over."""
        self._call()
        await self._done

    def once(self, begun: float, after: Callable[[Reply], object]) -> None:
        """One call that is counted from `begun`."""
        self._begun = begun

        def replied(reply: Reply) -> None:
            self._count(reply)
            after(reply)

        self._send(replied)

    def _call(self) -> None:
        self._begun = time.perf_counter()
        self._send(self._replied)

    def _send(self, replied: Callable[[Reply], object]) -> None:
        self._number += 1
        tool = self._plan.tools[self._number % len(self._plan.tools)]
        request = self._requests.operation(self._plan.operation, self._number, tool)
        self._connection.send(request, replied)

    def _count(self, reply: Reply) -> float:
        now = time.perf_counter()
        self._tally.count(self._number, self._begun, now, reply)
        return now

    def _replied(self, reply: Reply) -> None:
        now = self._count(reply)
        if now < self._tally.end and reply.status:
            self._call()
        elif not self._done.done():
            self._done.set_result(None)


async def measure_calls(plan: Calls) -> Figures:
    """Run a closed loop or a fixed rate; errors are counted, not raised."""
    pairs: list[tuple[Connection, Requests]] = []
    try:
        for _ in range(plan.connections):
            pairs.append(
                (await client.connect(plan.url), client.requests(plan.url, plan.era, plan.token))
            )
            if plan.era == "legacy" and plan.operation != "initialize":
                await client.begin(*pairs[-1])
        return await _run(plan, pairs)
    finally:
        await client.close(*(connection for connection, _ in pairs))


async def _run(plan: Calls, pairs: list[tuple[Connection, Requests]]) -> Figures:
    tally = Tally(plan)
    # No number twice, so that a reply that went to another client is seen.
    callers = [Caller(*pair, plan, tally, place * _APART) for place, pair in enumerate(pairs)]
    paced = plan.rate is not None
    run = _paced(plan, tally, callers) if paced else asyncio.gather(*(c.run() for c in callers))
    try:
        async with asyncio.timeout(plan.warmup + plan.seconds + GRACE):
            await run
    except TimeoutError:
        tally.fail(f"no reply within {GRACE:g} s")
    return tally.figures()


async def _paced(plan: Calls, tally: Tally, callers: list[Caller]) -> None:
    """Calls at fixed times; one that finds all connections busy waits, and its wait counts."""
    idle, waiting = deque(callers), deque[float]()
    period = 1 / (plan.rate or 1.0)
    loop = asyncio.get_running_loop()

    all_idle = asyncio.Event()

    def begin(caller: Caller, due: float) -> None:
        caller.once(due, lambda _: begin(caller, waiting.popleft()) if waiting else put(caller))

    def put(caller: Caller) -> None:
        idle.append(caller)
        if len(idle) == len(callers):
            all_idle.set()

    following = loop.time()
    while time.perf_counter() < tally.end:
        following += period
        await asyncio.sleep(following - loop.time())
        # The clock of the loop ticks in milliseconds; its lateness is not the target's.
        now = time.perf_counter()
        if idle:
            all_idle.clear()
            begin(idle.popleft(), now)
        else:
            waiting.append(now)
    await all_idle.wait()


async def measure_sessions(plan: Sessions) -> Figures:
    """Memory in MiB idle, with all sessions, with all streams; KiB for each of them."""
    left = iter(range(plan.sessions))
    opened: list[Requests] = []
    streams: list[Connection] = []
    await _settle()
    idle = resident(plan.pid)
    try:
        await asyncio.gather(*(_open_sessions(plan.url, left, opened) for _ in range(8)))
        await _settle()
        with_sessions = resident(plan.pid)
        for requests in opened[: plan.streams]:
            streams.append(await client.connect(plan.url))
            status = await streams[-1].open_stream(requests.stream())
            if status != 200:
                raise BadReply("GET", Reply(status, b""))
        await _settle()
        with_streams = resident(plan.pid)
        again = Calls(plan.url, plan.tools, seconds=0.2, warmup=0.0)
        after = await measure_calls(again)
    finally:
        await client.close(*streams)
    values = {
        "idle MiB": idle / 2**20,
        "all MiB": with_streams / 2**20,
        "session KiB": (with_sessions - idle) / 1024 / plan.sessions,
        "stream KiB": (with_streams - with_sessions) / 1024 / plan.streams,
    }
    return Figures(values, after.errors, after.first_error)


async def _open_sessions(url: str, left: Iterator[int], opened: list[Requests]) -> None:
    connection = await client.connect(url)
    try:
        for _ in left:
            requests = client.requests(url, "legacy")
            await client.begin(connection, requests)
            opened.append(requests)
    finally:
        await client.close(connection)


async def _settle() -> None:
    await asyncio.sleep(SETTLE)


async def measure(plan: Order) -> Figures:
    """Run one order; whatever goes wrong is in the figures."""
    work: Awaitable[Figures]
    if isinstance(plan, Tokens):
        work = measure_tokens(plan)
    else:
        work = measure_calls(plan) if isinstance(plan, Calls) else measure_sessions(plan)
    try:
        return await work
    except (BadReply, OSError, TimeoutError) as error:
        return Figures({}, 1, f"{type(error).__name__}: {error}")


async def _main() -> None:
    loop = asyncio.get_running_loop()
    decoder = msgspec.json.Decoder(Order)
    while line := await loop.run_in_executor(None, sys.stdin.buffer.readline):
        figures = await measure(decoder.decode(line))
        sys.stdout.buffer.write(msgspec.json.encode(figures) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    import uvloop

    uvloop.run(_main())
