"""Messages of this instance to the others with which it counts calls."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Coroutine, Iterable
from typing import Any, Final

import msgspec

from mcpproxy.api.constants import LIMITS_PATH
from mcpproxy.limits.instances import COUNTING_TASKS, LEASE_TIME
from mcpproxy.proxy.call_limits.instances import peer_messages as messages
from mcpproxy.proxy.call_limits.instances.counts import Counts
from mcpproxy.proxy.call_limits.instances.peer_messages import Answer, PeerMessage
from mcpproxy.proxy.instances.members import InstanceLink, InstanceUnreachable, Members

ASK: Final = 0.5
"""Part of the time for a lease in which an instance must answer, so that a second can be asked."""
LOOK: Final = 0.2
"""Part of it in which one must answer before the asked instance itself answers."""

Instances = Collection[tuple[str, int]]
"""Hosts and ports of instances; a host may have the addresses of several."""


class Peers:
    """The other instances, and the messages to them."""

    def __init__(
        self, link: InstanceLink, instances: Instances, counts: Counts, clock: Callable[[], float]
    ) -> None:
        """`instances` are all instances that count together, this one among them or not."""
        self._link, self._counts, self._clock = link, counts, clock
        self._tasks: set[asyncio.Task[None]] = set()
        joined = self._on_joined
        self.members = Members(link.address, instances, self.greet, clock, joined)
        self.sent = 0
        """Messages sent so far about calls; greetings are not counted."""

    def _on_joined(self) -> None:
        self._spawn(self.hand_over())

    def hear(self, address: str) -> None:
        """Record that an instance has sent a message."""
        self._link.expect(address)
        self.members.hear(address)

    async def greet(self, address: str) -> Collection[str]:
        """Greet an instance and return the others that it knows. Raise InstanceUnreachable."""
        return (await self._exchange(address, messages.Greeting(self.members.own), LOOK)).others

    async def is_reachable(self, address: str) -> bool:
        """Return True if an instance answers; forget it otherwise."""
        try:
            await self.greet(address)
        except InstanceUnreachable:
            self.members.drop(address)
            return False
        return True

    async def ask(self, address: str, message: PeerMessage, part: float = ASK) -> Answer:
        """Send a message about calls and return the answer. Raise InstanceUnreachable."""
        self.sent += 1
        return await self._exchange(address, message, part)

    def tell(self, address: str, message: PeerMessage) -> None:
        """Send a message in the background, whose answer does not matter."""
        self._spawn(self._tell(address, message))

    async def _tell(self, address: str, message: PeerMessage) -> None:
        try:
            await self.ask(address, message)
        except InstanceUnreachable:
            self.members.drop(address)

    async def _exchange(self, address: str, message: PeerMessage, part: float) -> Answer:
        """Send a message and return the answer within a part of the time for a lease."""
        try:
            async with asyncio.timeout(LEASE_TIME.value * part):
                body = await self._link.exchange(address, LIMITS_PATH, msgspec.json.encode(message))
            return messages.ANSWERS.decode(body)
        except (OSError, TimeoutError, ValueError) as error:
            raise InstanceUnreachable(str(error)) from None

    async def hand_over(self) -> None:
        """Tell what this instance has counted of subjects that another one counts from now on."""
        counts, members, now = self._counts, self.members, self._clock()
        moved: defaultdict[str, list[messages.Handover]] = defaultdict(list)
        for key in counts.keys(now):
            owner = members.owner(key)
            if owner != members.own:
                calls, slots = counts.calls(key, now), counts.slots(key, now)
                moved[owner].append(messages.Handover(members.own, calls, slots))
        for owner, parts in moved.items():
            for start in range(0, len(parts), messages.MAX_SUBJECTS):
                await self._tell(owner, _join(parts[start : start + messages.MAX_SUBJECTS]))

    async def leave(self) -> None:
        """Hand the counts over, and tell that this instance ends."""
        # Leases are given back to their owners.
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.members.leave()
        await self.hand_over()
        leaving = messages.Leaving(self.members.own)
        await asyncio.gather(*(self._tell(other, leaving) for other in self.members.others))

    async def close(self) -> None:
        """End what runs in the background."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something in the background; beyond the limit, it is left undone."""
        if len(self._tasks) >= COUNTING_TASKS.value:
            COUNTING_TASKS.record()
            work.close()
            return
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _join(parts: Iterable[messages.Handover]) -> messages.Handover:
    """Return one message for several subjects, whose slots it has room for."""
    messages_to_join = list(parts)
    slots = [held for part in messages_to_join for held in part.slots][: messages.MAX_HOLDERS]
    calls = [counted for part in messages_to_join for counted in part.subjects]
    return messages.Handover(messages_to_join[0].sender, calls, slots)
