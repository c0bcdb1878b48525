"""Processes that end, or close a pipe, while something keeps the session's pipes open."""

import sys

import pytest
from msgspec import Raw

from mcpproxy.proxy.core.errors import ProcessExited
from mcpproxy.proxy.core.exchange import ClientIdentity, NullContext
from mcpproxy.proxy.protocol.jsonrpc import Message
from mcpproxy.proxy.upstream.transports import stdio
from mcpproxy.proxy.upstream.transports.multiplexed import MultiplexedSession
from mcpproxy.proxy.upstream.transports.session import TaskSet, UpstreamRequest
from mcpproxy.proxy.upstream.transports.stdio import spawn
from tests.proxy.runtime.waiting import soon

SERVER = """
import json, os, subprocess, sys, time
def serve(most):
    while most:
        most -= 1
        line = sys.stdin.readline()
        if not line:
            return
        number = json.loads(line)["id"]
        print(json.dumps({"jsonrpc": "2.0", "id": number, "result": {"by": os.getpid()}}))
"""
SLEEPS = "subprocess.Popen([sys.executable, '-ISc', 'import time; time.sleep(60)'])\n"
CALLER = NullContext(ClientIdentity("2025-11-25"))


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is still running is given up early."""
    monkeypatch.setattr(stdio, "EXITS_WITHIN", 0.05)


async def _linked(code: str) -> MultiplexedSession:
    command = (sys.executable, "-ISu", "-c", SERVER + code)
    return MultiplexedSession(await spawn("b", command, {}, None), TaskSet())


async def _ask(link: MultiplexedSession) -> Message:
    return await link.request(UpstreamRequest(Raw(b"1"), "tools/call", {}), CALLER)


async def test_a_session_ends_with_its_process_although_a_child_keeps_the_pipes_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stdio, "ANSWERS_WITHIN", 0.05)
    link = await _linked("serve(1); sys.stdin.readline(); " + SLEEPS + "os._exit(3)")
    assert "result" in await _ask(link)
    with pytest.raises(ProcessExited, match="exited with status 3") as caught:
        await _ask(link)
    assert caught.value.may_have_run
    assert not link.alive
    await link.close()


async def test_an_idle_session_ends_with_its_process_although_a_child_keeps_the_pipes_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stdio, "ANSWERS_WITHIN", 0.05)
    link = await _linked("serve(1); " + SLEEPS + "os._exit(3)")
    assert "result" in await _ask(link)
    await soon(lambda: not link.alive, "the end of the session")
    await link.close()


async def test_a_child_serves_in_place_of_a_launcher_that_has_exited() -> None:
    link = await _linked("if os.fork():\n    os._exit(0)\nserve(100)")
    channel = link._channel
    assert isinstance(channel, stdio.StdioChannel)
    await soon(lambda: channel._watch, "the probe")
    first = await _ask(link)
    await soon(lambda: channel._watch is not None and channel._watch.done(), "the probe's end")
    assert link.alive
    assert (await _ask(link))["result"] == first["result"]
    await link.close()


async def test_a_session_ends_with_the_input_of_its_program(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stdio, "ANSWERS_WITHIN", 0.05)
    link = await _linked("serve(1); sys.stdin.readline(); os.close(0); time.sleep(60)")
    assert "result" in await _ask(link)
    with pytest.raises(ProcessExited, match="the process has closed its input") as caught:
        await _ask(link)
    assert caught.value.may_have_run, "it may have read the request"
    assert not link.alive
    await link.close()


async def test_a_request_that_a_program_cannot_read_did_not_run() -> None:
    link = await _linked("serve(1); os.close(0); time.sleep(60)")
    assert "result" in await _ask(link)
    channel = link._channel
    assert isinstance(channel, stdio.StdioChannel)
    await soon(channel._stdin.is_closing, "the end of the input")
    with pytest.raises(ProcessExited, match="the process has closed its input") as caught:
        await _ask(link)
    assert not caught.value.may_have_run
    assert not link.alive
    await link.close()


async def test_the_error_of_a_program_without_output_names_the_cause() -> None:
    link = await _linked("sys.stdin.readline(); os.close(1); time.sleep(60)")
    with pytest.raises(ProcessExited, match="the process has closed its output"):
        await link.request(UpstreamRequest(Raw(b"1"), "tools/call", {}), CALLER)
    assert not link.alive
    await link.close()
