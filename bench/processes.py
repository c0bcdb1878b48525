"""Processes of a measurement: pinned to cores, with their own logs, stopped at the end."""

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec

from bench.figures import Figures
from bench.load import GRACE, Calls, Order
from scripts.ports import ports_in_a_row

ROOT: Final = Path(__file__).parent.parent
_STOP: Final = 10.0
"""Seconds that a process may take to end."""


class Processes:
    """Starts processes and stops them all when the block ends."""

    def __init__(self, logs: Path) -> None:
        """`logs` is the directory where each process writes NAME.log."""
        cores = sorted(os.sched_getaffinity(0))
        self.tested, self.others = cores[0], cores[-1]
        """The core of what is measured, and that of the load and the backends."""
        self.pinned = len(cores) > 1 and shutil.which("taskset") is not None
        self._logs = logs
        self._started: list[asyncio.subprocess.Process] = []

    async def __aenter__(self) -> Self:
        """Make the directory of the logs."""
        self._logs.mkdir(parents=True, exist_ok=True)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        """Stop all that was started."""
        await self.stop_all()

    async def start(
        self, name: str, command: Sequence[str], core: int | None, *, piped: bool = False
    ) -> asyncio.subprocess.Process:
        """Start a command on a core, or on any (None). Raises OSError."""
        pin = ["taskset", "-c", str(core)] if self.pinned and core is not None else []
        pipe = asyncio.subprocess.PIPE
        with (self._logs / f"{name}.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *pin,
                *command,
                cwd=ROOT,
                env={**os.environ, "FASTMCP_CHECK_FOR_UPDATES": "off"},
                stdin=pipe if piped else asyncio.subprocess.DEVNULL,
                stdout=pipe if piped else log,
                stderr=log,
            )
        self._started.append(process)
        return process

    async def stop_all(self) -> None:
        """Stop all that was started."""
        await self.stop(*self._started)

    async def stop(self, *processes: asyncio.subprocess.Process) -> None:
        """Stop these, and wait for their end."""
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        for process in processes:
            try:
                async with asyncio.timeout(_STOP):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
            self._started.remove(process)

    def log(self, name: str) -> Path:
        """Return the path of the log of the process of this name."""
        return self._logs / f"{name}.log"


class Load:
    """The process that makes the load; measures one thing at a time."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def measure(self, plan: Order) -> Figures:
        """The figures of one order; an error counts where the load itself fails."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(msgspec.json.encode(plan) + b"\n")
        seconds = plan.warmup + plan.seconds if isinstance(plan, Calls) else 60.0
        try:
            async with asyncio.timeout(seconds + 2 * GRACE):
                line = await stdout.readline()
            return msgspec.json.decode(line, type=Figures)
        except (TimeoutError, msgspec.MsgspecError) as error:
            return Figures({}, 1, f"the load has failed: {type(error).__name__}")


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    return ports_in_a_row(1)
