"""Supervision of one worker process, with restarts."""

import asyncio
import contextlib
import logging
import pickle
import socket
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import msgspec

from mcpproxy.backoff import Backoff
from mcpproxy.proxy.workers import ipc
from mcpproxy.proxy.workers.ipc import (
    ProbeResult,
    Query,
    QueryResult,
    Reported,
    Started,
    Subject,
    WorkerChannel,
    WorkerStartFailed,
)
from mcpproxy.proxy.workers.worker import WorkerConfig

if TYPE_CHECKING:
    from mcpproxy.api.v1alpha1.status import PodReport

SILENCE: Final = 30.0
"""Seconds without a heartbeat after which a worker is killed, because its event loop hangs."""
STEADY: Final = 60.0
"""Seconds of uptime after which the restart delay is reset."""
LONGEST: Final = 30.0
"""Maximum restart delay in seconds."""
FIRST: Final = 0.1
"""First restart delay in seconds."""
_decoder: Final = msgspec.json.Decoder(ipc.FromWorker)

log = logging.getLogger("mcpproxy.workers")


class WorkerTimeout(Exception):
    """The worker is not running, or did not respond in time."""


class WorkerProcess:
    """Supervisor of one worker process."""

    def __init__(
        self,
        config: WorkerConfig,
        stopping: asyncio.Event,
        *,
        on_report: "Callable[[], None]",
        on_check: "Callable[[WorkerProcess, ProbeResult], None]",
        on_end: "Callable[[WorkerProcess], None]",
        silence: float = SILENCE,
    ) -> None:
        """Create without a process.

        Restarts end once `stopping` is set. `on_end` is called when a worker has exited, before
        `starts` is incremented. For `silence`, see SILENCE.
        """
        self.number = config.number
        self.starts = 0
        self.report: PodReport | None = None
        self.settled = False
        """True once the worker has tried every backend."""
        self.serves = False
        self._on_report = on_report
        self._on_check = on_check
        self._on_end = on_end
        self._config = config
        self._silence = silence
        self._stopping = stopping
        self._process: asyncio.subprocess.Process | None = None
        self._line: WorkerChannel | None = None
        self._queries: dict[int, asyncio.Future[msgspec.Raw]] = {}
        self._last_query = 0

    @property
    def generation(self) -> str:
        """Identifier of the current process, unique among all workers and restarts."""
        return f"{self.number}.{self.starts}"

    async def supervise(self) -> None:
        """Run a worker, and restart it when it exits. Raise WorkerStartFailed."""
        loop = asyncio.get_running_loop()
        backoff = Backoff(FIRST, LONGEST)
        while not self._stopping.is_set():
            self.starts += 1
            started = loop.time()
            served = await self._run_process()
            self._on_end(self)
            if self._stopping.is_set():
                return
            if self.starts == 1 and not served:
                raise WorkerStartFailed(f"cannot start worker {self.number}")
            if loop.time() - started > STEADY:
                backoff.reset()
            delay = backoff.record_failure()
            log.error("worker %d restarts in %g s", self.number, delay)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._stopping.wait()

    async def _run_process(self) -> bool:
        """Run one process until it exits; return True if it has served."""
        try:
            process, line = await self._start_process()
        except OSError as error:
            log.error("worker %d: cannot start a process: %s", self.number, error)
            return False
        served = False
        try:
            while (message := await self._receive(line)) is not None:
                served = served or isinstance(message, Started)
                self._handle(message)
        except TimeoutError:
            log.error("worker %d sent no heartbeat for %g s", self.number, self._silence)
            _kill(process)
        finally:
            self._disconnect(line)
        # The process closes its end of the socket when it exits.
        code = await process.wait()
        if not self._stopping.is_set():
            log.error(
                "worker %d (process %d) exited with status %d", self.number, process.pid, code
            )
        return served

    async def _start_process(self) -> tuple[asyncio.subprocess.Process, WorkerChannel]:
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "mcpproxy.proxy.workers.worker", str(theirs.fileno())),
                pass_fds=[theirs.fileno()],
                stdin=asyncio.subprocess.PIPE,
                # Ctrl-C is for the supervisor, which lets its workers finish.
                start_new_session=True,
            )
        self._process, self._line = process, await ipc.open_channel(ours)
        assert process.stdin is not None
        process.stdin.write(pickle.dumps(self._config))
        process.stdin.close()
        if self._stopping.is_set():
            self.stop()
        return process, self._line

    async def _receive(self, line: WorkerChannel) -> ipc.FromWorker | None:
        async with asyncio.timeout(self._silence):
            return await line.receive(_decoder)

    def _handle(self, message: ipc.FromWorker) -> None:
        if isinstance(message, Started):
            self.serves = True
            assert self._process is not None
            log.info("worker %d is serving (process %d)", self.number, self._process.pid)
        elif isinstance(message, Reported):
            # Only a supervisor validates reports.
            from mcpproxy.api.v1alpha1.status import PodReport

            self.report = PodReport.model_validate_json(bytes(message.report))
            self.settled = message.settled
            self._on_report()
        elif isinstance(message, ProbeResult):
            self._on_check(self, message)
        elif isinstance(message, QueryResult):
            waiting = self._queries.pop(message.number, None)
            if waiting is not None and not waiting.done():
                waiting.set_result(message.value)

    def _disconnect(self, line: WorkerChannel) -> None:
        line.close()
        self._line, self.serves, self.report, self.settled = None, False, None, False
        for waiting in self._queries.values():
            if not waiting.done():
                waiting.set_exception(WorkerTimeout(f"worker {self.number} has exited"))
        self._queries.clear()
        self._on_report()

    def stop(self) -> None:
        """Let the worker finish its calls in flight and exit."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()

    def kill(self) -> None:
        """Kill the worker."""
        if self._process is not None:
            _kill(self._process)

    def send(self, message: ipc.ToWorker) -> None:
        """Send a message to the worker, if it is running."""
        if self._line is not None:
            self._line.send(message)

    async def query(self, subject: Subject, seconds: float, argument: bytes = b"null") -> bytes:
        """Return the worker's response as JSON. Raise WorkerTimeout."""
        if self._line is None:
            raise WorkerTimeout(f"worker {self.number} is starting")
        self._last_query += 1
        number = self._last_query
        waiting = self._queries[number] = asyncio.get_running_loop().create_future()
        self._line.send(Query(number, subject, msgspec.Raw(argument)))
        try:
            async with asyncio.timeout(seconds):
                return bytes(await waiting)
        except TimeoutError:
            raise WorkerTimeout(
                f"no response from worker {self.number} within {seconds:g} s"
            ) from None
        finally:
            self._queries.pop(number, None)


def _kill(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
