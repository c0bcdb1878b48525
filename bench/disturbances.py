"""Faults of backends at random times, from a seed.

A backend is killed and started again after a while, stopped and continued, or restarted at once.
One backend at a time is disturbed, so that the others show that they are not affected.
"""

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

Start = Callable[[], Awaitable[asyncio.subprocess.Process]]
PAUSES: Final = (2.0, 10.0)
"""Shortest and longest time between two faults, in seconds."""
OUTAGES: Final = (0.5, 6.0)
"""Shortest and longest duration of a fault, in seconds."""
AFTERMATH: Final = 35.0
"""Seconds after a fault in which its backend may still be refused: the longest pause between two
checks, and the time of calls that were in flight."""


class Disturbances:
    """Faults of the backends of one run."""

    def __init__(self, starts: Mapping[str, Start], seed: int) -> None:
        """`starts` start the process of each backend, by name."""
        self.made: Counter[str] = Counter()
        """Number of faults by kind."""
        self._starts = starts
        self._random = random.Random(seed)
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._until: dict[str, float] = {}
        """Times of the end of the last aftermath, by backend."""

    async def start(self) -> None:
        """Start all backends."""
        for name, start in self._starts.items():
            self._running[name] = await start()

    def concern(self, backend: str) -> bool:
        """Return True if a fault of this backend may still be seen."""
        return time.monotonic() < self._until.get(backend, 0.0)

    @property
    def any_lately(self) -> bool:
        """True if a fault of some backend may still be seen."""
        return any(map(self.concern, self._starts))

    async def run(self, end: float) -> None:
        """Disturb until `end`, in seconds of time.monotonic; then leave all backends running."""
        while True:
            pause = self._random.uniform(*PAUSES)
            if time.monotonic() + pause + OUTAGES[1] + AFTERMATH > end:
                return
            await asyncio.sleep(pause)
            await self._disturb(self._random.choice(sorted(self._starts)))

    async def _disturb(self, backend: str) -> None:
        kind = self._random.choice(("outage", "restart", "stop"))
        seconds = 0.0 if kind == "restart" else self._random.uniform(*OUTAGES)
        self._until[backend] = float("inf")
        process = self._running[backend]
        if kind == "stop":
            process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(seconds)
            process.send_signal(signal.SIGCONT)
        else:
            process.kill()
            await process.wait()
            await asyncio.sleep(seconds)
            self._running[backend] = await self._starts[backend]()
        self.made[kind] += 1
        self._until[backend] = time.monotonic() + AFTERMATH
