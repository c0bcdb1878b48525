"""Standard streams of every kind as asynchronous streams: pipes, sockets, terminals, files.

Each has a thread that waits with poll(2). An event loop can watch neither regular files nor
/dev/null (libuv aborts the process for them). It would also make the open file non-blocking for
every process that shares it, such as the shell or other writers of the same standard error.
"""

import asyncio
import contextlib
import errno
import fcntl
import os
import select
import stat
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

READ: Final = 64 * 1024
"""Size of one read, in bytes."""
AHEAD: Final = 4
"""Number of reads that the thread makes ahead; the pipe holds the rest."""
WRITE: Final = select.PIPE_BUF
"""Size of one write, which a ready pipe accepts without blocking: pipe(7)."""
EMPTY: Final = "standard input is empty; nothing to serve"
_PEER_CLOSED: Final = frozenset({errno.EPIPE, errno.ECONNRESET, errno.EIO})
"""Errors of a stream whose other end is closed; a terminal that hung up gives EIO."""
_ABOVE_STANDARD: Final = 3


class NothingToServe(OSError):
    """Standard input or output is closed, or standard input ended before the first message."""


class OutputFailed(OSError):
    """Standard output fails for a reason other than a closed reader."""


class InputStream:
    """Reading end of a stream. Owns its descriptor."""

    def __init__(self, descriptor: int) -> None:
        """Start the thread. Requires a running loop."""
        self._loop = asyncio.get_running_loop()
        self._descriptor = descriptor
        self._resumed, self._resume = os.pipe()
        self._chunks: deque[bytes | OSError] = deque()
        self._paused = False
        """True while the thread waits until the chunks are taken."""
        self._waiting: asyncio.Future[None] | None = None
        threading.Thread(target=self._run, name="standard input", daemon=True).start()

    async def read(self) -> bytes:
        """Return the next bytes; empty at the end.

        Only one call at a time is allowed. Raise NothingToServe.
        """
        chunk = await self._first_chunk()
        self._chunks.popleft()
        return chunk

    async def require_input(self) -> None:
        """Raise NothingToServe if the stream has ended already; do not wait for a slow client."""
        poller = select.poll()
        poller.register(self._descriptor, select.POLLIN)
        if (self._chunks or poller.poll(0)) and not await self._first_chunk():
            raise NothingToServe(EMPTY)

    async def _first_chunk(self) -> bytes:
        """Return the next bytes without taking them. Raise NothingToServe."""
        while not self._chunks:
            if self._paused:
                self._paused = False
                os.write(self._resume, b"r")
            self._waiting = self._loop.create_future()
            await self._waiting
        chunk = self._chunks[0]
        if isinstance(chunk, OSError):
            raise NothingToServe(f"cannot read standard input: {chunk.strerror}")
        return chunk

    def close(self) -> None:
        """Stop the thread, which closes the descriptor."""
        os.close(self._resume)

    def _run(self) -> None:
        poller = select.poll()
        # Registered without events, because poll(2) always reports a hangup.
        poller.register(self._resumed, 0)
        poller.register(self._descriptor, select.POLLIN)
        number = 0
        while (chunk := self._read_chunk(poller)) is not None:
            number += 1
            is_last = not isinstance(chunk, bytes) or not chunk
            pauses = is_last or number % AHEAD == 0
            _in_loop(self._loop, self._deliver, (chunk, pauses))
            if pauses and not os.read(self._resumed, 1):
                break
        os.close(self._descriptor)
        os.close(self._resumed)

    def _read_chunk(self, poller: select.poll) -> bytes | OSError | None:
        """Return the next bytes, or None if this object was closed."""
        while not any(ready == self._resumed for ready, _ in poller.poll()):
            try:
                return os.read(self._descriptor, READ)
            except BlockingIOError:
                # Another process made the file non-blocking and read the data first.
                continue
            except OSError as error:
                return b"" if is_reader_gone(error) else error
        return None

    def _deliver(self, read: tuple[bytes | OSError, bool]) -> None:
        chunk, self._paused = read
        self._chunks.append(chunk)
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)


