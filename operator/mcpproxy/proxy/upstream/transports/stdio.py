"""stdio servers: child processes that read and write one message per line."""

import asyncio
import contextlib
import logging
import os
import signal
from asyncio.subprocess import PIPE, Process, SubprocessStreamProtocol
from collections.abc import Mapping, Sequence
from typing import Final

from mcpproxy.api.untrusted_text import clean_text
from mcpproxy.limits import backends as limits
from mcpproxy.proxy.core.errors import (
    BackendError,
    ProcessExited,
    ProcessFailed,
    ProtocolError,
    Unreachable,
)
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.fragments import parse_fragment
from mcpproxy.proxy.protocol.jsonrpc import INVALID_REQUEST, RpcError
from mcpproxy.proxy.protocol.lines import LineSplitter, LineTooLong
from mcpproxy.proxy.protocol.tolerance import BOM
from mcpproxy.proxy.upstream.processes.child_processes import before_exec, guardian
from mcpproxy.proxy.upstream.processes.last_output import LastOutput

log = logging.getLogger("mcpproxy.stdio")

MAX_LINE: Final = limits.PROGRAM_LINE.value
READ: Final = 128 * 1024
"""Bytes per read; twice as many may be buffered outside of the pipe."""
GRACE: Final[float] = limits.PROGRAM_END.value
"""Seconds that a process has to exit after the end of its input, and again after SIGTERM."""
TURN: Final = 64
"""Lines after which other tasks get a turn."""
ENCODED: Final = 64
"""Bytes at the start of a line that decide whether it is a message."""
UTF_16_MARKS: Final = b"\xff\xfe"
EXITS_WITHIN: Final = 0.5
"""Seconds in which a process that has closed a pipe exits, or else it goes on without the pipe."""
ANSWERS_WITHIN: Final = 2.0
"""Seconds in which a child of a process that has exited answers if it serves in its place."""
_PROBE_ID: Final = "mcpproxy-probe"
_REMEDY: Final = "; install it or, in a cluster, set spec.image to an image that contains it"


