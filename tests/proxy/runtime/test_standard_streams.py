"""`mcpproxy run` with standard streams of every kind: real processes, real descriptors."""

import asyncio
import contextlib
import functools
import json
import os
import pty
import signal
import socket
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pytest

from mcpproxy.limits import clients as limits
from tests.proxy.runtime.serving import LIVE
from tests.proxy.runtime.waiting import eventually, soon

pytestmark = [*LIVE, pytest.mark.slow]
COMMAND = str(Path(sys.executable).with_name("mcpproxy"))
PROGRAM = """
import json, sys

for line in sys.stdin:
    got = json.loads(line)
    method, found = got.get("method"), {}
    if method == "initialize":
        found = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
            "serverInfo": {"name": "p", "version": "1"}}
    elif method == "tools/list":
        found = {"tools": [{"name": "t", "inputSchema": {"type": "object"}}]}
    elif method == "tools/call":
        found = {"content": [{"type": "text", "text": str(got["params"]["arguments"]["n"])}]}
    if "id" in got:
        print(json.dumps({"jsonrpc": "2.0", "id": got["id"], "result": found}), flush=True)
"""
CALLS = 12
EMPTY = "standard input is empty; nothing to serve. For HTTP: --transport http"


@pytest.fixture
def program(tmp_path: Path) -> str:
    """A stdio server."""
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return str(path)


def _requests() -> bytes:
    """Lines of a client that waits for nothing; the last one has no end."""
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "c"}}
    messages: list[dict[str, Any]] = [
        {"id": 0, "method": "initialize", "params": params},
        {"method": "notifications/initialized"},
    ]
    for number in range(1, CALLS + 1):
        call = {"name": "t", "arguments": {"n": number}}
        messages.append({"id": number, "method": "tools/call", "params": call})
    return b"\n".join(json.dumps({"jsonrpc": "2.0", **m}).encode() for m in messages)


def _check(answers: bytes) -> None:
    """Every call has its answer, and whatever else is there is a notification."""
    messages = [json.loads(line) for line in answers.splitlines()]
    result = {message["id"]: message for message in messages if "method" not in message}
    assert sorted(result) == list(range(CALLS + 1))
    texts = [result[n]["result"]["content"][0]["text"] for n in range(1, CALLS + 1)]
    assert texts == [str(n) for n in range(1, CALLS + 1)]


async def _ran(
    *arguments: str, stdin: int, stdout: int, shell: str = ""
) -> tuple[int | None, bytes, bytes]:
    """Run to the end: the exit code, what it wrote, and its standard error."""
    command = [COMMAND, "run", *arguments]
    if shell:
        command = ["/bin/sh", "-c", f'exec "$@" {shell}', "sh", *command]
    process = await asyncio.create_subprocess_exec(
        *command, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE
    )
    try:
        out, errors = await asyncio.wait_for(process.communicate(), 40)
    except TimeoutError:
        process.kill()
        raise
    assert b"Traceback" not in errors
    return process.returncode, out or b"", errors


async def test_a_file_of_requests_is_answered_into_a_file(program: str, tmp_path: Path) -> None:
    requests, answers = tmp_path / "requests.jsonl", tmp_path / "answers.jsonl"
    requests.write_bytes(_requests())
    with requests.open("rb") as inward, answers.open("wb") as outward:
        code, _, _ = await _ran(program, stdin=inward.fileno(), stdout=outward.fileno())
    assert code == 0
    _check(answers.read_bytes())


async def test_a_file_of_requests_is_answered_into_a_pipe(program: str, tmp_path: Path) -> None:
    requests = tmp_path / "requests.jsonl"
    requests.write_bytes(_requests())
    with requests.open("rb") as inward:
        code, out, _ = await _ran(program, stdin=inward.fileno(), stdout=subprocess.PIPE)
    assert code == 0
    _check(out)


async def test_one_socket_carries_both_ways(program: str) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        running = asyncio.create_task(_ran(program, stdin=theirs.fileno(), stdout=theirs.fileno()))
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        await asyncio.sleep(0)
        writer.write(_requests())
        writer.write_eof()
        lines = [await asyncio.wait_for(reader.readline(), 30) for _ in range(CALLS + 1)]
        code, _, _ = await running
    writer.close()
    await writer.wait_closed()
    assert code == 0
    _check(b"".join(lines))


@pytest.mark.parametrize("stdout", ["/dev/null", "file", "pipe"])
async def test_input_from_dev_null_ends_the_command_with_one_line(
    program: str, tmp_path: Path, stdout: str
) -> None:
    with contextlib.ExitStack() as stack:
        outward = subprocess.PIPE
        if stdout != "pipe":
            path = Path(stdout) if stdout.startswith("/") else tmp_path / stdout
            outward = stack.enter_context(path.open("wb")).fileno()
        code, out, errors = await _ran(program, stdin=subprocess.DEVNULL, stdout=outward)
    assert (code, out) == (2, b"")
    # No server was started.
    assert errors.decode().splitlines() == [f"mcpproxy run: {EMPTY}"]


