"""Counting by the instances themselves: the owner of each subject grants leases to the others.

The answer with a lease contains all counts of the subject, so that every instance knows them up to
its last lease. The owner reports its own leases to its successor. If the owner ends, the successor
asks all others for their counts before it grants the first lease. It then lacks at most one lease.
"""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from mcpproxy.limits.instances import LEASE_TIME
from mcpproxy.proxy.call_limits.instances import peer_messages as messages
from mcpproxy.proxy.call_limits.instances.counts import Counts
from mcpproxy.proxy.call_limits.instances.peer_messages import Answer, PeerMessage, SubjectMessage
from mcpproxy.proxy.call_limits.instances.peers import LOOK, Instances, Peers
from mcpproxy.proxy.call_limits.instances.reactions import Reactions
from mcpproxy.proxy.call_limits.instances.succession import Succession
from mcpproxy.proxy.call_limits.store import (
    FailureRecord,
    HoldRequest,
    Lease,
    LeaseRequest,
    StoreUnavailable,
    SubjectKey,
)
from mcpproxy.proxy.call_limits.window import Rate
from mcpproxy.proxy.instances.members import InstanceLink, InstanceUnreachable, Members

TRIES: Final = 3
"""Instances that one request asks, because the first ones do not answer or do not count."""
R = TypeVar("R", LeaseRequest, HoldRequest)
T = TypeVar("T")
log = logging.getLogger("mcpproxy.limits")


