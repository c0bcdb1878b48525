"""Programs behind a created proxy: fresh for each request, and started before it comes."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from mcp import Client

from mcpproxy import create_proxy
from mcpproxy.limits.sessions import SPARE_PROGRAMS
from mcpproxy.proxy.upstream.connect.spare_processes import SpareProcesses
from tests.library.conftest import ERAS, text
from tests.proxy.runtime.program import PROGRAM
from tests.proxy.runtime.waiting import soon

pytestmark = pytest.mark.slow


def _is_alive(pid: int) -> bool:
    try:
        # One that has ended and was not looked after yet has none.
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        return False


class World:
    """A server's file, and the processes of it."""

    def __init__(self, directory: Path) -> None:
        self.starts = directory / "starts"
        self.starts.touch()
        self.file = directory / "server.py"
        lines = f"import os, sys\nsys.argv = ['', {str(self.starts)!r}]\nos.environ['TOKEN'] = 'x'"
        self.file.write_text(lines + PROGRAM)

    @property
    def pids(self) -> list[int]:
        """All that were started, in their order."""
        return [json.loads(line)[0] for line in self.starts.read_text().splitlines()]

    @property
    def living(self) -> set[int]:
        """Processes that have not ended."""
        return {pid for pid in self.pids if _is_alive(pid)}


async def _told(client: Client) -> tuple[int, int]:
    document = json.loads(text(await client.call_tool("tell", {})))
    return document["pid"], document["told"]


def _spares(monkeypatch: pytest.MonkeyPatch) -> list[SpareProcesses]:
    """Return the spare processes of backends that start later."""
    result: list[SpareProcesses] = []
    begin = SpareProcesses.__init__

    def kept(self: SpareProcesses, *args: Any, **named: Any) -> None:
        begin(self, *args, **named)
        result.append(self)

    monkeypatch.setattr(SpareProcesses, "__init__", kept)
    return result


def _has_waiting(spares: list[SpareProcesses], world: World) -> bool:
    """Return True if a spare process has begun to run; it waits from the moment of its start."""
    waiting = {channel._process.pid for spare in spares for channel in spare._waiting}
    return bool(waiting) and waiting <= world.living


@pytest.mark.parametrize("mode", ERAS)
async def test_each_call_has_a_fresh_process_that_was_started_before_the_call(
    connect: Any, tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path)
    spares = _spares(monkeypatch)
    proxy = create_proxy(str(world.file))
    async with proxy:
        client = await connect(proxy, mode)
        await client.list_tools()
        used: set[int] = set()
        for _ in range(3):
            await soon(lambda: _has_waiting(spares, world), "a process that waits and runs")
            before = world.pids
            pid, told = await _told(client)
            assert told == 1
            assert pid in before
            assert pid not in used
            used.add(pid)


async def test_few_processes_are_left_after_many_calls(connect: Any, tmp_path: Path) -> None:
    world = World(tmp_path)
    server = {"command": sys.executable, "args": [str(world.file)]}
    proxy = create_proxy({"mcpServers": {"p": server}})
    async with proxy:
        client = await connect(proxy)
        results = [await _told(client) for _ in range(12)]
        assert {told for _, told in results} == {1}
        assert len({pid for pid, _ in results}) == 12
        assert len(world.pids) <= 12 + 2 + SPARE_PROGRAMS.value
        # The one that is watched, and those that wait.
        most = 1 + SPARE_PROGRAMS.value
        await soon(lambda: len(world.living) <= most, "the end of those that were used")