class StdioChannel:
    """Channel to one process. Its stderr is read continuously, and its end explains the exit."""

    send_blocks = False

    def __init__(self, name: str, process: Process, transport: asyncio.SubprocessTransport) -> None:
        self._name = name
        self._process = process
        self._transport = transport
        assert process.stdout is not None
        assert process.stdin is not None
        self._stdin, self._stdout = process.stdin, process.stdout
        self._sending = asyncio.Lock()
        self._lines = LineSplitter(MAX_LINE)
        self._lines_read = 0
        self._ignored = 0
        self._is_expected_to_exit = False
        self._last_output = LastOutput()
        self._exit = asyncio.Event()
        """Set once the process has exited."""
        self._is_reading = False
        """True while the program has written nothing more."""
        self._is_probed = False
        """True once a child of the process may have to respond to a probe."""
        self._watch: asyncio.Task[None] | None = None
        self._stderr = asyncio.create_task(self._read_stderr())

    def on_exit(self) -> None:
        """Handle the exit of the process."""
        self._exit.set()
        self.on_input_closed()

    def on_input_closed(self) -> None:
        """Find out, once the process does not read, whether anything else responds."""
        if not self._is_expected_to_exit and self._watch is None:
            self._watch = asyncio.create_task(self._await_response())

    async def _await_response(self) -> None:
        """End the channel unless there is a response.

        A launcher may have exited whose child serves with its pipes. Other children only keep them
        open. A process that has closed its input may respond to what it has read.
        """
        while not self._stdout.at_eof():
            number, self._is_probed = self._lines_read, True
            with contextlib.suppress(BackendError):
                await self.send(jsonrpc.request(_PROBE_ID, "ping"))
            await asyncio.sleep(ANSWERS_WITHIN)
            if self._lines_read != number:
                return
            if self._is_reading:
                self._close_outputs()
                return

    def _close_outputs(self) -> None:
        for descriptor in (1, 2):
            pipe = self._transport.get_pipe_transport(descriptor)
            if pipe is not None:
                pipe.close()

    @property
    def ended(self) -> bool:
        """True if the process has exited."""
        return self._process.returncode is not None

    async def send(self, body: bytes) -> None:
        # JSON has line ends only between tokens, so that removing them keeps the message intact.
        line = body.replace(b"\r", b"").replace(b"\n", b"") + b"\n"
        within = limits.PROGRAM_INPUT.value
        try:
            async with asyncio.timeout(within), self._sending:
                # Before the write, so that at most one message is buffered.
                await self._stdin.drain()
                self._stdin.write(line)
        except TimeoutError:
            limits.PROGRAM_INPUT.record()
            raise Unreachable(f"the process has read no input for {within} s") from None
        except (OSError, RuntimeError):
            # The pipe is closed.
            pass
        if self._stdin.is_closing():
            raise (await self._exited()).unsent()

    async def receive(self) -> bytes | None:
        # Servers also print text. A batch begins as an array of objects does, a log line as any
        # array.
        while (line := await self._next_line()) is not None:
            self._lines_read += 1
            if self._lines_read % TURN == 0:
                await asyncio.sleep(0)
            if isinstance(line, LineTooLong):
                limits.PROGRAM_LINE.record()
                if (response := await self._refuse_long_line(line)) is not None:
                    return response
                continue
            line = line.strip()
            if line.startswith(b"{") or _begins_message(line):
                if self._is_probed and _is_probe_response(line):
                    continue
                return line
            if line:
                self._log_ignored(line)
        raise await self._exited()

    async def _next_line(self) -> bytes | LineTooLong | None:
        """Return the next line; None at the end."""
        while (line := self._lines.next()) is None:
            self._is_reading = True
            chunk = await self._stdout.read(READ)
            self._is_reading = False
            if not chunk:
                return self._lines.rest() or None
            self._lines.feed(chunk)
        return line

    async def _refuse_long_line(self, line: LineTooLong) -> bytes | None:
        """Return an error response for a line that is too long, or None if no request waits for
        it."""
        reason = f"the process wrote a line of more than {MAX_LINE} bytes"
        log.warning("backend %s: %s", self._name, reason)
        fragment = parse_fragment(line.head, line.tail)
        if fragment.has_method:
            refusal = RpcError(INVALID_REQUEST, f"the line has more than {MAX_LINE} bytes")
            if fragment.id is not None:
                with contextlib.suppress(Unreachable):
                    await self.send(jsonrpc.error_response(fragment.id, refusal))
            return None
        if fragment.id is None and not fragment.is_response:
            return None
        return jsonrpc.error_response(fragment.id, ProtocolError(reason).rpc(self._name))

    def _log_ignored(self, line: bytes) -> None:
        """Log the 1st, 2nd, 4th, 8th, … line that is not a message."""
        self._last_output.add_ignored(line)
        self._ignored += 1
        if self._ignored.bit_count() == 1:
            number = self._ignored
            log.info(
                "backend %s wrote a line that is not a message (%d so far)", self._name, number
            )

    async def _exited(self) -> ProcessExited:
        """Return the error for a pipe that is closed.

        A process closes its pipes a moment before it exits, and its last lines on stderr explain
        the exit.
        """
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._exit.wait(), EXITS_WITHIN)
        if not self._exit.is_set():
            pipe = "input" if self._stdin.is_closing() else "output"
            return ProcessExited(f"the process has closed its {pipe}")
        await asyncio.wait((self._stderr,), timeout=GRACE)
        self._log_exit()
        return ProcessExited(self._last_output.explain_exit(self._process.returncode))

    def _log_exit(self) -> None:
        """Log the last lines on stderr once, if nobody asked the process to exit.

        At level debug they are in the log already.
        """
        if self._is_expected_to_exit or log.isEnabledFor(logging.DEBUG):
            return
        self._is_expected_to_exit = True
        for text in self._last_output.latest():
            log.warning("backend %s wrote before it exited: %s", self._name, text)

    async def _read_stderr(self) -> None:
        assert self._process.stderr is not None
        lines = LineSplitter(limits.PROGRAM_ERROR_LINE.value)
        logged = _ByteRate(limits.PROGRAM_ERROR_LINES.value)
        while chunk := await self._process.stderr.read(4096):
            lines.feed(chunk)
            while (line := lines.next()) is not None:
                self._log_stderr(line, logged)
            await asyncio.sleep(0)
        self._log_stderr(lines.rest(), logged)

    def _log_stderr(self, line: bytes | LineTooLong, logged: "_ByteRate") -> None:
        if isinstance(line, LineTooLong):
            limits.PROGRAM_ERROR_LINE.record()
            line = line.head
        text = clean_text(line.decode("utf-8", "replace"), limits.PROGRAM_ERROR_LINE.value).strip()
        if not text:
            return
        self._last_output.add_error(text)
        if not log.isEnabledFor(logging.DEBUG):
            return
        if logged.allows():
            log.debug("backend %s: %s", self._name, text)
        else:
            limits.PROGRAM_ERROR_LINES.record()

    async def close(self) -> None:
        # Close stdin, then SIGTERM, then SIGKILL to the whole process group.
        process = self._process
        self._is_expected_to_exit = True
        if self._watch is not None:
            self._watch.cancel()
        self._stdin.close()
        try:
            for signal_number in (signal.SIGTERM, signal.SIGKILL):
                try:
                    await asyncio.wait_for(process.wait(), GRACE)
                    break
                except TimeoutError:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, signal_number)
        finally:
            # The process may leave children behind, also if this coroutine is cancelled.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            guardian.forget(process.pid)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), GRACE)
            self._stderr.cancel()
            # A process that left the group may hold the other ends of the pipes open.
            self._transport.close()