class OwnerStore:
    """Store without a server. Without other instances, it counts alone."""

    def __init__(self, clock: Callable[[], float], instances: Instances = ()) -> None:
        """`instances` are all instances that count together, this one among them or not."""
        self._clock = clock
        self._instances = instances
        self._counts = Counts(secrets.token_urlsafe(9))
        self._peers: Peers | None = None
        self._reactions: Reactions | None = None
        self._round: asyncio.Task[None] | None = None
        self._failure = FailureRecord(clock)
        self._succession = Succession(clock)

    @property
    def sent(self) -> int:
        """Number of messages to others about calls so far."""
        return 0 if self._peers is None else self._peers.sent

    @property
    def members(self) -> Members | None:
        """The instances that count together; None without a connection to others."""
        return None if self._peers is None else self._peers.members

    def connect(self, link: InstanceLink) -> None:
        """Count together with the other instances. Requires a running loop."""
        peers = self._peers = Peers(link, self._instances, self._counts, self._clock)
        self._reactions = Reactions(peers, self._counts, self._clock, self._grant, self._recall)
        if self._instances:
            self._round = asyncio.get_running_loop().create_task(peers.members.run())

    # Leases and slots of this instance

    def _must_ask(self, key: SubjectKey) -> bool:
        """Return True if calls of a subject can't be counted without asking another instance."""
        peers = self._peers
        if peers is None:
            return False
        members = peers.members
        if not members.others:
            return not members.joined.is_set()
        return members.owner(key) != members.own or self._succession.is_pending(key, members)

    def lease_at_once(self, request: LeaseRequest, now: float) -> Lease | None:
        if self._must_ask(request.key):
            return None
        peers = self._peers
        if peers is None or not peers.members.others:
            # Nobody else counts.
            return self._counts.windows.lease_alone(request, now)
        return self._grant(request, request.wanted, peers.members.own, now)

    async def lease(self, request: LeaseRequest) -> Lease:
        return await self._ask_in_time(request, self._ask_for_lease)

    def hold_at_once(self, request: HoldRequest, now: float) -> int | None:
        if self._must_ask(request.key):
            return None
        counts = self._counts
        return counts.keep(request.key, counts.hold(request, counts.counter, now))

    async def hold(self, request: HoldRequest) -> int:
        granted = await self._ask_in_time(request, self._ask_to_hold)
        return self._counts.keep(request.key, min(granted, request.wanted))

    async def _ask_in_time(self, request: R, ask: Callable[[Peers, R], Awaitable[T | None]]) -> T:
        """Ask the owner, and those that replace it. Raise StoreUnavailable."""
        peers = self._peers
        assert peers is not None
        answer: T | None = None
        try:
            async with asyncio.timeout(LEASE_TIME.value):
                await peers.members.joined.wait()
                answer = await ask(peers, request)
        except TimeoutError:
            LEASE_TIME.record()
        if answer is None:
            why = "the instance that counts calls did not answer"
            if self._failure.record(why):
                log.warning("calls for spec.limits can't be counted together: %s", why)
            raise StoreUnavailable(why)
        self._failure.clear()
        return answer

    async def _ask_for_lease(self, peers: Peers, request: LeaseRequest) -> Lease | None:
        answer = await self._ask_owner(
            peers,
            request.key,
            lambda: self.lease_at_once(request, self._clock()),
            lambda: messages.lease_message(peers.members.own, request, self._clock()),
        )
        if not isinstance(answer, Answer):
            return answer
        if not answer.counter or answer.count > request.wanted:
            return None
        now = self._clock()
        snapshot = messages.decode_snapshot(answer.snapshot, now)
        self._counts.windows.adopt(request.key, request.rate, snapshot, now)
        return Lease(answer.count, answer.wait, answer.booked, answer.counter, snapshot)

    async def _ask_to_hold(self, peers: Peers, request: HoldRequest) -> int | None:
        message = messages.holding(peers.members.own, self._counts.counter, request)
        answer = await self._ask_owner(
            peers,
            request.key,
            lambda: self.hold_at_once(request, self._clock()),
            lambda: message,
        )
        return answer.count if isinstance(answer, Answer) else answer

    async def _ask_owner(
        self,
        peers: Peers,
        key: SubjectKey,
        decide: Callable[[], T | None],
        message: Callable[[], PeerMessage],
    ) -> T | Answer | None:
        """Decide as the owner of a subject, or return its answer; None without an answer."""
        members = peers.members
        for _ in range(TRIES):
            decision = decide()
            if decision is not None:
                return decision
            owner = members.owner(key)
            if owner == members.own:
                await self._recall(key)
                continue
            try:
                answer = await peers.ask(owner, message())
            except InstanceUnreachable:
                members.drop(owner)
                continue
            members.hear(owner)
            if not answer.owner:
                return answer
            if answer.owner != members.own:
                members.hear(answer.owner)
        return None

    def give_back(self, key: SubjectKey, rate: Rate, lease: Lease, count: int) -> None:
        peers, counter = self._peers, lease.counter
        if not counter:
            self._counts.windows.give_back(key, count, lease.booked)
        elif peers is not None and (owner := peers.members.owner(key)) != peers.members.own:
            subject = SubjectMessage.of(key, rate)
            own = peers.members.own
            peers.tell(owner, messages.Withdrawal(own, subject, count, counter, lease.booked))

    # What it counts for all

    def _grant(self, request: LeaseRequest, wanted: int, asker: str, now: float) -> Lease:
        """Count calls for an instance as the owner; the successor learns of the owner's own."""
        peers = self._peers
        assert peers is not None
        members = peers.members
        lease = self._counts.windows.lease(request, wanted, asker, now)
        successor = members.successor(request.key)
        if lease.count and asker == members.own and successor is not None:
            calls = self._counts.calls(request.key, now)
            peers.tell(successor, messages.Handover(members.own, calls))
        return lease

    async def _recall(self, key: SubjectKey) -> None:
        """Learn from the others what an instance that was lost has counted of a subject."""
        peers, counts = self._peers, self._counts
        assert peers is not None
        inquiry = messages.Inquiry(peers.members.own, key.rule, key.subject)

        async def ask(address: str) -> None:
            # One that does not answer in time may be busy; others find out whether it runs.
            with contextlib.suppress(InstanceUnreachable):
                answer = await peers.ask(address, inquiry, LOOK)
                counts.adopt(answer.subjects, answer.slots, self._clock())

        await self._succession.run(key, peers.members, ask)

    async def answer(self, body: bytes) -> bytes:
        """Return the answer to a message of an instance that has proven the sealing key.

        Raise ValueError for a message that is not understood.
        """
        if self._reactions is None:
            raise ValueError("this instance does not count calls")
        return await self._reactions.answer(body)

    def failure(self) -> str | None:
        return self._failure.current()

    async def close(self) -> None:
        if self._round is not None:
            self._round.cancel()
        if self._peers is not None:
            await self._peers.close()
        await self._succession.close()

    async def leave(self) -> None:
        """Tell the other instances that this one ends, and what it has counted."""
        if self._round is not None:
            self._round.cancel()
        if self._peers is not None:
            await self._peers.leave()
