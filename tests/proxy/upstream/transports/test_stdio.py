"""Child processes: their output, their end, and their environment."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw

from mcpproxy.limits import backends as limits
from mcpproxy.limits.backends import PROGRAM_ERROR_LINE, PROGRAM_INPUT, PROGRAM_LINE
from mcpproxy.proxy.core.errors import ProcessExited, ProcessFailed, Unreachable
from mcpproxy.proxy.core.exchange import ClientIdentity, NullContext
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import Message
from mcpproxy.proxy.upstream.processes.last_output import LOGGED, SHOWN
from mcpproxy.proxy.upstream.transports import stdio
from mcpproxy.proxy.upstream.transports.multiplexed import MultiplexedSession
from mcpproxy.proxy.upstream.transports.session import TaskSet, UpstreamRequest
from mcpproxy.proxy.upstream.transports.stdio import StdioChannel, spawn
from tests.proxy.runtime.waiting import soon

PYTHON = (sys.executable, "-ISu", "-c")


async def _started(code: str, **env: str) -> StdioChannel:
    return await spawn("b", (*PYTHON, code), env, None)


def _running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


async def test_messages_go_in_and_out_a_line_each() -> None:
    channel = await _started("import sys\nfor line in sys.stdin: print(line.strip())")
    await channel.send(b'{"a":\n 1,\r\n "b": "\xc3\xbc"}')
    assert await channel.receive() == b'{"a": 1, "b": "\xc3\xbc"}'
    await channel.close()


async def test_lines_that_are_not_messages_are_ignored() -> None:
    code = "print('starting'); print(); print('[1]'); print('{\"a\":1}'); input()"
    channel = await _started(code)
    assert await channel.receive() == b'{"a":1}'
    await channel.close()


async def test_the_error_of_an_exited_process_has_its_status_and_last_output() -> None:
    channel = await _started("import sys; print('one\\nlast words', file=sys.stderr); sys.exit(3)")
    with pytest.raises(ProcessFailed, match=r"exited.*last words") as caught:
        await channel.receive()
    assert "one" not in str(caught.value)
    await channel.close()


async def test_a_request_to_an_exiting_process_is_an_error_with_its_last_output() -> None:
    channel = await _started("import sys; input(); sys.exit('no licence')")
    background = TaskSet()
    link = MultiplexedSession(channel, background)
    caller = NullContext(ClientIdentity("2025-11-25"))
    for error, expected in ((ProcessExited, "no licence"), (Unreachable, "ended")):
        with pytest.raises(error, match=expected):
            await link.request(UpstreamRequest(Raw(b"1"), "ping"), caller)
    assert not link.alive
    await link.close()
    await background.close()


LONG = """
import json, sys

def response(got, shape):
    text = json.dumps({"text": "x" * 5000})
    if shape == "id first":
        return '{"jsonrpc": "2.0", "id": %s, "result": %s}' % (json.dumps(got["id"]), text)
    return '{"result": %s, "jsonrpc": "2.0", "id": %s}' % (text, json.dumps(got["id"]))

for line in sys.stdin:
    got = json.loads(line)
    shape = got["params"]["shape"]
    if shape == "short":
        print(json.dumps({"jsonrpc": "2.0", "id": got["id"], "result": {}}))
    elif shape == "not JSON":
        print("x" * 5000)
        print(json.dumps({"jsonrpc": "2.0", "id": got["id"], "result": {}}))
    elif shape == "request":
        head = '{"jsonrpc": "2.0", "id": "own", "method": "ping", "params": {"a": "'
        print(head + "x" * 5000 + '"}}')
        refused = json.loads(sys.stdin.readline())
        print(json.dumps({"jsonrpc": "2.0", "id": got["id"], "result": refused}))
    else:
        print(response(got, shape))
