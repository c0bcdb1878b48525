"""Clients with a session of their own with a backend list what that session lists."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import mcp_types as t
import pytest
from mcp import Client

from tests.proxy.runtime.serving import LIVE
from tests.proxy.runtime.waiting import eventually, soon

pytestmark = [*LIVE, pytest.mark.slow]
PROGRAM = """
import json, sys

tools = ["grow"]

def say(**message):
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + chr(10))
    sys.stdout.flush()

for line in sys.stdin:
    got = json.loads(line)
    method, own = got.get("method"), got.get("id")
    if method == "initialize":
        say(id=own, result={"protocolVersion": "2025-11-25",
            "capabilities": {"tools": {"listChanged": True}},
            "serverInfo": {"name": "p", "version": "1"}})
    elif method == "tools/list":
        say(id=own, result={"tools": [
            {"name": n, "inputSchema": {"type": "object"}} for n in tools]})
    elif method == "tools/call":
        if got["params"]["name"] == "grow":
            tools.append("grown")
            say(method="notifications/tools/list_changed")
        say(id=own, result={"content": [{"type": "text", "text": got["params"]["name"]}]})
    elif own is not None:
        say(id=own, error={"code": -32601, "message": "method not found"})
"""
"""A call of its tool adds another tool to the process that was called."""


async def _names(client: Client) -> list[str]:
    return [tool.name for tool in (await client.list_tools(cache_mode="bypass")).tools]


@pytest.mark.parametrize("capable", [False, True])
async def test_a_client_lists_tools_that_a_call_added_to_its_session(
    proxy: Any, tmp_path: Path, capable: bool
) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    backend = {"name": "p", "stdio": {"command": sys.executable, "args": ["-ISu", str(program)]}}
    running = await proxy(backend, session={"mode": "PerClient"})
    told = {"ann": 0, "bo": 0}

    def handler(who: str) -> Any:
        async def handle(message: Any) -> None:
            told[who] += isinstance(message, t.ToolListChangedNotification)

        return handle

    async def roots(context: Any) -> t.ListRootsResult:
        return t.ListRootsResult(roots=[])

    value: dict[str, Any] = {"mode": "legacy"}
    if capable:
        value["list_roots_callback"] = roots
    streams = running.runtime.gateway.metrics.streams._value
    async with (
        Client(running.url, message_handler=handler("ann"), **value) as ann,
        Client(running.url, message_handler=handler("bo"), **value) as bo,
    ):
        await soon(lambda: streams.get() == 2, "their streams")
        assert await _names(ann) == await _names(bo) == ["p_grow"]
        await ann.call_tool("p_grow", {})
        await soon(lambda: told["ann"], "the announcement")

        async def grown() -> bool:
            return await _names(ann) == ["p_grow", "p_grown"]

        await eventually(grown, "the new tool")
        assert (await ann.call_tool("p_grown", {})).content
        assert await _names(bo) == ["p_grow"]
        await bo.call_tool("p_grow", {})
        await soon(lambda: told["bo"], "the other one's announcement")
        assert told == {"ann": 1, "bo": 1}, "each is told of its own list"


async def test_a_client_without_a_separate_session_gets_the_common_list(
    proxy: Any, tmp_path: Path
) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    backend = {"name": "p", "stdio": {"command": sys.executable, "args": ["-ISu", str(program)]}}
    running = await proxy(backend, session={"mode": "Isolated"})
    async with Client(running.url, mode="legacy") as client:
        await client.call_tool("p_grow", {})
        await asyncio.sleep(0)
        assert await _names(client) == ["p_grow"]
