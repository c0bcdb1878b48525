"""Profile of the process for the admin port: where its main thread spends the time.

A thread samples the stack of the event loop's thread. The result is text in the folded format, one
stack and its number of samples in a line, which flame graphs are made from. It contains names of
files and functions, and no values.
"""

import asyncio
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import PurePath
from types import CodeType
from typing import Final

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from mcpproxy.limits.audit import PROFILE_DEPTH, PROFILE_STACKS, PROFILE_TIME
from mcpproxy.pages.security import Visit

INTERVAL: Final = 0.005
"""Seconds between two samples."""
OTHER: Final = "(other)"
"""Stands for the stacks beyond the limit."""
DISABLED: Final = (
    "profiles are disabled; set spec.monitoring.profiling to Enabled and run without --workers"
)
_BUSY: Final = "a profile is being taken; try again later"


class StackSampler:
    """Samples the stack of one thread."""

    def __init__(self, thread: int, clock: Callable[[], float] = time.monotonic) -> None:
        """`thread` is the identifier of the thread."""
        self._clock = clock
        self.stacks: Counter[str] = Counter()
        """Number of samples by stack."""
        self._thread = thread
        self._names: dict[CodeType, str] = {}
        self._stop = threading.Event()

    def stop(self) -> None:
        """End `run` soon."""
        self._stop.set()

    def run(self, seconds: float) -> None:
        """Sample for this time, or until `stop`."""
        # In a busy process, a sample takes longer than the interval.
        end = self._clock() + seconds
        while True:
            self.sample()
            if self._stop.wait(INTERVAL) or self._clock() >= end:
                return

    def sample(self) -> None:
        """Add the current stack."""
        names: list[str] = []
        frame = sys._current_frames().get(self._thread)
        while frame is not None and len(names) < PROFILE_DEPTH.value:
            names.append(self._name(frame.f_code))
            frame = frame.f_back
        if frame is not None:
            PROFILE_DEPTH.record()
        stack = ";".join(reversed(names))
        if stack not in self.stacks and len(self.stacks) >= PROFILE_STACKS.value:
            PROFILE_STACKS.record()
            stack = OTHER
        self.stacks[stack] += 1

    def _name(self, code: CodeType) -> str:
        name = self._names.get(code)
        if name is None:
            file = "/".join(PurePath(code.co_filename).parts[-2:])
            name = f"{file}:{code.co_qualname}".replace(";", ",").replace(" ", "")
            self._names[code] = name
        return name

    def folded(self) -> str:
        """Return the stacks, the most frequent first."""
        return "".join(f"{stack} {count}\n" for stack, count in self.stacks.most_common())


class ProfileEndpoint:
    """Answers GET /profile?seconds=N, one at a time."""

    def __init__(self, *, enabled: bool, anywhere: bool) -> None:
        """`anywhere` admits visitors from other machines."""
        self._enabled, self._anywhere = enabled, anywhere
        self._running: StackSampler | None = None

    def close(self) -> None:
        """End a profile that is being taken."""
        if self._running is not None:
            self._running.stop()

    async def answer(self, request: Request) -> Response:
        """Return the response to a GET."""
        address = request.client.host if request.client else None
        server = request.scope.get("server")
        visit = Visit(address, server[0] if server else None, request.headers.get("host"))
        refused = visit.refusal(anywhere=self._anywhere)
        if refused is not None:
            return PlainTextResponse(refused[1] + "\n", refused[0])
        if not self._enabled:
            return PlainTextResponse(DISABLED + "\n", 404)
        seconds = _seconds(request.query_params.get("seconds", "10"))
        if seconds is None:
            why = f"seconds: expected a whole number from 1 to {PROFILE_TIME.value}"
            return PlainTextResponse(why + "\n", 400)
        if self._running is not None:
            return PlainTextResponse(_BUSY + "\n", 429, {"Retry-After": "10"})
        return PlainTextResponse(await self._profile(seconds))

    async def _profile(self, seconds: int) -> str:
        sampler = self._running = StackSampler(threading.get_ident())
        # Not in the executor, for which the process would wait when it stops.
        thread = threading.Thread(target=sampler.run, args=(seconds,), daemon=True)
        thread.start()
        try:
            # A thread sets no event of the loop.
            while thread.is_alive():  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        finally:
            sampler.stop()
            self._running = None
        return sampler.folded()


def _seconds(text: str) -> int | None:
    if not (text.isascii() and text.isdigit() and len(text) <= 2):
        return None
    seconds = int(text)
    if seconds > PROFILE_TIME.value:
        PROFILE_TIME.record()
        return None
    return seconds or None