def _begins_message(line: bytes) -> bool:
    """Return True if a line that does not begin with `{` is meant as a message.

    It may begin with a byte order mark, be a batch, or be in UTF-16, which is refused later.
    """
    begin = line[:ENCODED].removeprefix(BOM).lstrip(UTF_16_MARKS).replace(b"\0", b"").lstrip()
    return begin.startswith(b"{") or (begin.startswith(b"[") and begin[1:].lstrip()[:1] == b"{")


def _is_probe_response(line: bytes) -> bool:
    try:
        message = jsonrpc.decode_object(line)
    except RpcError:
        return False
    return "method" not in message and jsonrpc.decode_str(message.get("id")) == _PROBE_ID


class _ProcessProtocol(SubprocessStreamProtocol):
    """Protocol of a process that tells its channel about the exit and the end of the input.

    `Process.wait` returns only after the pipes are closed, in some versions of Python.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(limit=READ, loop=loop)
        self._has_exited = self._has_closed_input = False
        self._channel: StdioChannel | None = None

    def attach(self, channel: StdioChannel) -> None:
        """Tell this channel, also about what has happened already."""
        self._channel = channel
        self._tell()

    def _tell(self) -> None:
        if self._channel is None:
            return
        if self._has_exited:
            self._channel.on_exit()
        elif self._has_closed_input:
            self._channel.on_input_closed()

    def process_exited(self) -> None:
        super().process_exited()
        self._has_exited = True
        self._tell()

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        super().pipe_connection_lost(fd, exc)
        self._has_closed_input |= fd == 0
        self._tell()


class _ByteRate:
    """Limit of `number` events per second."""

    def __init__(self, number: int) -> None:
        self._limit = number
        self._loop = asyncio.get_running_loop()
        self._second = 0
        self._count = 0

    def allows(self) -> bool:
        """Count one event; True if it is within the rate."""
        second = int(self._loop.time())
        if second != self._second:
            self._second, self._count = second, 0
        self._count += 1
        return self._count <= self._limit


async def spawn(
    name: str, command: Sequence[str], env: Mapping[str, str], cwd: str | None, purpose: str = ""
) -> StdioChannel:
    """Start a server in its own process group. Raises ProcessFailed.

    `purpose` is the rest of the line in the log.
    """
    log.info("backend %s: starting %s%s", name, command[0], purpose)
    loop = asyncio.get_running_loop()
    try:
        transport, protocol = await loop.subprocess_exec(
            lambda: _ProcessProtocol(loop),
            *command,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            env=dict(env),
            cwd=cwd,
            start_new_session=True,
            preexec_fn=before_exec(),
        )
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        if cwd is not None and getattr(error, "filename", None) == cwd:
            raise ProcessFailed(f"cannot use the working directory {cwd}: {reason}") from None
        remedy = _REMEDY if isinstance(error, FileNotFoundError) else ""
        raise ProcessFailed(f"cannot start {command[0]}: {reason}{remedy}") from None
    guardian.watch(transport.get_pid())
    channel = StdioChannel(name, Process(transport, protocol, loop), transport)
    protocol.attach(channel)
    return channel
