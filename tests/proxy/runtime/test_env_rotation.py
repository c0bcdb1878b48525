"""Variables of programs on standard streams change while a whole proxy serves."""

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from mcpproxy.proxy.upstream import backend as module
from tests.differential.client import Client
from tests.proxy.runtime.program import PROGRAM, told
from tests.proxy.runtime.serving import LIVE, Proxy, proxied
from tests.proxy.runtime.waiting import eventually, soon
from tests.support.kubelet import Volume

pytestmark = [*LIVE, pytest.mark.slow]
SOURCE = {"secretKeyRef": {"name": "token", "key": "value"}}


class World:
    """A proxy of the program, and what the processes of it have noted."""

    def __init__(self, directory: Path) -> None:
        self._starts = directory / "starts"
        self._program = directory / "program.py"
        self._program.write_text(PROGRAM)
        self.volume = Volume(directory / "values")
        self.pipe = directory / "pipe"
        os.mkfifo(self.pipe)
        self.url = ""

    def mount(self, token: str) -> None:
        """The value of the Secret's key."""
        self.volume.write({"secret/token/value": token})

    @asynccontextmanager
    async def proxied(self, **session: Any) -> AsyncIterator[Proxy]:
        """A proxy of the program."""
        arguments = ["-ISu", str(self._program), str(self._starts)]
        env = [{"name": "TOKEN", "valueFrom": SOURCE}]
        stdio = {"command": sys.executable, "args": arguments, "env": env}
        options = {"values": self.volume.directory}
        spec = {"name": "p", "stdio": stdio, "session": session}
        async with proxied(spec, options=options) as running:
            self.url = running.url
            yield running

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        """A client with a session."""
        async with httpx2.AsyncClient(timeout=30) as http:
            client = Client(http, self.url, "legacy")
            await client.initialize()
            yield client

    def living(self, token: str) -> list[int]:
        """The processes that were started with this value and still run."""
        lines = self._starts.read_text().splitlines() if self._starts.exists() else []
        return [pid for pid, result in map(json.loads, lines) if result == token and _runs(pid)]

    async def all_gone(self, token: str) -> None:
        """Wait until no process with this value is left."""
        await soon(lambda: not self.living(token), f"the end of the processes with {token}")

    async def awaited(self) -> None:
        """Wait until a call waits for the pipe."""
        await soon(Path(f"{self.pipe}-awaited").exists, "a call that lasts")

    def release(self) -> None:
        """Let the slow call end."""
        os.close(os.open(self.pipe, os.O_WRONLY | os.O_NONBLOCK))


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


async def listed(client: Client) -> set[str]:
    """The names of the tools."""
    *_, last = await client.exchange(b'{"jsonrpc":"2.0","id":"l","method":"tools/list"}')
    return {tool["name"] for tool in json.loads(last)["result"]["tools"]}


@asynccontextmanager
async def steadily(world: World, seen: Counter[str]) -> AsyncIterator[None]:
    """Calls all the time, none of which may fail; the values that they were told are counted."""
    stopping = asyncio.Event()

    async def call() -> None:
        async with world.client() as client:
            while not stopping.is_set():
                seen[(await told(client))["token"]] += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(call())
        yield
        stopping.set()


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Changes are looked for more often than in production."""
    monkeypatch.setattr(module, "REAP_EVERY", 0.05)


@pytest.mark.parametrize(
    "session",
    [{"mode": "Isolated"}, {"mode": "Reused", "stateless": True}],
    ids=lambda s: s["mode"],
)
async def test_processes_with_another_value_take_over_and_no_call_fails(
    tmp_path: Path, session: dict[str, Any]
) -> None:
    world, seen = World(tmp_path), Counter[str]()
    world.mount("one")
    async with world.proxied(**session) as running, world.client() as other:
        async with steadily(world, seen):
            await soon(lambda: seen["one"] > 5, "calls with the first value")
            slow = asyncio.create_task(told(other, "slow", until=str(world.pipe)))
            await world.awaited()
            world.mount("two")
            await soon(lambda: seen["two"] > 5, "calls with the second value")
            before = seen["one"]
            await soon(lambda: seen["two"] > 15, "more calls")
            assert seen["one"] == before
        await soon(lambda: len(world.living("one")) == 1, "the end of all others")
        world.release()
        assert (await slow)["token"] == "one"
        await world.all_gone("one")
        assert await running.state("p") == "Healthy"


async def test_the_process_that_lists_are_from_is_replaced(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.mount("one")
    async with world.proxied(mode="Isolated"), world.client() as client:
        assert await listed(client) == {"p_tell", "p_is-one"}
        world.mount("two")

        async def changed() -> bool:
            return await listed(client) == {"p_tell", "p_is-two"}

        await eventually(changed, "the lists of a process with the second value")
        await world.all_gone("one")


async def test_the_process_of_a_client_lasts_until_the_client_ends_the_session(
    tmp_path: Path,
) -> None:
    world = World(tmp_path)
    world.mount("one")
    async with world.proxied(mode="PerClient"), world.client() as client:
        first = await told(client)
        world.mount("two")
        await soon(lambda: world.living("two"), "the process that is watched")
        await soon(lambda: world.living("one") == [first["pid"]], "the end of the one before")
        assert await told(client) == {"token": "one", "pid": first["pid"], "told": 2}
        async with world.client() as later:
            assert (await told(later))["token"] == "two"
        assert await client.end() == 204
        await world.all_gone("one")