class OutputStream:
    """Writing end of a stream. Owns its descriptor."""

    def __init__(self, descriptor: int) -> None:
        """Start the thread. Requires a running loop."""
        self._loop = asyncio.get_running_loop()
        self._descriptor = descriptor
        self._wake_reader, self._wake_writer = os.pipe()
        mode = os.fstat(descriptor).st_mode
        self._nonblocking = hasattr(os, "RWF_NOWAIT") and (
            stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
        )
        self._turn = asyncio.Lock()
        self._written: asyncio.Future[None] | None = None
        self._data = b""
        self.failed: asyncio.Future[OSError] = self._loop.create_future()
        """Completed with the reason when writing fails; a closed reader is one."""
        threading.Thread(target=self._run, name="standard output", daemon=True).start()

    async def write(self, data: bytes) -> None:
        """Write all data, even if the task is cancelled. Raise OSError."""
        await self._turn.acquire()
        if self.failed.done():
            self._turn.release()
            raise self._failure()
        data = self._write_nonblocking(data)
        if not data:
            self._turn.release()
            return
        self._data = data
        written = self._written = self._loop.create_future()
        os.write(self._wake_writer, b"w")
        await asyncio.shield(written)
        if self.failed.done():
            raise self._failure()

    def _write_nonblocking(self, data: bytes) -> bytes:
        """Write without blocking and return the rest. Most messages need no thread."""
        if not self._nonblocking:
            return data
        try:
            return data[os.pwritev(self._descriptor, [data], -1, os.RWF_NOWAIT) :]
        except OSError as error:
            # Linux before 6.5 does not support this for pipes. The thread reports all other errors.
            self._nonblocking = error.errno == errno.EAGAIN
            return data

    def _failure(self) -> OSError:
        error = self.failed.result()
        return OSError(error.errno, error.strerror)

    def close(self) -> None:
        """Stop the thread, which closes the descriptor."""
        os.close(self._wake_writer)

    def _run(self) -> None:
        poller = select.poll()
        poller.register(self._wake_reader, select.POLLIN)
        # Registered without events, because poll(2) always reports errors such as a closed reader.
        poller.register(self._descriptor, 0)
        failure: OSError | None = None
        while (data := self._next_data(poller, failure)) is not None:
            try:
                self._write_all(memoryview(data))
            except OSError as error:
                failure = error
            _in_loop(self._loop, self._finish, failure)
        os.close(self._descriptor)
        os.close(self._wake_reader)

    def _next_data(self, poller: select.poll, failure: OSError | None) -> bytes | None:
        """Return the data to write, or None if this object was closed."""
        if failure is None and all(ready != self._wake_reader for ready, _ in poller.poll()):
            left = BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
            _in_loop(self._loop, self._finish, left)
        return self._data if os.read(self._wake_reader, 1) else None

    def _write_all(self, data: memoryview) -> None:
        poller = select.poll()
        poller.register(self._wake_reader, 0)
        poller.register(self._descriptor, select.POLLOUT)
        while data:
            if any(ready == self._wake_reader for ready, _ in poller.poll()):
                return
            with contextlib.suppress(BlockingIOError):
                data = data[os.write(self._descriptor, data[:WRITE]) :]

    def _finish(self, failure: OSError | None) -> None:
        if failure is not None and not self.failed.done():
            self.failed.set_result(failure)
        self._data = b""
        if self._written is not None:
            self._written.set_result(None)
            self._written = None
            self._turn.release()


def is_reader_gone(error: OSError) -> bool:
    """Return True if an error only means that the other end is closed."""
    return error.errno in _PEER_CLOSED


def _in_loop(loop: asyncio.AbstractEventLoop, call: Any, argument: Any) -> None:
    # Nothing waits on a closed loop.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(call, argument)


@contextmanager
def standard_streams() -> Iterator[tuple[InputStream, OutputStream]]:
    """Use standard input and output for messages only. Raise NothingToServe.

    Until the end, other readers of standard input get nothing, and other output goes to standard
    error. A tool that prints, or a program that it starts, therefore cannot corrupt messages.
    """
    stdin = _descriptor_of(sys.stdin, "standard input")
    stdout = _descriptor_of(sys.stdout, "standard output")
    sys.stdout.flush()
    saved_stdin, saved_stdout = _copy(stdin), _copy(stdout)
    source, output = InputStream(_copy(stdin)), OutputStream(_copy(stdout))
    try:
        _redirect(stdin, stdout)
        yield source, output
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        os.dup2(saved_stdin, stdin)
        os.dup2(saved_stdout, stdout)
        os.close(saved_stdin)
        os.close(saved_stdout)
        source.close()
        output.close()


def _descriptor_of(stream: Any, name: str) -> int:
    """Return the descriptor of a stream of `sys`. Raise NothingToServe."""
    try:
        descriptor: int = stream.fileno()
        os.fstat(descriptor)
    except (AttributeError, OSError, ValueError):
        raise NothingToServe(f"{name} is closed; nothing to serve") from None
    return descriptor


def _copy(descriptor: int) -> int:
    return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _ABOVE_STANDARD)


def _redirect(stdin: int, stdout: int) -> None:
    empty = os.open(os.devnull, os.O_RDWR)
    try:
        os.dup2(empty, stdin)
        try:
            os.dup2(2, stdout)
        except OSError:
            os.dup2(empty, stdout)
    finally:
        os.close(empty)
