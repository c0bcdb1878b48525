"""The instances of a proxy that work together, and which of them is responsible for what."""

import asyncio
import contextlib
import hashlib
import logging
import socket
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Final, Protocol

from mcpproxy.api.authority import join_host_port, parse_authority
from mcpproxy.limits.instances import KNOWN

ROUND: Final = 5.0
"""Seconds between two rounds in which instances are looked up and greeted."""
GREETED_FOR: Final = 15.0
"""Seconds after a message of an instance for which it is not greeted again."""
LOOKUP: Final = 3.0
"""Seconds in which the addresses of a name must be known."""
AT_ONCE: Final = 16
"""Instances that are greeted at the same time."""
KEPT: Final = 4096
"""Maximum number of keys whose owners are cached."""
log = logging.getLogger("mcpproxy.instances")

Key = tuple[str, ...]
"""Name of work that one instance does for all, such as counting the calls of a subject."""
Greet = Callable[[str], Awaitable[Collection[str]]]
"""Function that greets the instance at an address and returns the others that it knows. Raises
InstanceUnreachable."""
Look = Callable[[str, int], Awaitable[list[str]]]
"""Function that returns the addresses of the instances with a name and a port."""


class InstanceLink(Protocol):
    """Connections to other instances, which prove the sealing key."""

    @property
    def address(self) -> str:
        """Address at which others reach this instance."""

    async def exchange(self, address: str, path: str, body: bytes) -> bytes:
        """Send a message and return the answer. Raise OSError."""

    def expect(self, address: str) -> None:
        """Connect to an instance again although it was unreachable lately."""


class InstanceUnreachable(Exception):
    """An instance does not answer, or not in time."""


class Members:
    """Addresses of the instances that work together; rendezvous hashing names the owner of each
    key."""

    def __init__(
        self,
        own: str,
        names: Iterable[tuple[str, int]],
        greet: Greet,
        clock: Callable[[], float],
        on_joined: Callable[[], None] = lambda: None,
        look: Look | None = None,
        longest_round: float = ROUND,
    ) -> None:
        """`names` are hosts and ports of instances; a host may have the addresses of several.

        `on_joined` is called when an instance has joined. While no name has an address,
        rounds become longer, up to `longest_round` seconds.
        """
        self.own = own
        self.joined = asyncio.Event()
        """Set once all instances that were found at the start have been greeted."""
        self._on_joined = on_joined
        self._longest_round = longest_round
        self._names = tuple(names)
        self._greet, self._look, self._clock = greet, look or look_up, clock
        self._met_at: dict[str, float] = {}
        """Other instances, and when they last sent something."""
        self._order: dict[Key, list[str]] = {}
        self._lost: dict[str, float] = {}
        """Instances that stopped answering, and when; the latest is at the end."""
        self._leaving = False
        if not self._names:
            self.joined.set()

    @property
    def others(self) -> tuple[str, ...]:
        """The addresses of the other instances."""
        return tuple(self._met_at)

    def owner(self, key: Key) -> str:
        """Return the instance that is responsible for a key."""
        return self._ranked(key)[0]

    def successor(self, key: Key) -> str | None:
        """Return the instance that would be responsible if the owner ended; None without one."""
        ranked = self._ranked(key)
        return ranked[1] if len(ranked) > 1 else None

    def _ranked(self, key: Key) -> list[str]:
        ranked = self._order.get(key)
        if ranked is None:
            candidates = list(self._met_at)
            if not (self._leaving and candidates):
                candidates.append(self.own)
            ranked = sorted(candidates, key=lambda address: weight(address, key))[-2:][::-1]
            if len(self._order) >= KEPT:
                self._order.clear()
            self._order[key] = ranked
        return ranked

    def hear(self, address: str) -> None:
        """Record that an instance has proven that it runs."""
        if address == self.own or not _is_address(address):
            return
        if address not in self._met_at:
            if len(self._met_at) >= KNOWN.value:
                KNOWN.record()
                return
            log.info("working together with the instance at %s", address)
            self._order.clear()
            self._met_at[address] = self._clock()
            self._lost.pop(address, None)
            self._on_joined()
        self._met_at[address] = self._clock()

    def drop(self, address: str) -> None:
        """Forget an instance that does not answer."""
        if self._forget(address):
            if len(self._lost) >= KNOWN.value:
                del self._lost[next(iter(self._lost))]
            self._lost[address] = self._clock()

    def dismiss(self, address: str) -> None:
        """Forget an instance that has handed over its work and ends."""
        self._forget(address)

    def _forget(self, address: str) -> bool:
        if self._met_at.pop(address, None) is None:
            return False
        log.info("no longer working together with the instance at %s", address)
        self._order.clear()
        return True

    def inherited_at(self, key: Key) -> float:
        """Return when an instance that preceded this one for a key was lost last."""
        times = [
            at for address, at in self._lost.items() if weight(address, key) > weight(self.own, key)
        ]
        return max(times, default=float("-inf"))

    def leave(self) -> None:
        """Be responsible for nothing from now on, because this instance ends."""
        self._leaving = True
        self._order.clear()

    async def run(self) -> None:
        """Look up and greet the other instances again and again."""
        pause = ROUND
        while True:
            is_known = await self.find()
            self.joined.set()
            pause = ROUND if is_known else min(2 * pause, max(self._longest_round, ROUND))
            await asyncio.sleep(pause)

    async def find(self) -> bool:
        """Look up the other instances once, and greet those from which nothing came lately.

        Return False if no instance is known, not even this one.
        """
        result = set(self._met_at)
        for host, port in self._names:
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(LOOKUP):
                    result.update(await self._look(host, port))
        is_known = bool(result)
        result.discard(self.own)
        known: set[str] = set()
        while pending := sorted(result - known)[: KNOWN.value]:
            known.update(pending)
            room = asyncio.Semaphore(AT_ONCE)
            told = await asyncio.gather(*(self._meet(address, room) for address in pending))
            # Instances that started at the same time may not be found by their name yet.
            result.update(address for others in told for address in others if _is_address(address))
            result.discard(self.own)
            if len(known) >= KNOWN.value:
                break
        return is_known

    async def _meet(self, address: str, room: asyncio.Semaphore) -> Collection[str]:
        if self._clock() - self._met_at.get(address, float("-inf")) < GREETED_FOR:
            return ()
        async with room:
            return await self.meet(address)

    async def meet(self, address: str) -> Collection[str]:
        """Greet an instance, and return the others that it knows; forget it without an answer."""
        if not _is_address(address):
            return ()
        try:
            others = await self._greet(address)
        except InstanceUnreachable:
            self.drop(address)
            return ()
        self.hear(address)
        return others


def _is_address(text: str) -> bool:
    parts = parse_authority(text)
    return parts is not None and parts.port is not None


def weight(address: str, key: Key) -> bytes:
    """Return the weight of an instance for a key; the owner is the one with the greatest."""
    text = "\0".join((address, *key)).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=8).digest()


async def look_up(host: str, port: int) -> list[str]:
    """Return the addresses of all instances with a host name. Raise OSError."""
    loop = asyncio.get_running_loop()
    infos = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [join_host_port(str(info[4][0]), port) for info in infos]
