"""Many callers with a token each: what a new token adds to a call, and what live tokens occupy."""

import asyncio
import statistics
import time
from pathlib import Path

import msgspec

from bench import client
from bench.client import Connection
from bench.figures import Figures
from bench.memory import resident
from bench.messages import Requests
from bench.replies import Checker

SETTLE = 1.0
"""Seconds between the last call and the reading of memory."""


class Tokens(msgspec.Struct, tag="tokens", frozen=True):
    """Call twice with each token; read the memory of `pid` before and after."""

    url: str
    tools: tuple[str, ...]
    pid: int
    path: str
    """A file with one token a line."""

    def read_tokens(self) -> list[str]:
        """The tokens in the file."""
        return Path(self.path).read_text(encoding="ascii").split()


async def measure_tokens(plan: Tokens) -> Figures:
    """The median time of the first and of the second call with a token, in milliseconds, and the
    memory of all tokens, and of one more when the caches of recent clients are full."""
    tokens = plan.read_tokens()
    connection = await client.connect(plan.url)
    checker, errors, occupied_by_half = Checker("echo", 0), 0, 0
    try:
        # The caches of everything but tokens are warm.
        for number in range(50):
            await _timed(connection, plan, tokens[0], number)
        await asyncio.sleep(SETTLE)
        before = resident(plan.pid)
        first: list[float] = []
        again: list[float] = []
        half = len(tokens) // 2
        for number, token in enumerate(tokens[1:]):
            if number == half:
                await asyncio.sleep(SETTLE)
                occupied_by_half = resident(plan.pid) - before
            for times in (first, again):
                seconds, right = await _timed(connection, plan, token, number, checker)
                times.append(seconds * 1000)
                errors += not right
        await asyncio.sleep(SETTLE)
        occupied = resident(plan.pid) - before
    finally:
        await client.close(connection)
    values = {
        "first p50": statistics.median(first),
        "again p50": statistics.median(again),
        "added p50": statistics.median(first) - statistics.median(again),
        "tokens": len(first),
        "tokens MiB": occupied / 2**20,
        "one more KiB": (occupied - occupied_by_half) / (len(first) - half) / 2**10,
    }
    return Figures(values, errors, "wrong replies" if errors else "")


async def _timed(
    connection: Connection, plan: Tokens, token: str, number: int, checker: Checker | None = None
) -> tuple[float, bool]:
    """Call once; return the seconds, and whether the reply is right."""
    requests: Requests = client.requests(plan.url, "modern", token)
    request = requests.operation("echo", number, plan.tools[0])
    begun = time.perf_counter()
    reply = await connection.exchange(request)
    seconds = time.perf_counter() - begun
    return seconds, checker is None or checker.is_right(number, reply)
