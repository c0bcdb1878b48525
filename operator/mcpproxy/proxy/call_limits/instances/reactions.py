"""Answers to the messages of other instances."""

from collections.abc import Awaitable, Callable

import msgspec

from mcpproxy.proxy.call_limits.instances import peer_messages as messages
from mcpproxy.proxy.call_limits.instances.counts import Counts
from mcpproxy.proxy.call_limits.instances.peer_messages import Answer, PeerMessage
from mcpproxy.proxy.call_limits.instances.peers import Peers
from mcpproxy.proxy.call_limits.store import HoldRequest, Lease, LeaseRequest, SubjectKey
from mcpproxy.proxy.call_limits.window import lease_size

Grant = Callable[[LeaseRequest, int, str, float], Lease]
"""Function that grants a request of an instance as the owner: request, calls, instance, time."""


class Reactions:
    """Reactions of this instance to questions and reports."""

    def __init__(
        self,
        peers: Peers,
        counts: Counts,
        clock: Callable[[], float],
        grant: Grant,
        recall: Callable[[SubjectKey], Awaitable[None]],
    ) -> None:
        """`recall` learns what an instance that was lost has counted of a subject."""
        self._peers, self._counts, self._clock = peers, counts, clock
        self._grant, self._recall = grant, recall

    async def answer(self, body: bytes) -> bytes:
        """Return the answer to a message. Raise ValueError for one that is not understood."""
        return msgspec.json.encode(await self._react(messages.DECODER.decode(body)))

    async def _react(self, message: PeerMessage) -> Answer:
        if isinstance(message, messages.Leaving):
            self._peers.members.dismiss(message.sender)
            return Answer()
        self._peers.hear(message.sender)
        if isinstance(message, messages.Greeting):
            return Answer(others=list(self._peers.members.others))
        if isinstance(message, messages.LeaseMessage):
            return await self._find_owner(message.subject.key) or self._lease(message)
        if isinstance(message, messages.Holding):
            return await self._find_owner(message.key) or self._hold(message)
        now = self._clock()
        if isinstance(message, messages.Inquiry):
            calls = self._counts.calls(message.key, now)
            return Answer(subjects=calls, slots=self._counts.own_slots(message.key))
        if isinstance(message, messages.Withdrawal):
            subject = message.subject
            if message.counter == self._counts.counter:
                count = min(message.count, lease_size(subject.rate))
                self._counts.windows.give_back(subject.key, count, message.booked)
            return Answer()
        self._counts.adopt(message.subjects, message.slots, now)
        return Answer()

    async def _find_owner(self, key: SubjectKey) -> Answer | None:
        """Return the answer that names the owner of a subject; None if it is this instance."""
        members = self._peers.members
        owner = members.owner(key)
        if owner != members.own:
            # The sender does not know the owner, or could not reach it. This one tries as well.
            if await self._peers.is_reachable(owner):
                return Answer(owner=owner)
            if members.owner(key) != members.own:
                return Answer(owner=members.owner(key))
        await self._recall(key)
        return None

    def _lease(self, message: messages.LeaseMessage) -> Answer:
        subject, now = message.subject, self._clock()
        snapshot = messages.decode_snapshot(message.snapshot, now)
        request = LeaseRequest(subject.key, subject.rate, message.wanted, snapshot)
        wanted = min(message.wanted, lease_size(subject.rate))
        lease = self._grant(request, wanted, message.sender, now)
        counted = self._counts.windows.snapshot(subject.key, now)
        return Answer(
            count=lease.count,
            wait=min(lease.wait, 86_400.0),
            booked=lease.booked,
            counter=self._counts.counter,
            snapshot=messages.encode_snapshot(counted, now),
        )

    def _hold(self, message: messages.Holding) -> Answer:
        running = min(message.running, message.limit)
        request = HoldRequest(message.key, message.limit, message.wanted, running)
        granted = self._counts.hold(request, message.holder, self._clock())
        return Answer(count=granted, counter=self._counts.counter)
