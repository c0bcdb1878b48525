"""Standard streams of every kind, within one process."""

import asyncio
import os
import pty
import select
import socket
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcpproxy.proxy.downstream.standard_streams import (
    AHEAD,
    READ,
    InputStream,
    NothingToServe,
    OutputStream,
)
from tests.proxy.runtime.waiting import soon

CONTENT = b"line\n" * 20_000


async def _all_of(source: InputStream) -> bytes:
    result = b""
    while chunk := await source.read():
        result += chunk
    return result


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Both ends of a pipe, of which a test may close any."""
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            continue


async def test_a_file_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "in"
    path.write_bytes(CONTENT)
    source = InputStream(os.open(path, os.O_RDONLY))
    assert await _all_of(source) == CONTENT
    source.close()


async def test_dev_null_has_an_end_at_once() -> None:
    source = InputStream(os.open(os.devnull, os.O_RDONLY))
    assert await source.read() == b""
    source.close()


async def test_a_stream_that_cannot_be_read_is_reported_with_the_cause(tmp_path: Path) -> None:
    source = InputStream(os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT))
    with pytest.raises(NothingToServe, match="cannot read standard input: Bad file descriptor"):
        await source.read()
    source.close()


async def test_read_ahead_is_bounded_and_the_rest_stays_in_the_pipe() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        source = InputStream(theirs.detach())
        ours.setblocking(False)
        sent = 0

        def is_full() -> bool:
            nonlocal sent
            try:
                sent += ours.send(b"x" * READ)
            except BlockingIOError:
                return len(source._chunks) == AHEAD
            return False

        await soon(is_full, "the thread to stop reading")
        assert source._paused
        received = 0
        while received < sent:
            received += len(await source.read())
            assert len(source._chunks) <= AHEAD
        assert received == sent
        source.close()


async def test_a_descriptor_is_closed_when_its_stream_is(pipe: tuple[int, int]) -> None:
    inward, outward = pipe
    source, output = InputStream(inward), OutputStream(outward)
    source.close()
    output.close()

    def is_closed(descriptor: int) -> bool:
        try:
            os.fstat(descriptor)
        except OSError:
            return True
        return False

    await soon(lambda: is_closed(inward) and is_closed(outward), "the threads to close them")


async def test_the_mode_of_an_open_file_stays_as_it_was(pipe: tuple[int, int]) -> None:
    inward, outward = pipe
    source, output = InputStream(os.dup(inward)), OutputStream(os.dup(outward))
    await output.write(b"x")
    assert await source.read() == b"x"
    assert os.get_blocking(inward)
    assert os.get_blocking(outward)
    source.close()
    output.close()


async def test_all_output_is_written_to_a_file(tmp_path: Path) -> None:
    path = tmp_path / "out"
    output = OutputStream(os.open(path, os.O_WRONLY | os.O_CREAT))
    await asyncio.gather(*(output.write(b"%d\n" % number) for number in range(100)))
    output.close()
    assert path.read_bytes() == b"".join(b"%d\n" % number for number in range(100))


async def test_a_cancelled_write_of_a_message_completes(pipe: tuple[int, int]) -> None:
    inward, outward = pipe
    output = OutputStream(os.dup(outward))
    writing = asyncio.create_task(output.write(CONTENT))
    await soon(lambda: select.select([inward], [], [], 0)[0], "the first bytes")
    writing.cancel()
    behind = asyncio.create_task(output.write(b"behind\n"))
    source = InputStream(os.dup(inward))
    result = b""
    while not result.endswith(b"behind\n"):
        result += await source.read()
    assert result == CONTENT + b"behind\n"
    await behind
    assert writing.cancelled()
    source.close()
    output.close()


async def test_a_reader_that_leaves_an_idle_stream_is_noticed(pipe: tuple[int, int]) -> None:
    inward, outward = pipe
    output = OutputStream(os.dup(outward))
    os.close(inward)
    assert isinstance(await output.failed, BrokenPipeError)
    for _ in range(2):
        with pytest.raises(BrokenPipeError):
            await output.write(b"x")
    output.close()


async def test_a_reader_that_leaves_in_mid_message_is_noticed() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        output = OutputStream(theirs.detach())
        writing = asyncio.create_task(output.write(b"x" * 10_000_000))
        await asyncio.get_running_loop().run_in_executor(None, ours.recv, 1)
    with pytest.raises(OSError, match=r"Broken pipe|reset"):
        await writing
    output.close()


async def test_a_full_disk_is_an_error() -> None:
    output = OutputStream(os.open("/dev/full", os.O_WRONLY))
    with pytest.raises(OSError, match="No space left"):
        await output.write(b"x")
    output.close()


async def test_a_terminal_is_a_stream() -> None:
    ours, theirs = pty.openpty()
    mode = termios.tcgetattr(theirs)
    mode[3] &= ~termios.ECHO
    termios.tcsetattr(theirs, termios.TCSANOW, mode)
    source, output = InputStream(os.dup(theirs)), OutputStream(theirs)
    os.write(ours, b"in\n\x04")
    assert await _all_of(source) == b"in\n"
    await output.write(b"out\n")
    assert os.read(ours, 100) == b"out\r\n"
    os.close(ours)
    source.close()
    output.close()
