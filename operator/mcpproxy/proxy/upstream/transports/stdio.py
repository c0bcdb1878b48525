"""stdio servers: a child process that reads and writes one message a line."""

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
from mcpproxy.proxy.core.errors import ProcessFailed, ProtocolError, Unreachable
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.fragments import parse_fragment
from mcpproxy.proxy.protocol.jsonrpc import INVALID_REQUEST, RpcError
from mcpproxy.proxy.protocol.lines import LineSplitter, LineTooLong
from mcpproxy.proxy.protocol.tolerance import BOM, quote
from mcpproxy.proxy.upstream.processes.child_processes import before_exec, guardian

log = logging.getLogger("mcpproxy.stdio")

MAX_LINE: Final = limits.PROGRAM_LINE.value
READ: Final = 128 * 1024
"""Bytes that are read at a time; twice as many may wait outside of the pipe."""
GRACE: Final[float] = limits.PROGRAM_END.value
"""Seconds that a process has to end by itself, and again after SIGTERM."""
TURN: Final = 64
"""Lines after which other tasks get a turn."""
ENCODED: Final = 64
"""Bytes of a line that tell whether it is a message."""
UTF_16_MARKS: Final = b"\xff\xfe"
SHOWN: Final = 200
"""Characters of its last words that an error shows."""


class StdioChannel:
    """One process. Its stderr is read all the time; only the last of it is kept."""

    answers_late = False

    def __init__(self, name: str, process: Process, transport: asyncio.SubprocessTransport) -> None:
        self._name = name
        self._process = process
        self._transport = transport
        assert process.stdout is not None
        assert process.stdin is not None
        self._stdin, self._stdout = process.stdin, process.stdout
        self._sending = asyncio.Lock()
        self._lines = LineSplitter(MAX_LINE)
        self._taken = 0
        self._passed_over = 0
        self._last_words = self._printed = ""
        self._stderr = asyncio.create_task(self._read_stderr())

    @property
    def ended(self) -> bool:
        """Whether the process has ended."""
        return self._process.returncode is not None

    async def send(self, body: bytes) -> None:
        """A line end inside a message, which JSON has only between tokens, goes."""
        line = body.replace(b"\r", b"").replace(b"\n", b"") + b"\n"
        within = limits.PROGRAM_INPUT.value
        try:
            async with asyncio.timeout(within), self._sending:
                # Before it, not behind it: what is not read yet is at most one message.
                await self._stdin.drain()
                self._stdin.write(line)
        except TimeoutError:
            limits.PROGRAM_INPUT.record()
            raise Unreachable(f"its process has read no input for {within} s") from None
        except (OSError, RuntimeError):
            raise Unreachable("its process has ended") from None

    async def receive(self) -> bytes | None:
        """Lines that do not begin as messages are passed over: servers print things.

        A batch begins as an array of objects does, and a line of a log with a bracket, too.
        """
        while (line := await self._next()) is not None:
            self._taken += 1
            if self._taken % TURN == 0:
                await asyncio.sleep(0)
            if isinstance(line, LineTooLong):
                limits.PROGRAM_LINE.record()
                if (found := await self._refused(line)) is not None:
                    return found
                continue
            line = line.strip()
            if line.startswith(b"{") or _begins_message(line):
                return line
            if line:
                self._pass_over(line)
        # What it said on its way out explains why.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._stderr), GRACE)
        raise ProcessFailed(self._why())

    async def _next(self) -> bytes | LineTooLong | None:
        """Return the next line; None at the end."""
        while (line := self._lines.next()) is None:
            chunk = await self._stdout.read(READ)
            if not chunk:
                return self._lines.rest() or None
            self._lines.feed(chunk)
        return line

    async def _refused(self, line: LineTooLong) -> bytes | None:
        """Return the response that stands for one that is too long; None if it is for nobody."""
        why = f"it wrote a line of over {MAX_LINE} bytes"
        log.warning("backend %s: %s", self._name, why)
        known = parse_fragment(line.head, line.tail)
        if known.has_method:
            refusal = RpcError(INVALID_REQUEST, f"the line has over {MAX_LINE} bytes")
            if known.id is not None:
                with contextlib.suppress(Unreachable):
                    await self.send(jsonrpc.error_response(known.id, refusal))
            return None
        if known.id is None and not known.is_response:
            return None
        return jsonrpc.error_response(known.id, ProtocolError(why).rpc(self._name))

    def _pass_over(self, line: bytes) -> None:
        """Log the first line that is not a message, and then fewer and fewer of them."""
        self._printed = quote(line)
        self._passed_over += 1
        if self._passed_over.bit_count() == 1:
            number = self._passed_over
            log.info("backend %s wrote a line that is no message (%d so far)", self._name, number)

    def _why(self) -> str:
        code = self._process.returncode
        ended = "its process has ended" + ("" if code is None else f" with status {code}")
        if self._last_words:
            return f"{ended}: {self._last_words}"
        return f"{ended}; it wrote {self._printed}" if self._printed else ended

    async def _read_stderr(self) -> None:
        assert self._process.stderr is not None
        lines = LineSplitter(limits.PROGRAM_ERROR_LINE.value)
        logged = _ByteRate(limits.PROGRAM_ERROR_LINES.value)
        while chunk := await self._process.stderr.read(4096):
            lines.feed(chunk)
            while (line := lines.next()) is not None:
                self._said(line, logged)
            await asyncio.sleep(0)
        self._said(lines.rest(), logged)

    def _said(self, line: bytes | LineTooLong, logged: "_ByteRate") -> None:
        if isinstance(line, LineTooLong):
            limits.PROGRAM_ERROR_LINE.record()
            line = line.head
        text = clean_text(line.decode("utf-8", "replace"), limits.PROGRAM_ERROR_LINE.value).strip()
        if not text:
            return
        self._last_words = clean_text(text, SHOWN)
        if not log.isEnabledFor(logging.DEBUG):
            return
        if logged.allows():
            log.debug("backend %s: %s", self._name, text)
        else:
            limits.PROGRAM_ERROR_LINES.record()

    async def close(self) -> None:
        """See Channel: end of input, then SIGTERM, then SIGKILL to the whole process group."""
        process = self._process
        self._stdin.close()
        try:
            for ending in (signal.SIGTERM, signal.SIGKILL):
                try:
                    await asyncio.wait_for(process.wait(), GRACE)
                    break
                except TimeoutError:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, ending)
        finally:
            # Children of its own may have stayed behind; and a close that is cancelled leaves none.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            guardian.forget(process.pid)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), GRACE)
            self._stderr.cancel()
            # A process that left the group may hold the other ends of the pipes for good.
            self._transport.close()


