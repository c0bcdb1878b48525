"""The session mode where none is set: a program serves its client alone, HTTP each request."""

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client

from tests.proxy.runtime.counting import Counter
from tests.proxy.runtime.program import PROGRAM
from tests.proxy.runtime.serving import LIVE, serving
from tests.proxy.runtime.waiting import soon

pytestmark = [*LIVE, pytest.mark.slow]
MCPPROXY = str(Path(sys.executable).with_name("mcpproxy"))
ERAS = ("legacy", "2026-07-28")


def _program(directory: Path) -> dict[str, Any]:
    """A program that counts its calls, as mcp.json has it."""
    script = directory / "program.py"
    script.write_text(PROGRAM)
    args = [str(script), str(directory / "starts")]
    return {"command": sys.executable, "args": args, "env": {"TOKEN": "x"}}


def _backend(directory: Path, **fields: Any) -> dict[str, Any]:
    program = _program(directory)
    env = [{"name": "TOKEN", "value": "x"}]
    return {"name": "p", "stdio": {**program, "env": env}, **fields}


async def _told(client: Client, tool: str = "p_tell") -> tuple[int, int]:
    """The process that answered, and its number of calls."""
    result = await client.call_tool(tool, {})
    (content,) = result.content
    document = json.loads(content.text)  # type: ignore[union-attr]
    return document["pid"], document["told"]


class SlowProgram:
    """A program that takes until `opened` to start."""

    def __init__(self, directory: Path) -> None:
        self._starts = directory / "starts"
        self._gate = directory / "gate"
        os.mkfifo(self._gate)
        self.server = _program(directory)
        script = Path(self.server["args"][0])
        waits = f"\nopen({str(self._gate)!r}).close()\nfor line in sys.stdin:\n"
        script.write_text(PROGRAM.replace("\nfor line in sys.stdin:\n", waits))

    @property
    def pids(self) -> list[int]:
        """The processes that were started, in their order."""
        lines = self._starts.read_text().splitlines() if self._starts.exists() else []
        return [json.loads(line)[0] for line in lines]

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Let processes start."""
        gate = os.open(self._gate, os.O_RDWR)
        try:
            yield
        finally:
            os.close(gate)


async def test_a_slow_program_starts_for_its_first_client_while_it_starts_for_the_lists(
    proxy: Any, tmp_path: Path
) -> None:
    slow = SlowProgram(tmp_path)
    env = [{"name": "TOKEN", "value": "x"}]
    starting = asyncio.ensure_future(proxy({"name": "p", "stdio": {**slow.server, "env": env}}))
    await soon(lambda: len(slow.pids) == 2, "a second process")
    with slow.opened():
        running = await starting
        async with Client(running.url, mode="legacy") as client:
            pid, told = await _told(client)
    assert told == 1
    assert len(slow.pids) == 2
    assert pid in slow.pids


@pytest.mark.parametrize("mode", ERAS)
async def test_the_client_of_a_pipe_costs_one_process_in_addition_to_that_of_the_lists(
    tmp_path: Path, mode: Any
) -> None:
    slow = SlowProgram(tmp_path)
    path = tmp_path / "mcp.json"
    path.write_text(json.dumps({"mcpServers": {"p": slow.server}}))
    parameters = StdioServerParameters(
        command=MCPPROXY, args=["run", str(path)], env=dict(os.environ)
    )
    async with Client(stdio_client(parameters), mode=mode) as client:
        await soon(lambda: len(slow.pids) == 2, "a second process")
        with slow.opened():
            results = [await _told(client, "tell") for _ in range(3)]
    assert [told for _, told in results] == [1, 2, 3]
    assert {pid for pid, _ in results} < set(slow.pids)
    assert len(slow.pids) == 2


async def test_the_calls_of_one_client_reach_a_process_that_serves_no_other_client(
    proxy: Any, tmp_path: Path
) -> None:
    running = await proxy(_backend(tmp_path))
    async with (
        Client(running.url, mode="legacy") as a,
        Client(running.url, mode="legacy") as b,
    ):
        first, other = await _told(a), await _told(b)
        assert first[0] != other[0]
        assert [await _told(a) for _ in range(3)] == [(first[0], told) for told in (2, 3, 4)]
        assert await _told(b) == (other[0], 2)


async def test_a_principal_without_a_session_keeps_its_process(proxy: Any, tmp_path: Path) -> None:
    running = await proxy(_backend(tmp_path))

    async def calls(principal: str) -> list[tuple[int, int]]:
        headers = {"Authorization": f"Bearer {principal}"}
        async with httpx2.AsyncClient(headers=headers) as http:
            transport = streamable_http_client(running.url, http_client=http)
            async with Client(transport, mode="2026-07-28") as client:
                return [await _told(client) for _ in range(2)]

    ann, bo, again = await calls("ann"), await calls("bo"), await calls("ann")
    assert [told for _, told in (*ann, *again)] == [1, 2, 3, 4]
    assert len({pid for pid, _ in (*ann, *again)}) == 1
    assert [told for _, told in bo] == [1, 2]
    assert bo[0][0] != ann[0][0]


async def test_a_client_without_session_and_identity_finds_a_fresh_process(
    proxy: Any, tmp_path: Path
) -> None:
    running = await proxy(_backend(tmp_path))
    async with Client(running.url, mode="2026-07-28") as client:
        results = [await _told(client) for _ in range(3)]
    assert [told for _, told in results] == [1, 1, 1]
    assert len({pid for pid, _ in results}) == 3


@pytest.mark.parametrize("mode", ERAS)
async def test_the_client_of_a_pipe_keeps_the_state_of_a_program_of_mcp_json(
    tmp_path: Path, mode: Any
) -> None:
    path = tmp_path / "mcp.json"
    path.write_text(json.dumps({"mcpServers": {"p": _program(tmp_path)}}))
    parameters = StdioServerParameters(command=MCPPROXY, args=["run", str(path)])
    async with Client(stdio_client(parameters), mode=mode) as client:
        result = [await _told(client, "tell") for _ in range(3)]
        result += await asyncio.gather(*(_told(client, "tell") for _ in range(3)))
    assert sorted(told for _, told in result) == [1, 2, 3, 4, 5, 6]
    assert len({pid for pid, _ in result}) == 1


async def test_the_mode_of_a_server_of_mcp_json_is_the_one_it_sets(tmp_path: Path) -> None:
    server = {**_program(tmp_path), "session": {"mode": "Isolated"}}
    path = tmp_path / "mcp.json"
    path.write_text(json.dumps({"mcpServers": {"p": server}}))
    parameters = StdioServerParameters(command=MCPPROXY, args=["run", str(path)])
    async with Client(stdio_client(parameters), mode="legacy") as client:
        assert [(await _told(client, "tell"))[1] for _ in range(2)] == [1, 1]


async def test_the_status_reports_the_session_mode_and_its_origin(
    proxy: Any, stack: Any, tmp_path: Path
) -> None:
    base = await stack.enter_async_context(serving(Counter().gate))
    own = {**_backend(tmp_path, session={"mode": "Isolated"}), "name": "own"}
    running = await proxy(_backend(tmp_path), {"name": "web", "url": f"{base}/mcp"}, own)
    report = await running.report()
    assert [(b.name, b.session_mode, b.session_mode_from) for b in report.backends] == [
        ("own", "Isolated", "Backend"),
        ("p", "PerClient", "Transport"),
        ("web", "Isolated", "Transport"),
    ]
