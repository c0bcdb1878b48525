"""Counting by the instances themselves: the owner of each subject grants leases to the others.

The owner reports each lease to the instance that will count if the owner ends. That instance then
lacks at most the last lease.
"""

import asyncio
import logging
import secrets
from collections import defaultdict
from collections.abc import Callable, Collection, Coroutine
from typing import Any, Final, Protocol

import msgspec

from mcpproxy.api.constants import LIMITS_PATH
from mcpproxy.limits.instances import COUNTING_TASKS, LEASE_TIME
from mcpproxy.proxy.call_limits.instances import peer_messages as messages
from mcpproxy.proxy.call_limits.instances.members import InstanceUnreachable, Members
from mcpproxy.proxy.call_limits.instances.peer_messages import Answer, PeerMessage, SubjectMessage
from mcpproxy.proxy.call_limits.rules import lease_size
from mcpproxy.proxy.call_limits.store import (
    FailureRecord,
    Lease,
    LeaseRequest,
    StoreUnavailable,
    SubjectKey,
)
from mcpproxy.proxy.call_limits.window import Rate
from mcpproxy.proxy.call_limits.window_table import WindowTable

TRIES: Final = 3
"""Instances that one request asks, because the first ones do not answer or do not count."""


log = logging.getLogger("mcpproxy.limits")


Instances = Collection[tuple[str, int]]
"""Hosts and ports of instances; a host may have the addresses of several."""


class InstanceLink(Protocol):
    """Connections to other instances, which prove the sealing key."""

    @property
    def address(self) -> str:
        """Address at which others reach this instance."""

    async def exchange(self, address: str, path: str, body: bytes) -> bytes:
        """Send a message and return the answer. Raise OSError."""

    def expect(self, address: str) -> None:
        """Connect to an instance again although it was unreachable lately."""


