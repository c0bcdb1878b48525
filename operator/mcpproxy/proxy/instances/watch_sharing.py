"""Division of the watches of backends among the instances of a proxy.

The instances rank each other for each backend by rendezvous hashing. An instance leaves a backend
to another one as long as an instance with a higher rank tells regularly that it watches the
backend. If these messages end, the instances with the highest ranks watch it themselves at once,
and the others a little later. Without any message, each instance watches all backends.
"""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from mcpproxy.api.constants import WATCHES_PATH
from mcpproxy.api.defaults import UNSHARED_PODS
from mcpproxy.limits.instances import WATCH_TASKS
from mcpproxy.proxy.instances import watch_messages as messages
from mcpproxy.proxy.instances.members import (
    InstanceLink,
    InstanceUnreachable,
    Key,
    Look,
    Members,
    weight,
)
from mcpproxy.proxy.instances.watch_messages import Watched, WatchMessage
from mcpproxy.proxy.upstream.monitor.shared.watch_share import WatchShare
from mcpproxy.proxy.upstream.transports.session import TaskSet

HEARTBEAT: Final = 5.0
"""Seconds after which an instance repeats what it watches."""
CLAIM_TIME: Final = 15.0
"""Seconds after which the claim of an instance expires, unless it repeats it."""
SUCCESSION: Final = 2.0
"""Seconds that the instance with the highest rank has to watch, before the next one does so."""
APART: Final = 0.05
"""Minimum seconds between messages to the same instance."""
ANSWER_TIME: Final = 2.0
"""Seconds in which an instance must answer."""
LONGEST_ROUND: Final = 60.0
"""Seconds between lookups while the name of the instances has no address."""
log = logging.getLogger("mcpproxy.instances")


@dataclass(frozen=True, slots=True)
class _Claim:
    """Statement of another instance that it watches a backend."""

    sender: str
    at: float


