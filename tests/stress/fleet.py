"""Instances of one proxy that are killed and replaced, and clients that reach any of them."""

import asyncio
import json
import math
import random
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from tests.differential.client import Client
from tests.stress.chatter import Talker, _subject
from tests.stress.instances import Instance, is_ready, prepared, started


@dataclass
class Fleet:
    """Instances with one sealing key. There is no affinity: each request chooses one of them."""

    manifest: Path
    keys: Path
    chance: random.Random
    stack: AsyncExitStack
    alive: list[Instance] = field(default_factory=list)
    killed: dict[int, float] = field(default_factory=dict)
    """When instances were killed, by port."""
    logs: list[Path] = field(default_factory=list)

    def choose(self) -> Instance:
        """Any of those that serve."""
        return self.chance.choice(self.alive)

    async def add(self) -> None:
        """Start another one, at an address of its own, and wait until it is ready."""
        log = self.manifest.parent / f"{len(self.logs)}.log"
        instance = await started(self.manifest, self.keys, log)
        self.logs.append(log)
        self.stack.push_async_callback(instance.kill)
        async with asyncio.timeout(60):
            # Another process sets no event.
            while not await is_ready(instance):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        self.alive.append(instance)

    async def kill(self) -> None:
        """Kill an instance with SIGKILL, and put another in its place."""
        victim = self.choose()
        # As endpoints of a Service: who is chosen from now on is another one.
        self.alive.remove(victim)
        self.killed[victim.port] = math.inf
        await victim.kill()
        # Until now, a call could still reach it.
        self.killed[victim.port] = time.monotonic()
        await self.add()

    async def renew(self) -> None:
        """Replace each instance as a rolling update does: the next one first, then SIGTERM."""
        for victim in list(self.alive):
            await self.add()
            self.alive.remove(victim)
            # Requests that chose it just now arrive before the signal, as with a preStop hook.
            await asyncio.sleep(1)
            victim.process.terminate()
            async with asyncio.timeout(60):
                assert await victim.process.wait() == 0

    def rotate_key(self) -> None:
        """Replace the sealing key; instances read it within ten seconds."""
        current = (self.keys / "current").read_bytes()
        (self.keys / "previous").write_bytes(current)
        (self.keys / "current").write_bytes(bytes(reversed(current)))


@asynccontextmanager
async def fleets(
    directory: Path, count: int, backends: list[dict[str, Any]], seed: int, **spec: Any
) -> AsyncIterator[Fleet]:
    """So many instances, ready."""
    manifest, keys = prepared(directory, backends, **spec)
    async with AsyncExitStack() as stack:
        fleet = Fleet(manifest, keys, random.Random(seed), stack)
        for _ in range(count):
            await fleet.add()
        yield fleet


class Roaming(Client):
    """A client that sends each request, and each answer to a question, to any instance."""

    def __init__(self, fleet: Fleet, http: httpx2.AsyncClient, era: str, who: str) -> None:
        self.fleet = fleet
        self.touched: set[int] = set()
        """Ports of the instances that it has used since it was cleared."""
        self.home = 0
        """Port of the instance at which its session began, which owns it."""
        super().__init__(http, "", era, {"authorization": f"Bearer {who}"})

    @property
    def url(self) -> str:
        """The endpoint of the next request."""
        instance = self.fleet.choose()
        self.touched.add(instance.port)
        self.home = self.home or instance.port
        return instance.url

    @url.setter
    def url(self, value: str) -> None:
        """Ignore the endpoint of the base class."""


@dataclass
class Loss:
    """A call that failed."""

    word: str
    error: str
    """The JSON-RPC error, or the failure of the connection."""
    says: bool
    """True if it says whether the call may have run; a connection that ends says that it may."""
    was_hit: bool
    """True if an instance that the call used was killed meanwhile."""


class RoamingTalker(Talker):
    """A client of the tool `talk` that records what it loses, and messages of others."""

    def __init__(self, fleet: Fleet, http: httpx2.AsyncClient, era: str, who: str) -> None:
        super().__init__(http, "", era, who)
        self.client: Roaming = Roaming(fleet, http, era, who)
        self.strange: list[Any] = []
        """Messages about words of other calls."""
        self.lost: list[Loss] = []
        self.done = 0
        self._last: Any = None

    async def send(self, message: dict[str, Any], word: str = "") -> Any:
        self._last = None
        response, before = await super().send(message, word)
        self._last = response
        return response, before

    def _answer(self, asked: dict[str, Any], word: str) -> dict[str, Any]:
        if _subject(asked) != word:
            self.strange.append(asked)
        return super()._answer(asked, word)

    async def call(self, backend: str, number: int, *, by_owner: bool = False) -> None:
        """One call with its questions; `by_owner` if the owner of the session may relay it."""
        word = f"{self.who}-{backend}-{number}"
        self.client.touched.clear()
        if by_owner:
            self.client.touched.add(self.client.home)
        began, self._last = time.monotonic(), None
        try:
            async with asyncio.timeout(30):
                await self.talk(backend, word)
        except (httpx2.TransportError, KeyError, AssertionError, TimeoutError) as error:
            self.lost.append(self._loss(word, error, began))
        else:
            self.done += 1

    def _loss(self, word: str, error: Exception, began: float) -> Loss:
        killed = self.client.fleet.killed
        hit = any(killed.get(port, 0.0) > began for port in self.client.touched)
        told = (self._last or {}).get("error")
        if told is None:
            broken = isinstance(error, httpx2.TransportError)
            return Loss(word, repr(error), broken or self._last is None, hit)
        says = "mayHaveRun" in (told.get("data") or {})
        return Loss(word, json.dumps(told), says, hit)