class OwnerStore:
    """Store without a server. Without other instances, it counts alone."""

    def __init__(self, clock: Callable[[], float], instances: Instances = ()) -> None:
        """`instances` are all instances that count together, this one among them or not."""
        self._clock = clock
        self._instances = instances
        self._table = WindowTable(secrets.token_urlsafe(9))
        self._link: InstanceLink | None = None
        self._members: Members | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._round: asyncio.Task[None] | None = None
        self._failure = FailureRecord(clock)
        self.sent = 0
        """Messages sent so far about leases; greetings are not counted."""

    def connect(self, link: InstanceLink) -> None:
        """Count together with the other instances. Requires a running loop."""
        self._link = link
        names, joined = self._instances, self._on_joined
        self._members = Members(link.address, names, self._greet, self._clock, joined)
        if names:
            self._round = asyncio.get_running_loop().create_task(self._members.run())

    def _on_joined(self) -> None:
        self._spawn(self._hand_over())

    # Leases of this instance

    def lease_at_once(self, request: LeaseRequest, now: float) -> Lease | None:
        members = self._members
        if members is None or not members.others:
            if members is not None and not members.joined.is_set():
                return None
            # Nobody else counts, so that there is no need for calls in advance.
            return self._table.lease(request, 1, "", now)
        if members.owner(request.key) != members.own:
            return None
        return self._grant(members, request, request.wanted, members.own, now)

    async def lease(self, request: LeaseRequest) -> Lease:
        members = self._members
        assert members is not None
        try:
            async with asyncio.timeout(LEASE_TIME.value):
                await members.joined.wait()
                lease = await self._ask(members, request)
        except TimeoutError:
            LEASE_TIME.record()
            lease = None
        if lease is None:
            why = "the instance that counts calls did not answer"
            if self._failure.record(why):
                log.warning("calls for spec.limits can't be counted together: %s", why)
            raise StoreUnavailable(why)
        self._failure.clear()
        return lease

    async def _ask(self, members: Members, request: LeaseRequest) -> Lease | None:
        for _ in range(TRIES):
            lease = self.lease_at_once(request, self._clock())
            if lease is not None:
                return lease
            owner = members.owner(request.key)
            message = messages.lease_message(members.own, request, self._clock())
            self.sent += 1
            try:
                answer = await self._exchange(owner, message)
            except InstanceUnreachable:
                members.drop(owner)
                continue
            members.hear(owner)
            if not answer.owner:
                return self._accept(members, request, answer)
            if answer.owner != members.own:
                members.hear(answer.owner)
        return None

    def _accept(self, members: Members, request: LeaseRequest, answer: Answer) -> Lease | None:
        if not answer.counter or answer.count > request.wanted:
            return None
        now = self._clock()
        snapshot = messages.decode_snapshot(answer.snapshot, now)
        if members.successor(request.key) == members.own:
            self._table.adopt(request.key, request.rate, snapshot, now)
        return Lease(answer.count, answer.wait, answer.booked, answer.counter, snapshot)

    def give_back(self, key: SubjectKey, rate: Rate, lease: Lease, count: int) -> None:
        members, counter = self._members, lease.counter
        if not counter:
            self._table.give_back(key, count, lease.booked)
        elif members is not None and (owner := members.owner(key)) != members.own:
            subject = SubjectMessage.of(key, rate)
            message = messages.Withdrawal(members.own, subject, count, counter, lease.booked)
            self._spawn(self._tell(owner, message))

    def failure(self) -> str | None:
        return self._failure.current()

    async def close(self) -> None:
        if self._round is not None:
            self._round.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def leave(self) -> None:
        """Tell the other instances that this one ends, and what it has counted."""
        members = self._members
        if members is None:
            return
        if self._round is not None:
            self._round.cancel()
        # Leases are given back to their owners.
        await asyncio.gather(*self._tasks, return_exceptions=True)
        members.leave()
        await self._hand_over()
        leaving = messages.Leaving(members.own)
        await asyncio.gather(*(self._tell(other, leaving) for other in members.others))

    # Messages of other instances

    async def answer(self, body: bytes) -> bytes:
        """Return the answer to a message of an instance that has proven the sealing key.

        Raise ValueError for a message that is not understood.
        """
        members = self._members
        if members is None:
            raise ValueError("this instance does not count calls")
        message = messages.DECODER.decode(body)
        return msgspec.json.encode(await self._react(members, message))

    async def _react(self, members: Members, message: PeerMessage) -> Answer:
        if isinstance(message, messages.Leaving):
            members.drop(message.sender)
            return Answer()
        if self._link is not None:
            self._link.expect(message.sender)
        members.hear(message.sender)
        now = self._clock()
        if isinstance(message, messages.Greeting):
            return Answer(others=list(members.others))
        if isinstance(message, messages.LeaseMessage):
            return await self._react_to_request(members, message)
        if isinstance(message, messages.Withdrawal):
            subject = message.subject
            if message.counter == self._table.counter:
                most = lease_size(subject.rate)
                self._table.give_back(subject.key, min(message.count, most), message.booked)
            return Answer()
        for subject, snapshot in message.subjects:
            told = messages.decode_snapshot(snapshot, now)
            self._table.adopt(subject.key, subject.rate, told, now)
        return Answer()

    async def _react_to_request(self, members: Members, message: messages.LeaseMessage) -> Answer:
        subject = message.subject
        owner = members.owner(subject.key)
        if owner != members.own:
            # The sender does not know the owner, or could not reach it. This one tries as well.
            if await self._is_reachable(members, owner):
                return Answer(owner=owner)
            if members.owner(subject.key) != members.own:
                return Answer(owner=members.owner(subject.key))
        now = self._clock()
        snapshot = messages.decode_snapshot(message.snapshot, now)
        request = LeaseRequest(subject.key, subject.rate, message.wanted, snapshot)
        wanted = min(message.wanted, lease_size(subject.rate))
        lease = self._grant(members, request, wanted, message.sender, now)
        counted = messages.encode_snapshot(self._table.snapshot(subject.key, now), now)
        wait = min(lease.wait, 86_400.0)
        counter = self._table.counter
        return Answer(
            count=lease.count, wait=wait, booked=lease.booked, counter=counter, snapshot=counted
        )

    async def _is_reachable(self, members: Members, address: str) -> bool:
        try:
            await self._greet(address)
        except InstanceUnreachable:
            members.drop(address)
            return False
        return True

    def _grant(
        self, members: Members, request: LeaseRequest, wanted: int, asker: str, now: float
    ) -> Lease:
        lease = self._table.lease(request, wanted, asker, now)
        successor = members.successor(request.key)
        if lease.count and successor not in (None, asker):
            told = messages.encode_snapshot(self._table.snapshot(request.key, now), now)
            subject = SubjectMessage.of(request.key, request.rate)
            assert successor is not None
            self._spawn(self._tell(successor, messages.Handover(members.own, [(subject, told)])))
        return lease

    # Messages to other instances

    async def _greet(self, address: str) -> Collection[str]:
        assert self._members is not None
        return (await self._exchange(address, messages.Greeting(self._members.own))).others

    async def _tell(self, address: str, message: PeerMessage) -> None:
        """Send a message whose answer does not matter."""
        assert self._members is not None
        self.sent += 1
        try:
            await self._exchange(address, message)
        except InstanceUnreachable:
            self._members.drop(address)

    async def _exchange(self, address: str, message: PeerMessage) -> Answer:
        assert self._link is not None
        try:
            # Half of the time, so that a second instance can be asked.
            async with asyncio.timeout(LEASE_TIME.value / 2):
                body = await self._link.exchange(address, LIMITS_PATH, msgspec.json.encode(message))
            return messages.ANSWERS.decode(body)
        except (OSError, TimeoutError, ValueError) as error:
            raise InstanceUnreachable(str(error)) from None

    async def _hand_over(self) -> None:
        """Tell what this instance has counted of subjects that another one counts from now on."""
        members, now = self._members, self._clock()
        assert members is not None
        told: defaultdict[str, list[tuple[SubjectMessage, list[messages.CountedMessage]]]]
        told = defaultdict(list)
        for key, rate in self._table.counted(now):
            owner = members.owner(key)
            if owner != members.own:
                snapshot = messages.encode_snapshot(self._table.snapshot(key, now), now)
                told[owner].append((SubjectMessage.of(key, rate), snapshot))
        for owner, subjects in told.items():
            for start in range(0, len(subjects), messages.MAX_SUBJECTS):
                part = subjects[start : start + messages.MAX_SUBJECTS]
                await self._tell(owner, messages.Handover(members.own, part))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something in the background; beyond the limit, it is left undone."""
        if len(self._tasks) >= COUNTING_TASKS.value:
            COUNTING_TASKS.record()
            work.close()
            return
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