class WatchSharing:
    """The watches of this instance, and what it knows about those of others."""

    def __init__(
        self,
        link: InstanceLink,
        names: Iterable[tuple[str, int]],
        group: str,
        shares: Mapping[str, WatchShare],
        clock: Callable[[], float],
        look: Look | None = None,
    ) -> None:
        """`names` are hosts and ports of instances, as in `Members`; `group` is a digest of the
        configuration, and `shares` are those of all backends by name."""
        self._link, self._group, self._shares, self._clock = link, group, shares, clock
        self.members = Members(
            link.address, names, self._greet, clock, self.wake, look, LONGEST_ROUND
        )
        self._process = secrets.token_hex(8)
        """Name of this process, which differs after a restart."""
        self._claims: dict[str, _Claim] = {}
        """The claim of the highest rank for each backend."""
        self._unclaimed_since: dict[str, float] = {}
        self._news = asyncio.Event()
        self._body, self._version = b"", 0
        """The latest message, and its number."""
        self._named_backends = False
        """True if the latest message names a backend."""
        self._sent: dict[str, int] = {}
        """Instances to which a message is being sent, and its number."""
        self._meeting: set[str] = set()
        """Senders that have not proven their address yet."""
        self._background = TaskSet()
        self._leaves = False

    @property
    def _is_shared(self) -> bool:
        return len(self.members.others) >= UNSHARED_PODS

    def start(self) -> None:
        """Find other instances, and divide the watches among all."""
        self._background.spawn(self.members.run())
        self._background.spawn(self._run())

    def wake(self) -> None:
        """Tell the other instances soon what has changed."""
        self._news.set()

    async def _run(self) -> None:
        while True:
            self.divide()
            self._tell_all()
            pause = SUCCESSION if self._unclaimed_since else HEARTBEAT
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._news.wait()
            self._news.clear()
            await asyncio.sleep(APART)

    # Which instance watches what

    def divide(self) -> None:
        """Decide which backends this instance watches."""
        now = self._clock()
        for name, share in self._shares.items():
            watches = self._should_watch(name, share, now)
            if watches != share.watches:
                who = "this instance" if watches else self._claims[name].sender
                log.info("backend %s: its lists are watched by %s from now on", name, who)
                share.assign(watches=watches)

    def _should_watch(self, name: str, share: WatchShare, now: float) -> bool:
        claim = self._claims.get(name)
        if self._is_shared:
            if claim and self._counts(claim, now) and self._precedes(name, claim.sender):
                self._unclaimed_since.pop(name, None)
                return False
            if not share.watches:
                # The instances before this one get the time to watch.
                since = self._unclaimed_since.setdefault(name, now)
                if now - since < self._patience(name):
                    return False
        self._unclaimed_since.pop(name, None)
        return True

    def _patience(self, name: str) -> float:
        """Return the seconds after which this instance watches a backend that no other watches."""
        key, members = _key(name), self.members
        if members.owner(key) == members.own:
            return 0.0
        return SUCCESSION if members.successor(key) == members.own else CLAIM_TIME

    def _counts(self, claim: _Claim, now: float) -> bool:
        return now - claim.at < CLAIM_TIME and claim.sender in self.members.others

    def _precedes(self, name: str, address: str, other: str | None = None) -> bool:
        """Return True if an instance has a higher rank than another one, or this one."""
        key = _key(name)
        return weight(address, key) > weight(other or self.members.own, key)

    def _take(self, sender: str, process: str, watched: Watched) -> None:
        """Take note of all backends that an instance watches."""
        now = self._clock()
        for name in self._shares:
            claim = self._claims.get(name)
            if name in watched:
                replaces = claim is None or not self._counts(claim, now) or claim.sender == sender
                if replaces or (claim and self._precedes(name, sender, claim.sender)):
                    self._claims[name] = _Claim(sender, now)
            elif claim is not None and claim.sender == sender:
                del self._claims[name]
        self.divide()
        for name, lists in watched.items():
            share = self._shares[name]
            if not share.watches and self._claims[name].sender == sender:
                share.compare(process, lists)

    # Messages of this instance

    def _message(self, *, asks: bool = False, leaves: bool = False) -> WatchMessage:
        sender, process = self.members.own, self._process
        watched = {} if leaves else self._watched()
        return WatchMessage(sender, self._group, process, watched, asks, leaves)

    def _watched(self) -> Watched:
        now = self._clock()
        return {
            name: share.states(now)
            for name, share in self._shares.items()
            if share.can_be_relied_on
        }

    def _tell_all(self) -> None:
        """Send to each instance what this one watches; one message to each at a time."""
        if not self._is_shared:
            return
        message, named_backends = self._message(), self._named_backends
        self._named_backends = bool(message.watched)
        if not (named_backends or message.watched):
            return
        self._body, self._version = msgspec.json.encode(message), self._version + 1
        for address in self.members.others:
            if address not in self._sent:
                self._sent[address] = 0
                self._background.spawn(self._send_latest(address))

    async def _send_latest(self, address: str) -> None:
        try:
            while self._sent[address] != self._version:
                self._sent[address] = self._version
                await self._exchange(address, self._body)
        except InstanceUnreachable as error:
            log.debug("the instance at %s: %s", address, error)
            self._lose(address)
        finally:
            del self._sent[address]

    async def _greet(self, address: str) -> Collection[str]:
        answer = await self._exchange(address, msgspec.json.encode(self._message(asks=True)))
        if answer.group != self._group:
            raise InstanceUnreachable("has another configuration")
        if answer.watched.keys() <= self._shares.keys():
            self._take(address, answer.process, answer.watched)
        return answer.others

    async def _exchange(self, address: str, body: bytes) -> messages.WatchAnswer:
        """Send a message and return the answer. Raise InstanceUnreachable."""
        try:
            async with asyncio.timeout(ANSWER_TIME):
                answer = await self._link.exchange(address, WATCHES_PATH, body)
            return messages.read_answer(answer)
        except (OSError, TimeoutError, ValueError) as error:
            raise InstanceUnreachable(str(error)) from None

    def _lose(self, address: str) -> None:
        self.members.drop(address)
        self.wake()

    # Messages of others

    def answer(self, body: bytes) -> bytes:
        """Return the answer to a message of an instance that has proven the sealing key.

        Raise ValueError for a message that is refused.
        """
        message = messages.read_message(body)
        if message.group != self._group or self._leaves:
            group = "" if self._leaves else self._group
            return msgspec.json.encode(messages.WatchAnswer(group, self._process))
        unknown = message.watched.keys() - self._shares.keys()
        if unknown:
            raise ValueError(f"watched names {len(unknown)} backends that spec.backends lacks")
        self._receive(message)
        watched = self._watched() if message.asks else {}
        others = list(self.members.others) if message.asks else []
        answer = messages.WatchAnswer(self._group, self._process, watched, others)
        return msgspec.json.encode(answer)

    def _receive(self, message: WatchMessage) -> None:
        sender = message.sender
        if message.leaves:
            self.members.dismiss(sender)
            self.wake()
        elif sender in self.members.others:
            self.members.hear(sender)
            self._take(sender, message.process, message.watched)
        elif sender != self.members.own and sender not in self._meeting:
            # Only an instance that answers at its address is relied on.
            if len(self._meeting) >= WATCH_TASKS.value:
                WATCH_TASKS.record()
                return
            self._meeting.add(sender)
            self._background.spawn(self._meet(sender))

    async def _meet(self, address: str) -> None:
        try:
            self._link.expect(address)
            await self.members.meet(address)
        finally:
            self._meeting.discard(address)

    # The end

    async def leave(self) -> None:
        """Tell the other instances that this one ends."""
        self._leaves = True
        await self.close()
        body = msgspec.json.encode(self._message(leaves=True))
        farewells = (self._exchange(address, body) for address in self.members.others)
        await asyncio.gather(*farewells, return_exceptions=True)

    async def close(self) -> None:
        """End what runs in the background."""
        await self._background.close()


def _key(backend: str) -> Key:
    return ("watch", backend)