async def test_input_that_cannot_be_read_ends_the_command_before_a_server_is_started(
    program: str,
) -> None:
    # So does nohup at a terminal.
    unreadable = os.open(os.devnull, os.O_WRONLY)
    code, out, errors = await _ran(program, stdin=unreadable, stdout=subprocess.PIPE)
    os.close(unreadable)
    assert (code, out) == (2, b"")
    sentence = "cannot read standard input: Bad file descriptor. For HTTP: --transport http"
    assert errors.decode().splitlines() == [f"mcpproxy run: {sentence}"]


async def test_a_client_that_writes_later_finds_the_server_started(program: str) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        command = (COMMAND, "run", program)
        process = await asyncio.create_subprocess_exec(
            *command, stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=subprocess.PIPE
        )
    assert process.stderr is not None
    line = await asyncio.wait_for(process.stderr.readline(), 30)
    assert b"starting" in line
    ours.close()
    await asyncio.wait_for(process.communicate(), 30)


@pytest.mark.parametrize(
    ("shell", "sentence"),
    [
        ("<&-", "standard input is closed; nothing to serve. For HTTP: --transport http"),
        (">&-", "standard output is closed; nothing to serve. For HTTP: --transport http"),
        ("<&- >&-", "standard input is closed; nothing to serve. For HTTP: --transport http"),
    ],
)
async def test_a_closed_stream_ends_the_command_with_one_line(
    program: str, shell: str, sentence: str
) -> None:
    pipe = subprocess.PIPE
    code, out, errors = await _ran(program, stdin=pipe, stdout=pipe, shell=shell)
    assert (code, out) == (2, b"")
    assert errors.decode().splitlines()[-1] == f"mcpproxy run: {sentence}"


async def test_a_closed_standard_error_changes_nothing(program: str, tmp_path: Path) -> None:
    requests = tmp_path / "requests.jsonl"
    requests.write_bytes(_requests())
    with requests.open("rb") as inward:
        code, out, _ = await _ran(
            program, stdin=inward.fileno(), stdout=subprocess.PIPE, shell="2>&-"
        )
    assert code == 0
    _check(out)
    with requests.open("rb") as inward:
        code, out, _ = await _ran(
            *("run-no-such.py",), stdin=inward.fileno(), stdout=subprocess.PIPE, shell="2>&-"
        )
    assert (code, out) == (2, b"")


async def test_a_full_disk_ends_the_command_with_one_line(program: str, tmp_path: Path) -> None:
    requests = tmp_path / "requests.jsonl"
    requests.write_bytes(_requests())
    outward = os.open("/dev/full", os.O_WRONLY)
    with requests.open("rb") as inward:
        code, _, errors = await _ran(program, stdin=inward.fileno(), stdout=outward)
    os.close(outward)
    assert code == 1
    assert (
        errors.decode()
        .splitlines()[-1]
        .endswith("cannot write standard output: No space left on device")
    )


async def test_a_client_on_a_terminal_is_served_until_the_end_of_its_input(program: str) -> None:
    ours, theirs = pty.openpty()
    mode = termios.tcgetattr(theirs)
    mode[3] &= ~termios.ECHO
    termios.tcsetattr(theirs, termios.TCSANOW, mode)
    running = asyncio.create_task(_ran(program, stdin=theirs, stdout=theirs))
    loop = asyncio.get_running_loop()
    os.write(ours, b'{"jsonrpc":"2.0","id":1,"method":"ping"}\n')
    answer = await asyncio.wait_for(loop.run_in_executor(None, os.read, ours, 4096), 20)
    assert json.loads(answer) == {"jsonrpc": "2.0", "id": 1, "result": {}}
    os.write(ours, b"\x04")
    code, _, _ = await running
    os.close(ours)
    os.close(theirs)
    assert code == 0


class Run:
    """A proxy with pipes, of which a test may close any."""

    def __init__(self, *arguments: str) -> None:
        pipe = subprocess.PIPE
        command = [COMMAND, "run", *arguments]
        # Shells let the jobs that they start in the background ignore SIGINT.
        heed = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        self.process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=pipe, preexec_fn=heed
        )

    async def ended(self) -> tuple[int, bytes]:
        """The exit code and the standard error."""
        _, errors = await asyncio.to_thread(self.process.communicate, timeout=30)
        return self.process.returncode, errors

    def children(self) -> set[int]:
        """Its child processes."""
        tasks = Path(f"/proc/{self.process.pid}/task")
        result = " ".join((task / "children").read_text() for task in tasks.iterdir())
        return {int(pid) for pid in result.split()}


