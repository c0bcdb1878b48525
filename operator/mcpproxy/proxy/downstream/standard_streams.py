"""Standard streams of every kind as asynchronous streams: pipes, sockets, terminals, files.

Each has a thread, which waits with poll(2). An event loop can watch neither regular files nor
/dev/null (libuv aborts the process for them), and it would make the open file non-blocking for
every process that shares it, such as the shell or whoever writes to the same standard error.
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
"""Bytes of one read."""
AHEAD: Final = 4
"""Reads after which the thread waits until all that was read is taken: the pipe holds the rest."""
WRITE: Final = select.PIPE_BUF
"""Bytes of one write, which a pipe that is ready takes without blocking: pipe(7)."""
_LEFT: Final = frozenset({errno.EPIPE, errno.ECONNRESET, errno.EIO})
"""Errors of a stream whose other end is closed; a terminal that hung up gives EIO."""
_ABOVE_STANDARD: Final = 3


class NothingToServe(OSError):
    """Standard input or output is closed, or standard input ended before the first message."""


class OutputFailed(OSError):
    """Standard output takes no more bytes, for another reason than that its reader left."""


class InputStream:
    """The reading end of a stream. Owns its descriptor."""

    def __init__(self, descriptor: int) -> None:
        """Start the thread. Needs a running loop."""
        self._loop = asyncio.get_running_loop()
        self._descriptor = descriptor
        self._resumed, self._resume = os.pipe()
        self._chunks: deque[bytes | OSError] = deque()
        self._paused = False
        """True while the thread waits until the chunks are taken."""
        self._waiting: asyncio.Future[None] | None = None
        threading.Thread(target=self._run, name="standard input", daemon=True).start()

    async def read(self) -> bytes:
        """Return the next bytes; empty at the end. One call at a time. Raises NothingToServe."""
        while not self._chunks:
            if self._paused:
                self._paused = False
                os.write(self._resume, b"r")
            self._waiting = self._loop.create_future()
            await self._waiting
        chunk = self._chunks.popleft()
        if isinstance(chunk, OSError):
            raise NothingToServe(f"standard input cannot be read: {chunk.strerror}")
        return chunk

    def close(self) -> None:
        """End the thread, which closes the descriptor."""
        os.close(self._resume)

    def _run(self) -> None:
        poller = select.poll()
        # The pipe is registered for its end alone, which poll(2) reports unasked.
        poller.register(self._resumed, 0)
        poller.register(self._descriptor, select.POLLIN)
        number = 0
        while (chunk := self._chunk(poller)) is not None:
            number += 1
            is_last = not isinstance(chunk, bytes) or not chunk
            pauses = is_last or number % AHEAD == 0
            _in_loop(self._loop, self._deliver, (chunk, pauses))
            if pauses and not os.read(self._resumed, 1):
                break
        os.close(self._descriptor)
        os.close(self._resumed)

    def _chunk(self, poller: select.poll) -> bytes | OSError | None:
        """Return the next bytes, or None if the stream was closed here."""
        while not any(ready == self._resumed for ready, _ in poller.poll()):
            try:
                return os.read(self._descriptor, READ)
            except BlockingIOError:
                # Another process made it non-blocking and was faster.
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
    """The writing end of a stream. Owns its descriptor."""

    def __init__(self, descriptor: int) -> None:
        """Start the thread. Needs a running loop."""
        self._loop = asyncio.get_running_loop()
        self._descriptor = descriptor
        self._woken, self._wake = os.pipe()
        mode = os.fstat(descriptor).st_mode
        self._at_once = hasattr(os, "RWF_NOWAIT") and (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode))
        self._turn = asyncio.Lock()
        self._written: asyncio.Future[None] | None = None
        self._data = b""
        self.failed: asyncio.Future[OSError] = self._loop.create_future()
        """Completed with the reason when no more can be written; the reader leaving is one."""
        threading.Thread(target=self._run, name="standard output", daemon=True).start()

    async def write(self, data: bytes) -> None:
        """Write all of it. One that is cancelled is written all the same. Raises OSError."""
        await self._turn.acquire()
        if self.failed.done():
            self._turn.release()
            raise self._failure()
        data = self._write_at_once(data)
        if not data:
            self._turn.release()
            return
        self._data = data
        written = self._written = self._loop.create_future()
        os.write(self._wake, b"w")
        await asyncio.shield(written)
        if self.failed.done():
            raise self._failure()

    def _write_at_once(self, data: bytes) -> bytes:
        """Write what fits now, and return the rest: most messages need no thread."""
        if not self._at_once:
            return data
        try:
            return data[os.pwritev(self._descriptor, [data], -1, os.RWF_NOWAIT) :]
        except OSError as error:
            # Linux before 6.5 can't for pipes. What else is wrong the thread finds as well.
            self._at_once = error.errno == errno.EAGAIN
            return data

    def _failure(self) -> OSError:
        error = self.failed.result()
        return OSError(error.errno, error.strerror)

    def close(self) -> None:
        """End the thread, which closes the descriptor."""
        os.close(self._wake)

    def _run(self) -> None:
        poller = select.poll()
        poller.register(self._woken, select.POLLIN)
        # For errors alone: a pipe whose reader left has one.
        poller.register(self._descriptor, 0)
        failure: OSError | None = None
        while (data := self._asked_for(poller, failure)) is not None:
            try:
                self._write_all(memoryview(data))
            except OSError as error:
                failure = error
            _in_loop(self._loop, self._finish, failure)
        os.close(self._descriptor)
        os.close(self._woken)

    def _asked_for(self, poller: select.poll, failure: OSError | None) -> bytes | None:
        """Return what to write, or None if the stream was closed here."""
        if failure is None and all(ready != self._woken for ready, _ in poller.poll()):
            left = BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
            _in_loop(self._loop, self._finish, left)
        return self._data if os.read(self._woken, 1) else None

    def _write_all(self, data: memoryview) -> None:
        poller = select.poll()
        poller.register(self._woken, 0)
        poller.register(self._descriptor, select.POLLOUT)
        while data:
            if any(ready == self._woken for ready, _ in poller.poll()):
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
    """True if an error of a stream only says that the other end is closed."""
    return error.errno in _LEFT


def _in_loop(loop: asyncio.AbstractEventLoop, call: Any, argument: Any) -> None:
    # A loop that was closed has no one waiting.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(call, argument)


@contextmanager
def standard_streams() -> Iterator[tuple[InputStream, OutputStream]]:
    """Take standard input and output over for messages. Raises NothingToServe.

    Until the end, what else reads standard input finds it empty, and what else prints goes to
    standard error: a tool that prints, and the programs that it starts, do no harm.
    """
    inward = _descriptor_of(sys.stdin, "standard input")
    outward = _descriptor_of(sys.stdout, "standard output")
    sys.stdout.flush()
    taken_in, taken_out = _copy(inward), _copy(outward)
    source, output = InputStream(_copy(inward)), OutputStream(_copy(outward))
    try:
        _divert(inward, outward)
        yield source, output
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        os.dup2(taken_in, inward)
        os.dup2(taken_out, outward)
        os.close(taken_in)
        os.close(taken_out)
        source.close()
        output.close()


def _descriptor_of(stream: Any, name: str) -> int:
    """Return the descriptor of a stream of `sys`. Raises NothingToServe."""
    try:
        descriptor: int = stream.fileno()
        os.fstat(descriptor)
    except (AttributeError, OSError, ValueError):
        raise NothingToServe(f"{name} is closed; nothing to serve") from None
    return descriptor


def _copy(descriptor: int) -> int:
    return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _ABOVE_STANDARD)


def _divert(inward: int, outward: int) -> None:
    empty = os.open(os.devnull, os.O_RDWR)
    try:
        os.dup2(empty, inward)
        try:
            os.dup2(2, outward)
        except OSError:
            os.dup2(empty, outward)
    finally:
        os.close(empty)
