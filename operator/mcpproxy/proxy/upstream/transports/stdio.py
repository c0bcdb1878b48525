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
from mcpproxy.proxy.core.errors import ProcessExited, ProcessFailed, ProtocolError, Unreachable
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
        self._stderr = asyncio.create_task(self._read_stderr())

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
            raise await self._exited() from None

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
                return line
            if line:
                self._log_ignored(line)
        raise await self._exited()

    async def _next_line(self) -> bytes | LineTooLong | None:
        """Return the next line; None at the end."""
        while (line := self._lines.next()) is None:
            chunk = await self._stdout.read(READ)
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
        # The last lines on stderr explain the exit.
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
            lambda: SubprocessStreamProtocol(limit=READ, loop=loop),
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
    return StdioChannel(name, Process(transport, protocol, loop), transport)