@pytest.fixture
def served(program: str) -> Any:
    """A proxy of the stdio server, killed at the end."""
    run = Run(program)
    yield run
    run.process.kill()
    run.process.communicate()


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def test_a_client_that_closes_its_reading_end_ends_the_proxy(served: Run) -> None:
    process = served.process
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(_requests() + b"\n")
    process.stdin.flush()
    await asyncio.to_thread(process.stdout.readline)
    children = served.children()
    process.stdout.close()
    code = await asyncio.to_thread(process.wait, 30)
    assert code == 0
    assert process.stderr is not None
    assert b"Traceback" not in process.stderr.read()
    await soon(lambda: not any(map(_lives, children)), "its children to end")


async def test_a_line_beyond_the_limit_is_refused_and_the_next_one_served(served: Run) -> None:
    line = b'{"jsonrpc":"2.0","id":2,"method":"ping","params":{"a":"%b"}}\n'
    long = line % (b"a" * limits.STDIO_LINE.value)
    ping = b'{"jsonrpc":"2.0","id":3,"method":"ping"}'
    out, errors = await asyncio.to_thread(served.process.communicate, long + ping, 40)
    refused, answer = map(json.loads, out.splitlines())
    assert (refused["id"], refused["error"]["code"]) == (None, -32600)
    assert answer == {"jsonrpc": "2.0", "id": 3, "result": {}}
    assert served.process.returncode == 0, errors


DEAF = """
import os, subprocess, sys, time
os.set_inheritable(0, False)
grandchild = subprocess.Popen([sys.executable, "-ISc", "import time; time.sleep(600)"],
    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
open(sys.argv[0] + ".pids", "a").write(f"{os.getpid()} {grandchild.pid}\\n")
while True: time.sleep(1)
"""


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
async def test_a_proxy_that_is_killed_leaves_no_process_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loop: str
) -> None:
    if loop == "asyncio":
        (tmp_path / "uvloop.py").write_text("raise ImportError")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    program = tmp_path / "deaf.py"
    program.write_text(DEAF)
    pids = tmp_path / "deaf.py.pids"
    run = Run(str(program))
    try:

        async def started() -> list[int]:
            text = pids.read_text() if pids.exists() else ""
            return [int(pid) for pid in text.split()] if text.endswith("\n") else []

        await eventually(started, "the program to start")
        children = run.children()
        run.process.kill()
        run.process.communicate()
        left = children | set(await started())
        assert len(left) >= 3
        await soon(lambda: not any(map(_lives, left)), "all of them to end")
    finally:
        run.process.kill()
        for pid in map(int, pids.read_text().split()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


async def test_sigint_at_any_time_ends_without_a_traceback(program: str) -> None:
    for step in range(6):
        run = Run(program)
        # A different place of its start each time; each of them is as good.
        for _ in range(step):
            await asyncio.to_thread(_let_it_go_on, run.process.pid)
        run.process.send_signal(signal.SIGINT)
        # The end of its input would be another reason to exit.
        await asyncio.to_thread(run.process.wait, 30)
        code, errors = await run.ended()
        if b"Traceback" in errors:
            # The interpreter itself was not ready: nothing of the project ran yet.
            assert b", in main" not in errors
        else:
            assert code in (130, -signal.SIGINT)


def _let_it_go_on(pid: int, ticks: int = 5) -> None:
    """Wait until a process has used so much time of a processor, or sleeps."""
    used = _ticks(pid)
    while _lives(pid) and _ticks(pid) < used + ticks and not _sleeps(pid):
        os.sched_yield()


def _ticks(pid: int) -> int:
    return sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))


def _sleeps(pid: int) -> bool:
    return Path(f"/proc/{pid}/wchan").read_text() in ("ep_poll", "do_epoll_wait")


async def test_an_unread_standard_error_does_not_block_the_program(tmp_path: Path) -> None:
    noisy = tmp_path / "noisy.py"
    noisy.write_text("import sys\nprint('x' * 100_000, file=sys.stderr)\n" + PROGRAM)
    inward, outward = os.pipe()
    # It is full before the proxy has written a line.
    os.set_blocking(outward, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(outward, b"x" * 4096)
    os.set_blocking(outward, True)
    process = await asyncio.create_subprocess_exec(
        *(COMMAND, "run", str(noisy), "--log-level", "debug"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=outward,
    )
    os.close(outward)
    out, _ = await asyncio.wait_for(process.communicate(_requests()), 40)
    os.close(inward)
    assert process.returncode == 0
    _check(out)
