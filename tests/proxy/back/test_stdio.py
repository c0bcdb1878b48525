"""Child processes: what they say, how they end, what they see."""

import sys
from pathlib import Path

import pytest
from msgspec import Raw

from mcpproxy.proxy.back import stdio
from mcpproxy.proxy.back.duplex import DuplexLink
from mcpproxy.proxy.back.link import Background, Outgoing
from mcpproxy.proxy.back.stdio import StdioChannel, spawn
from mcpproxy.proxy.core.errors import BackendError, ProcessFailed, Unreachable
from mcpproxy.proxy.core.exchange import Client, Discarding
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


async def test_lines_that_are_no_message_are_passed_over() -> None:
    code = "print('starting'); print(); print('[1]'); print('{\"a\":1}'); input()"
    channel = await _started(code)
    assert await channel.receive() == b'{"a":1}'
    await channel.close()


async def test_the_end_of_a_process_tells_its_status_and_last_words() -> None:
    channel = await _started("import sys; print('one\\nlast words', file=sys.stderr); sys.exit(3)")
    with pytest.raises(ProcessFailed, match=r"ended.*last words") as caught:
        await channel.receive()
    assert "one" not in str(caught.value)
    await channel.close()


async def test_a_request_to_a_process_that_ends_is_an_error_with_its_last_words() -> None:
    channel = await _started("import sys; input(); sys.exit('no licence')")
    background = Background()
    link = DuplexLink(channel, background)
    caller = Discarding(Client("2025-11-25"))
    for expected in ("no licence", "ended"):
        with pytest.raises(Unreachable, match=expected):
            await link.request(Outgoing(Raw(b"1"), "ping"), caller)
    assert not link.alive
    await link.close()
    await background.close()


async def test_a_line_beyond_the_limit_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stdio, "MAX_LINE", 1000)
    channel = await _started("print('{' + 'x' * 5000 + '}'); input()")
    with pytest.raises(ProcessFailed, match="1000 bytes"):
        await channel.receive()
    await channel.close()


async def test_a_flood_of_stderr_holds_nothing_up_and_is_not_kept() -> None:
    code = (
        "import sys\nfor _ in range(3000): print('e' * 1000, file=sys.stderr)\nprint('{}')\ninput()"
    )
    channel = await _started(code)
    assert await channel.receive() == b"{}"
    assert len(channel._said) <= stdio.STDERR_KEPT
    await channel.close()


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (("no-such-program-anywhere",), "No such file"),
        (("/etc/passwd",), "denied"),
        (("a\0b",), "null byte"),
    ],
)
async def test_a_program_that_cannot_be_started_is_told(command: tuple[str], why: str) -> None:
    with pytest.raises(ProcessFailed, match=why):
        await spawn("b", command, {}, None)


async def test_a_directory_that_is_not_there_is_told() -> None:
    with pytest.raises(BackendError):
        await spawn("b", (*PYTHON, "pass"), {}, "/no/such/directory")


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