"""


@pytest.fixture
async def linked(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[MultiplexedSession]:
    """A session with a program that writes lines beyond a small limit."""
    monkeypatch.setattr(stdio, "MAX_LINE", 3000)
    background = TaskSet()
    link = MultiplexedSession(await _started(LONG), background)
    yield link
    await link.close()
    await background.close()


async def _asked(link: MultiplexedSession, shape: str) -> Message:
    params = {"shape": jsonrpc.encode_raw(shape)}
    return await link.request(
        UpstreamRequest(Raw(b"1"), "x", params), NullContext(ClientIdentity("2025-11-25"))
    )


@pytest.mark.parametrize("shape", ["id first", "id last"])
async def test_a_response_beyond_the_limit_ends_its_request_and_the_next_one_is_answered(
    linked: MultiplexedSession, shape: str
) -> None:
    before = PROGRAM_LINE.reached
    refused = jsonrpc.error_of(await _asked(linked, shape))
    assert refused is not None
    assert refused.code == -32000
    assert "backend b: the process wrote a line of more than 3000 bytes" in refused.message
    assert PROGRAM_LINE.reached == before + 1
    assert jsonrpc.error_of(await _asked(linked, "short")) is None
    assert linked.alive


async def test_a_line_beyond_the_limit_that_is_not_a_message_ends_no_request(
    linked: MultiplexedSession,
) -> None:
    assert jsonrpc.error_of(await _asked(linked, "not JSON")) is None


async def test_a_request_beyond_the_limit_is_refused(linked: MultiplexedSession) -> None:
    refused = jsonrpc.decode_object((await _asked(linked, "request"))["result"])
    assert jsonrpc.decode_str(refused["id"]) == "own"
    assert jsonrpc.decode(refused["error"])["code"] == -32600


async def test_a_message_to_a_stdio_server_that_does_not_read_times_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limit: Any = limits.PROGRAM_INPUT
    monkeypatch.setattr(limits, "PROGRAM_INPUT", replace(limit, value=0.2))
    monkeypatch.setattr(stdio, "GRACE", 0.1)
    before = PROGRAM_INPUT.reached
    channel = await _started("import signal; signal.pause()")
    body = b'{"a":"%b"}' % (b"x" * 100_000)
    sending = [asyncio.create_task(channel.send(body)) for _ in range(20)]
    ended = await asyncio.gather(*sending, return_exceptions=True)
    refused = [error for error in ended if isinstance(error, Unreachable)]
    assert "the process has read no input for 0.2 s" in str(refused[0])
    assert PROGRAM_INPUT.reached == before + len(refused)
    # One message is in the pipe and one is buffered, however many are sent.
    assert channel._stdin.transport.get_write_buffer_size() <= 2 * len(body)
    await channel.close()


async def test_a_flood_of_lines_that_are_not_messages_does_not_block_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    channel = await _started("print('x\\n' * 30000 + '{}'); input()")
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(other())
    assert await channel.receive() == b"{}"
    beside.cancel()
    assert turns > 30000 / stdio.TURN / 2
    assert sum("no message" in record.message for record in caplog.records) < 20
    await channel.close()


async def test_a_flood_of_stderr_does_not_block_messages_and_is_not_buffered() -> None:
    code = (
        "import sys\nfor _ in range(3000): print('e' * 1000, file=sys.stderr)\n"
        "print('y' * 10**7, file=sys.stderr)\nprint('{}')\ninput()"
    )
    before = PROGRAM_ERROR_LINE.reached
    channel = await _started(code)
    assert await channel.receive() == b"{}"
    await soon(lambda: PROGRAM_ERROR_LINE.reached > before, "the long line to be read")
    assert len(channel._last_output.fault()) <= SHOWN
    await channel.close()


async def test_lines_of_stderr_beyond_the_limit_are_read_and_not_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    few = replace(limits.PROGRAM_ERROR_LINES, value=5)
    monkeypatch.setattr(limits, "PROGRAM_ERROR_LINES", few)
    monkeypatch.setattr(stdio._ByteRate, "allows", _within_one_second)
    caplog.set_level("DEBUG")
    code = "import sys\nfor n in range(50): print('said', n, file=sys.stderr)\nsys.exit()"
    channel = await _started(code)
    with pytest.raises(ProcessFailed, match="said 49"):
        await channel.receive()
    assert sum("said" in record.message for record in caplog.records) == 5
    await channel.close()


def _within_one_second(rate: Any) -> bool:
    rate._count += 1
    return bool(rate._count <= rate._limit)


async def test_the_last_lines_of_a_process_that_fails_are_logged_once_as_warnings(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    code = (
        "import sys\nfor n in range(50): print('said', n, 'x' * 900, '\x1b[31m', file=sys.stderr)\n"
        "sys.exit(1)"
    )
    channel = await _started(code)
    for _ in range(2):
        with pytest.raises(ProcessFailed):
            await channel.receive()
    await channel.close()
    warnings = [record for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == LOGGED
    assert warnings[0].getMessage().startswith("backend b wrote before it exited: said 40 x")
    assert all(len(record.getMessage()) < SHOWN + 60 for record in warnings)
    assert "\x1b" not in caplog.text


async def test_the_output_of_a_process_that_ends_with_its_input_is_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    channel = await _started("import sys; print('{}'); input(); print('said', file=sys.stderr)")
    assert await channel.receive() == b"{}"
    receiving = asyncio.ensure_future(channel.receive())
    await channel.close()
    with pytest.raises(ProcessFailed):
        await receiving
    assert "said" not in caplog.text


async def test_control_characters_of_stderr_reach_neither_the_log_nor_an_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG")
    code = "import sys; sys.stderr.buffer.write(b'a\\x1b[31m\\xff\\x00red\\r\\n'); sys.exit(1)"
    channel = await _started(code)
    with pytest.raises(ProcessFailed) as caught:
        await channel.receive()
    assert str(caught.value).endswith(": a\ufffd[31m\ufffd\ufffdred")
    assert "\x1b" not in caplog.text
    await channel.close()


async def test_a_process_that_left_its_group_keeps_no_descriptor_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stdio, "GRACE", 0.1)
    code = (
        "import os, subprocess, sys\n"
        "sleep = [sys.executable, '-ISc', 'import time; time.sleep(600)']\n"
        "child = subprocess.Popen(sleep, start_new_session=True)\n"
        "print('{\"child\": %d}' % child.pid)\ninput()"
    )
    before = len(os.listdir("/proc/self/fd"))
    channel = await _started(code)
    line = await channel.receive()
    assert line is not None
    await channel.close()
    child = int(line.decode().split(": ")[1].rstrip("}"))
    # The guardian has a pipe while it runs.
    await soon(lambda: len(os.listdir("/proc/self/fd")) <= before + 1, "descriptors to be closed")
    os.kill(child, 9)


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (
            ("no-such-program-anywhere",),
            "No such file or directory; install it or, in a cluster, set spec.image to an image",
        ),
        (("/etc/passwd",), "denied$"),
        (("a\0b",), "null byte"),
    ],
)
async def test_a_stdio_server_that_cannot_be_started_is_reported(
    command: tuple[str], why: str
) -> None:
    with pytest.raises(ProcessFailed, match=why):
        await spawn("b", command, {}, None)


@pytest.mark.parametrize("cwd", ["/no/such/directory", "/etc/passwd"])
async def test_a_working_directory_that_cannot_be_entered_is_named(cwd: str) -> None:
    with pytest.raises(ProcessFailed, match=f"cannot use the working directory {cwd}: N") as caught:
        await spawn("b", (*PYTHON, "pass"), {}, cwd)
    assert sys.executable not in str(caught.value)


async def test_s23_a_process_sees_the_environment_it_was_given_and_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_PROXY", "x")
    code = "import os, json; print(json.dumps(dict(os.environ))); input()"
    channel = await _started(code, GIVEN="yes")
    line = await channel.receive()
    assert line is not None
    assert b'"GIVEN": "yes"' in line
    assert b"SECRET" not in line
    await channel.close()


STUBBORN = """
import os, signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
deaf = "import signal; signal.signal(15, signal.SIG_IGN); signal.pause()"
child = subprocess.Popen([sys.executable, "-ISc", deaf])
print('{"child": %d}' % child.pid)
while True: signal.pause()
"""


async def test_a_process_that_does_not_end_is_killed_with_all_its_children(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stdio, "GRACE", 0.1)
    channel = await _started(STUBBORN)
    line = await channel.receive()
    assert line is not None
    child = int(line.decode().split(": ")[1].rstrip("}"))
    own = channel._process.pid
    assert _running(own)
    assert _running(child)
    await channel.close()
    await soon(lambda: not _running(own) and not _running(child), "both to end")


async def test_children_left_behind_by_a_process_that_ended_are_killed() -> None:
    code = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-ISc', 'import signal; signal.pause()'],"
        " stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\n"
        "print('{\"child\": %d}' % child.pid)\ninput()"
    )
    channel = await _started(code)
    line = await channel.receive()
    assert line is not None
    child = int(line.decode().split(": ")[1].rstrip("}"))
    await channel.close()
    await soon(lambda: not _running(child), "the child to end")