def _begins_message(line: bytes) -> bool:
    """Return whether a line that does not begin with a bracket is meant as a message all the same.

    It may begin with a byte order mark, be a batch, or be in UTF-16, which is not read but refused.
    """
    begin = line[:ENCODED].removeprefix(BOM).lstrip(UTF_16_MARKS).replace(b"\0", b"").lstrip()
    return begin.startswith(b"{") or (begin.startswith(b"[") and begin[1:].lstrip()[:1] == b"{")


class _ByteRate:
    """So many a second."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._loop = asyncio.get_running_loop()
        self._second = 0
        self._counted = 0

    def allows(self) -> bool:
        """Count one; True if it is within the rate."""
        second = int(self._loop.time())
        if second != self._second:
            self._second, self._counted = second, 0
        self._counted += 1
        return self._counted <= self._number


async def spawn(
    name: str, command: Sequence[str], env: Mapping[str, str], cwd: str | None
) -> StdioChannel:
    """Start a server in a process group of its own. Raises ProcessFailed."""
    log.info("backend %s: starting %s", name, command[0])
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
        why = getattr(error, "strerror", None) or str(error)
        if cwd is not None and getattr(error, "filename", None) == cwd:
            raise ProcessFailed(f"cwd {cwd} can't be entered: {why}") from None
        raise ProcessFailed(f"{command[0]} could not be started: {why}") from None
    guardian.watch(transport.get_pid())
    return StdioChannel(name, Process(transport, protocol, loop), transport)
