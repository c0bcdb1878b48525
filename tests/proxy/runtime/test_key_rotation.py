"""Sealing keys are replaced at two instances behind round robin, under clients of every kind."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest

from mcpproxy.proxy import sealing_keys as module
from mcpproxy.proxy.core.tokens import key_rotation
from mcpproxy.proxy.core.tokens.sealed_tokens import InvalidToken, Sealer
from tests.differential.client import Client
from tests.proxy.runtime.counting import Counter
from tests.proxy.runtime.program import PROGRAM, called, told
from tests.proxy.runtime.serving import LIVE, Proxy, proxied, serving
from tests.proxy.runtime.waiting import eventually, soon
from tests.stress.balancer import balanced
from tests.stress.chatter import Chatter, Talker
from tests.support.kubelet import Volume

pytestmark = [*LIVE, pytest.mark.timeout(180), pytest.mark.slow]
OLD, NEW = b"o" * 32, b"n" * 32
PER_CLIENT = {"mode": "PerClient"}


class Looks:
    """Keys that each instance read last from its directory."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._found: dict[Path, list[bytes]] = {}
        read = module.read_keys

        def noted(directory: Path) -> list[bytes]:
            self._found[directory] = read(directory)
            return self._found[directory]

        monkeypatch.setattr(module, "read_keys", noted)
        monkeypatch.setattr(module, "READ_EVERY", 0.02)

    async def see(self, volume: Volume, *keys: bytes) -> None:
        """Wait until the instance of a volume has seen these keys."""
        await soon(lambda: self._found[volume.directory] == list(keys), f"{keys} to be seen")


class Traffic:
    """Clients that call all the time, and check that their sessions are what they were."""

    def __init__(self, url: str, http: httpx2.AsyncClient) -> None:
        self._url = url
        self._http = http
        self._stopping = asyncio.Event()
        self.rounds: dict[str, int] = {}

    async def talk(self, era: str, who: str) -> None:
        """Streams, progress, and questions that are answered at whichever instance."""
        talker = await Talker(self._http, self._url, era, who).start()
        await self._again(who, lambda number: talker.talk("chat", f"{who}-{number}"))

    async def count(self, who: str) -> None:
        """Two servers count the calls of this client's session: none is lost, none begins anew."""
        client = await begun(self._http, self._url)
        pid = (await told(client))["pid"]

        async def counted(number: int) -> None:
            assert int(await called(client, "state_increment", number)) == number
            result = await told(client, number)
            assert (result["pid"], result["told"]) == (pid, number + 1)

        await self._again(who, counted)

    async def _again(self, who: str, once: Callable[[int], Any]) -> None:
        number = 0
        while not self._stopping.is_set():
            number += 1
            await once(number)
            self.rounds[who] = number

    async def goes_on(self, rounds: int = 3) -> None:
        """Every client has had so many more rounds."""
        before = dict(self.rounds)
        await soon(
            lambda: all(self.rounds[who] >= before[who] + rounds for who in before),
            "all clients to go on",
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """All of it; a call that fails ends it."""
        async with asyncio.TaskGroup() as group:
            for era in ("legacy", "modern"):
                group.create_task(self.talk(era, f"{era}-talker"))
            for who in ("ann", "bo"):
                group.create_task(self.count(who))
            await soon(lambda: len(self.rounds) == 4, "the first rounds")
            yield
            self._stopping.set()


async def begun(http: httpx2.AsyncClient, url: str) -> Client:
    """A client with a session."""
    client = Client(http, url, "legacy")
    await client.initialize(info='{"name":"c","version":"1"}')
    return client


@asynccontextmanager
async def backends(directory: Path, chatter: Chatter) -> AsyncIterator[list[dict[str, Any]]]:
    """One that talks, one of the SDK and a program, each with a session for each client."""
    program = directory / "program.py"
    program.write_text(PROGRAM)
    env = [{"name": "TOKEN", "value": "x"}]
    arguments = ["-ISu", str(program), str(directory / "starts")]
    stdio = {"command": sys.executable, "args": arguments, "env": env}
    async with serving(chatter.backend) as talking, serving(Counter().gate) as counting:
        yield [
            {"name": "chat", "url": f"{talking}/mcp", "session": PER_CLIENT},
            {"name": "state", "url": f"{counting}/mcp", "session": PER_CLIENT},
            {"name": "p", "stdio": stdio, "session": PER_CLIENT},
        ]


async def sealed_with(key: bytes, url: str, http: httpx2.AsyncClient) -> bool:
    """Return True if a new session is sealed with this key."""
    client = await begun(http, url)
    try:
        Sealer([key], lambda size: b"r" * size).open("session", client.session or "")
    except InvalidToken:
        return False
    finally:
        assert await client.end() == 204
    return True


async def test_no_session_is_lost_and_no_call_fails_while_two_instances_change_their_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, chatter = Looks(monkeypatch), Chatter("legacy", "chat")
    volumes = [Volume(tmp_path / f"sealing-{number}") for number in range(2)]
    for volume in volumes:
        volume.write({"current": OLD})
    async with AsyncExitStack() as stack:
        specs = await stack.enter_async_context(backends(tmp_path, chatter))
        pair: list[Proxy] = []
        for volume in volumes:
            options = {"sealing_keys": volume.directory}
            pair.append(await stack.enter_async_context(proxied(*specs, options=options)))
        ports = [int(entry.base.rpartition(":")[2]) for entry in pair]
        url = await stack.enter_async_context(balanced(tmp_path, ports))
        # Each request has a connection of its own, and so its turn.
        limits = httpx2.Limits(max_keepalive_connections=0)
        http = await stack.enter_async_context(httpx2.AsyncClient(timeout=30, limits=limits))
        listener = await begun(http, url)
        stream = listener.stream()
        assert await anext(stream) == (None, b"200")
        # One instance alone knows this client, until the end.
        quiet = await begun(http, pair[0].url)
        before = await told(quiet)
        traffic = Traffic(url, http)
        async with traffic.running():
            # The Secret is written once; the kubelets bring it to one pod after the other.
            for volume in volumes:
                volume.write({"current": NEW, "previous": OLD})
                await looks.see(volume, NEW, OLD)
                await traffic.goes_on()
                assert await sealed_with(OLD, pair[0].url, http)
            # Both know it long enough.
            monkeypatch.setattr(key_rotation, "SETTLE", 0.0)
            for item in pair:
                await eventually(partial(sealed_with, NEW, item.url, http), "the new key")
            late = asyncio.create_task(traffic.count("late"))
            await soon(lambda: "late" in traffic.rounds, "a client that came later")
            await traffic.goes_on()
            # What the old one has sealed is in use still when it is removed.
            for volume in volumes:
                volume.write({"current": NEW})
                await looks.see(volume, NEW)
                await traffic.goes_on()
        await late
        quiet.url = pair[1].url
        assert await told(quiet) == {**before, "told": 2}
        chatter.change()
        assert b"list_changed" in (await asyncio.wait_for(anext(stream), 15))[1]
        await stream.aclose()  # type: ignore[attr-defined]
        assert await listener.tell(b'{"jsonrpc":"2.0","id":1,"method":"ping"}') == 200
