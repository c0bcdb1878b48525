"""One place in the crew: a worker process, and the next one when it has ended."""

import asyncio
import contextlib
import logging
import pickle
import socket
import sys
from collections.abc import Callable
from typing import Final

import msgspec

from mcpproxy.api.v1alpha1.status import PodReport
from mcpproxy.proxy.workers import ipc
from mcpproxy.proxy.workers.ipc import (
    ProbeResult,
    Query,
    QueryResult,
    Reported,
    Started,
    Subject,
    WorkerChannel,
)
from mcpproxy.proxy.workers.worker import WorkerConfig

SILENCE: Final = 30.0
"""Seconds without a sign of life after which a worker is ended: its event loop hangs."""
STEADY: Final = 60.0
"""Seconds that a worker has to live for its predecessors' ends to be forgotten."""
LONGEST: Final = 30.0
"""Seconds of the longest pause before a worker is started again."""
_FIRST: Final = 0.1
_decoder: Final = msgspec.json.Decoder(ipc.FromWorker)

log = logging.getLogger("mcpproxy.workers")


class WorkerStartFailed(Exception):
    """A worker ended before it served for the first time; its log says why."""


class WorkerTimeout(Exception):
    """The worker is not there, or did not answer in time."""


def restart_delay(ends: int) -> float:
    """Seconds to wait before the next start after so many ends in a row."""
    return min(LONGEST, _FIRST * 2.0 ** min(ends - 1, 20))


class WorkerProcess:
    """Keeps one worker running."""

    def __init__(
        self, setup: WorkerConfig, stopping: asyncio.Event, *, silence: float = SILENCE
    ) -> None:
        """Until `stopping` is set; `silence` in seconds, see SILENCE."""
        self.number = setup.number
        self.starts = 0
        self.report: PodReport | None = None
        self.settled = False
        """Whether the report's worker has tried every backend."""
        self.serves = False
        self.on_report: Callable[[], None] = lambda: None
        self.on_checked: Callable[[ProbeResult], None] = lambda checked: None
        self.on_end: Callable[[], None] = lambda: None
        """Called when a worker has ended, before `starts` is counted up."""
        self._setup = setup
        self._silence = silence
        self._stopping = stopping
        self._process: asyncio.subprocess.Process | None = None
        self._line: WorkerChannel | None = None
        self._asked: dict[int, asyncio.Future[msgspec.Raw]] = {}
        self._questions = 0

    @property
    def life(self) -> str:
        """Names the worker that runs now, from its start to its end."""
        return f"{self.number}.{self.starts}"

    # Starting and watching

    async def keep(self) -> None:
        """Run a worker, and the next one when it ends. Raises WorkerStartFailed."""
        loop = asyncio.get_running_loop()
        ends = 0
        while not self._stopping.is_set():
            self.starts += 1
            started = loop.time()
            served = await self._live()
            self.on_end()
            if self._stopping.is_set():
                return
            if self.starts == 1 and not served:
                raise WorkerStartFailed(f"worker {self.number} could not start")
            ends = 1 if loop.time() - started > STEADY else ends + 1
            rest = restart_delay(ends)
            log.error("worker %d is started again in %g s", self.number, rest)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(rest):
                    await self._stopping.wait()

    async def _live(self) -> bool:
        """From the start of a process to its end; whether it has served."""
        try:
            process, line = await self._started()
        except OSError as error:
            log.error("worker %d: no process: %s", self.number, error)
            return False
        served = False
        try:
            while (message := await self._message(line)) is not None:
                served = served or isinstance(message, Started)
                self._take(message)
        except TimeoutError:
            log.error("worker %d gave no sign of life for %g s", self.number, self._silence)
            _kill(process)
        finally:
            self._forget(line)
        # Its end of the line is closed with the process.
        code = await process.wait()
        if not self._stopping.is_set():
            log.error("worker %d (process %d) ended with %d", self.number, process.pid, code)
        return served

    async def _started(self) -> tuple[asyncio.subprocess.Process, WorkerChannel]:
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "mcpproxy.proxy.workers.worker", str(theirs.fileno())),
                pass_fds=[theirs.fileno()],
                stdin=asyncio.subprocess.PIPE,
                # Ctrl-C is for the parent, which lets its workers finish.
                start_new_session=True,
            )
        self._process, self._line = process, await ipc.opened(ours)
        assert process.stdin is not None
        process.stdin.write(pickle.dumps(self._setup))
        process.stdin.close()
        if self._stopping.is_set():
            self.stop()
        return process, self._line

    async def _message(self, line: WorkerChannel) -> ipc.FromWorker | None:
        async with asyncio.timeout(self._silence):
            return await line.receive(_decoder)

    def _take(self, message: ipc.FromWorker) -> None:
        if isinstance(message, Started):
            self.serves = True
            assert self._process is not None
            log.info("worker %d serves (process %d)", self.number, self._process.pid)
        elif isinstance(message, Reported):
            self.report = PodReport.model_validate_json(bytes(message.report))
            self.settled = message.settled
            self.on_report()
        elif isinstance(message, ProbeResult):
            self.on_checked(message)
        elif isinstance(message, QueryResult):
            waiting = self._asked.pop(message.number, None)
            if waiting is not None and not waiting.done():
                waiting.set_result(message.value)

    def _forget(self, line: WorkerChannel) -> None:
        line.close()
        self._line, self.serves, self.report, self.settled = None, False, None, False
        for waiting in self._asked.values():
            if not waiting.done():
                waiting.set_exception(WorkerTimeout(f"worker {self.number} has ended"))
        self._asked.clear()
        self.on_report()

    def stop(self) -> None:
        """Let the worker finish what is in flight and end."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()

    def kill(self) -> None:
        """End the worker now."""
        if self._process is not None:
            _kill(self._process)

    # Talking to it

    def tell(self, message: ipc.ToWorker) -> None:
        """Say something to the worker, if there is one."""
        if self._line is not None:
            self._line.send(message)

    async def ask(self, subject: Subject, seconds: float) -> bytes:
        """The worker's answer as JSON. Raises WorkerTimeout."""
        if self._line is None:
            raise WorkerTimeout(f"worker {self.number} is being started")
        self._questions += 1
        number = self._questions
        waiting = self._asked[number] = asyncio.get_running_loop().create_future()
        self._line.send(Query(number, subject))
        try:
            async with asyncio.timeout(seconds):
                return bytes(await waiting)
        except TimeoutError:
            raise WorkerTimeout(
                f"worker {self.number} did not answer within {seconds:g} s"
            ) from None
        finally:
            self._asked.pop(number, None)


def _kill(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
