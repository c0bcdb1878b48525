"""Instances that share the watch of one backend, in one process and by one clock set by hand."""

import asyncio
from dataclasses import dataclass, field

from mcpproxy.proxy.core.catalog.catalog import Catalog
from mcpproxy.proxy.core.catalog.component_list import ComponentList
from mcpproxy.proxy.instances import watch_sharing
from mcpproxy.proxy.instances.members import weight
from mcpproxy.proxy.instances.watch_sharing import WatchSharing
from mcpproxy.proxy.protocol.kinds import KINDS, TOOLS, ComponentKind
from mcpproxy.proxy.upstream.monitor.shared.watch_share import WatchShare
from tests.proxy.call_limits.crowd import Clock

BACKEND = "p"
GROUP = "g"


@dataclass
class Stream:
    """A stream of announcements that works when the test says so."""

    watches: bool = True
    works: bool = True

    def assign(self, *, watches: bool) -> None:
        """Record who watches."""
        self.watches = watches


@dataclass
class Announced:
    """Lists that record for which kinds a change was announced."""

    kinds: list[ComponentKind] = field(default_factory=list)

    def announced(self, kind: ComponentKind) -> None:
        """Record the kind."""
        self.kinds.append(kind)


class Watch:
    """The watch of one backend in one instance, with its parts."""

    def __init__(self) -> None:
        self.catalog = Catalog()
        self.stream, self.lists, self.tailored = Stream(), Announced(), Announced()
        self.is_current = True
        self.share = WatchShare(
            *(BACKEND, self.catalog, self.lists, self.tailored, self.stream),
            lambda: self.is_current,
            10.0,
        )

    def list(self, *tools: bytes, at: float = 0.0) -> None:
        """Let the backend have listed these tools at a time."""
        names = tuple(f"{number}" for number in range(len(tools)))
        self.catalog.put(BACKEND, TOOLS, ComponentList(tools, names, fetched_at=at))


@dataclass
class Crowd:
    """Instances, and the messages between them."""

    clock: Clock = field(default_factory=Clock)
    watches: dict[str, Watch] = field(default_factory=dict)
    sharings: dict[str, WatchSharing] = field(default_factory=dict)
    messages: list[tuple[str, str, bytes]] = field(default_factory=list)
    """Senders, receivers and contents."""
    cut: set[tuple[str, str]] = field(default_factory=set)
    """Senders and receivers between which no message passes."""

    def start(self, number: int, group: str = GROUP) -> str:
        """Start one more instance, and return its address."""
        own = f"10.0.0.{number}:8080"
        names = [(f"10.0.0.{each}", 8080) for each in range(1, 10)]
        watch = self.watches[own] = Watch()
        self.sharings[own] = WatchSharing(
            Link(self, own), names, group, {BACKEND: watch.share}, self.clock, _look
        )
        return own

    @property
    def watchers(self) -> list[str]:
        """The instances that watch."""
        return [address for address, watch in self.watches.items() if watch.stream.watches]

    def ranked(self) -> list[str]:
        """The instances, from the highest rank to the lowest."""
        key = ("watch", BACKEND)
        return sorted(self.watches, key=lambda address: weight(address, key), reverse=True)

    async def round(self, times: int = 1, seconds: float = watch_sharing.HEARTBEAT) -> None:
        """Let all instances find each other, decide, and tell the others, so many times."""
        for _ in range(times):
            self.clock.now += seconds
            for sharing in list(self.sharings.values()):
                await sharing.members.find()
                sharing.divide()
                sharing._tell_all()
            for _ in range(20):
                await asyncio.sleep(0)

    async def kill(self, address: str) -> None:
        """End an instance without a word."""
        del self.watches[address]
        await self.sharings.pop(address).close()

    async def close(self) -> None:
        """End all instances."""
        for sharing in self.sharings.values():
            await sharing.close()


@dataclass
class Link:
    """The connections of one instance."""

    crowd: Crowd
    address: str

    async def exchange(self, address: str, path: str, body: bytes) -> bytes:
        """Deliver a message."""
        crowd = self.crowd
        crowd.messages.append((self.address, address, body))
        await asyncio.sleep(0)
        if address not in crowd.sharings or (self.address, address) in crowd.cut:
            raise ConnectionError("connection refused")
        return crowd.sharings[address].answer(body)

    def expect(self, address: str) -> None:
        """Nothing is remembered here."""


async def _look(host: str, port: int) -> list[str]:
    return [f"{host}:{port}"]


def states(*digests: str) -> list[list[object]]:
    """States of the lists for a message."""
    return [[digest, 0.0, 0] for digest in digests or [""] * len(KINDS)]
