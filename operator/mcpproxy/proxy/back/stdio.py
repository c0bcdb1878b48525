"""stdio servers: a child process that reads and writes one message a line."""

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Mapping, Sequence
from typing import Final

from mcpproxy.proxy.core.errors import ProcessFailed, Unreachable

log = logging.getLogger("mcpproxy.stdio")

MAX_LINE: Final = 64 * 1024 * 1024
READ: Final = 128 * 1024
"""Bytes that are read at a time; twice as many may wait outside of the pipe."""
GRACE: Final = 2.0
"""Seconds that a process has to end by itself, and again after SIGTERM."""
STDERR_KEPT: Final = 2000


class Lines:
    """The lines of a stream. What nobody asks for yet stays with who writes it."""

    def __init__(self, stream: asyncio.StreamReader) -> None:
        self._stream = stream
        self._buffer = bytearray()

    async def next(self) -> bytes:
        """The next line with its end; empty at the end. Raises ProcessFailed: it is too long."""
        scanned = 0
        while (end := self._buffer.find(b"\n", scanned)) < 0:
            scanned = len(self._buffer)
            _check(scanned)
            chunk = await self._stream.read(READ)
            if not chunk:
                end = scanned
                break
            self._buffer += chunk
        _check(end)
        line = bytes(self._buffer[: end + 1])
        del self._buffer[: end + 1]
        return line


def _check(size: int) -> None:
    if size > MAX_LINE:
        raise ProcessFailed(f"it wrote a line of over {MAX_LINE} bytes")


class StdioChannel:
    """One process. Its stderr is read all the time; only the last of it is kept."""

    answers_late = False

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self._name = name
        self._process = process
        assert process.stdout is not None
        self._lines = Lines(process.stdout)
        self._said = ""
        self._stderr = asyncio.create_task(self._read_stderr())

    async def send(self, body: bytes) -> None:
        """See Channel. A line end inside a message, which JSON has only between tokens, goes."""
        assert self._process.stdin is not None
        line = body.replace(b"\r", b"").replace(b"\n", b"") + b"\n"
        try:
            self._process.stdin.write(line)
            await self._process.stdin.drain()
        except (ConnectionError, RuntimeError):
            raise Unreachable("its process has ended") from None

    async def receive(self) -> bytes | None:
        """See Channel. Lines that are no JSON object are passed over: servers print things."""
        while line := await self._lines.next():
            line = line.strip()
            if line.startswith(b"{"):
                return line
            if line:
                log.info("backend %s wrote a line that is no message", self._name)
        # What it said on its way out explains why.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._stderr), GRACE)
        raise ProcessFailed(self._why())

    def _why(self) -> str:
        code = self._process.returncode
        ended = "its process has ended" + ("" if code is None else f" with status {code}")
        last = self._said.strip().rpartition("\n")[2].strip()
        return f"{ended}: {last[:200]}" if last else ended

    async def _read_stderr(self) -> None:
        assert self._process.stderr is not None
        while chunk := await self._process.stderr.read(4096):
            text = chunk.decode("utf-8", "replace")
            self._said = (self._said + text)[-STDERR_KEPT:]
            log.debug("backend %s: %s", self._name, text.rstrip())

    async def close(self) -> None:
        """See Channel: end of input, then SIGTERM, then SIGKILL to the whole process group."""
        process = self._process
        if process.stdin is not None:
            process.stdin.close()
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
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), GRACE)
            self._stderr.cancel()


async def spawn(
    name: str, command: Sequence[str], env: Mapping[str, str], cwd: str | None
) -> StdioChannel:
    """Start a server in a process group of its own. Raises ProcessFailed."""
    log.info("backend %s: starting %s", name, command[0])
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=dict(env),
            cwd=cwd,
            limit=READ,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise ProcessFailed(f"{command[0]} could not be started: {why}") from None
    return StdioChannel(name, process)
