"""Duties of every process of the runtime besides serving: its log, and those of init."""

import json
import logging
import os
import subprocess
import sys

import pytest

from mcpproxy.json_logs import JsonLogFormatter
from mcpproxy.limits.backends import LOG_MESSAGE
from mcpproxy.limits.clients import LOG_RECORDS
from mcpproxy.proxy import process
from mcpproxy.proxy.process import StderrHandler

ORPHANS = """
import asyncio, ctypes, os, subprocess, sys
from mcpproxy.proxy import process

PR_SET_CHILD_SUBREAPER = 36
ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

def zombies():
    return set(process._ended_children())

async def main():
    reaper = asyncio.create_task(process.reap_orphans(0.01))
    own = await asyncio.create_subprocess_exec(sys.executable, "-ISc", "raise SystemExit(7)")
    left = [sys.executable, "-ISc", "import os; print(os.fork()) if os.fork() == 0 else None"]
    subprocess.run(left, check=True, stdout=subprocess.DEVNULL)
    orphans = set()
    while not orphans or zombies():
        orphans |= zombies()
        await asyncio.sleep(0)
    print(await own.wait(), reaper.done())

asyncio.run(main())
"""


def test_orphans_are_collected_and_own_children_left_to_the_loop() -> None:
    result = subprocess.run(
        [sys.executable, "-c", ORPHANS], check=True, capture_output=True, text=True, timeout=30
    )
    assert result.stdout.split() == ["7", "False"]


@pytest.mark.parametrize("worker", [None, 1])
def test_a_log_line_is_cut_and_cleaned(worker: int | None) -> None:
    text = "a\x1b[2J\n" + "b" * LOG_MESSAGE.value
    line = JsonLogFormatter(worker).format(logging.makeLogRecord({"msg": text}))
    message = json.loads(line)["message"]
    assert line.isprintable()
    assert message.isprintable()
    assert len(message) == LOG_MESSAGE.value


def test_log_lines_beyond_the_limit_are_dropped_and_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inward, outward = os.pipe()
    os.set_blocking(outward, False)
    filled = 0
    try:
        while True:
            filled += os.write(outward, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(outward, True)
    monkeypatch.setattr(process, "_STDERR", outward)
    handler = StderrHandler()
    handler.setFormatter(logging.Formatter('"%(message)s"'))
    before = LOG_RECORDS.reached
    for number in range(LOG_RECORDS.value + 100):
        handler.emit(logging.makeLogRecord({"msg": f"line {number}"}))
    dropped = LOG_RECORDS.reached - before
    # One more may be in the hands of the thread.
    assert 99 <= dropped <= 100
    read = b""
    while b"dropped" not in read:
        read += os.read(inward, 65536)
    handler.close()
    lines = [json.loads(line) for line in read[filled:].splitlines()]
    assert lines[0] == "line 0"
    assert f"dropped {dropped} log lines because standard error was not read" in lines
    os.close(inward)
    os.close(outward)
