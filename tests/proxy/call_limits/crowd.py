"""Instances that count calls together, in one process and by one clock that is set by hand."""

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from mcpproxy.api.v1alpha1 import LimitRule
from mcpproxy.proxy.call_limits.call_limits import CallLimits
from mcpproxy.proxy.call_limits.instances.owner_store import OwnerStore
from mcpproxy.proxy.call_limits.rule_set import GuardedPermit, RuleSet
from mcpproxy.proxy.call_limits.store import Store
from mcpproxy.proxy.call_limits.window import Rate, lease_size
from mcpproxy.proxy.core.access import CallLimitExceeded
from mcpproxy.proxy.core.exchange import ClientIdentity

PER_MINUTE = 600
LEASE = lease_size(Rate(PER_MINUTE, 60.0, 0))


class Clock:
    """A clock that is set by hand."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def a_client(principal: str = "alice") -> ClientIdentity:
    """A client of a principal."""
    return ClientIdentity("2025-11-25", principal=principal)


def a_request(target: str = "p_echo", method: str = "tools/call") -> Any:
    """A request about a component."""
    return SimpleNamespace(method=method, target=target)


def a_rule(name: str = "r", **fields: Any) -> LimitRule:
    """A rule of the spec."""
    return LimitRule.model_validate({"name": name, **fields})


def call_limits(
    store: Store, clock: Clock, *rules: LimitRule, allows_on_failure: bool = True
) -> CallLimits:
    """The limits of one instance."""
    result = RuleSet(rules or [a_rule(calls=600, window="60s")])
    return CallLimits(result, store, allows_on_failure=allows_on_failure, clock=clock)


async def admitted(
    limits: CallLimits,
    principal: str = "alice",
    target: str = "p_echo",
    backend: str = "p",
) -> GuardedPermit | None:
    """Admit a call as the relay does: at once if possible. Return None if a limit is exceeded."""
    about = a_request(target), backend, a_client(principal)
    try:
        permit = limits.admit_at_once(*about)
        return await limits.admit(*about) if permit is None else permit.guarded()
    except CallLimitExceeded:
        return None


@dataclass
class Crowd:
    """Instances of one proxy, and the messages between them."""

    clock: Clock
    rules: tuple[LimitRule, ...]
    allows_on_failure: bool = True
    limits: dict[str, CallLimits] = field(default_factory=dict)
    messages: list[tuple[str, bytes]] = field(default_factory=list)
    silent: set[str] = field(default_factory=set)
    """Instances that accept messages and never answer."""
    cut: set[tuple[str, str]] = field(default_factory=set)
    """Senders and receivers between which no message passes."""

    @property
    def addresses(self) -> list[str]:
        """The addresses of the instances that run."""
        return list(self.limits)

    def store(self, address: str) -> OwnerStore:
        """The store of an instance."""
        store = self.limits[address].store
        assert isinstance(store, OwnerStore)
        return store

    async def start(self, number: int) -> str:
        """Start one more instance, which finds the others by their addresses."""
        own = f"10.0.0.{number}:8080"
        names = [(address.partition(":")[0], 8080) for address in [*self.limits, own]]
        store = OwnerStore(self.clock, names)
        self.limits[own] = call_limits(
            store, self.clock, *self.rules, allows_on_failure=self.allows_on_failure
        )
        store.connect(Link(self, own))
        assert store._round is not None
        store._round.cancel()
        assert store.members is not None
        await store.members.find()
        store.members.joined.set()
        return own

    def owner(self, principal: str = "alice") -> str:
        """The instance that counts the calls of a principal."""
        address, limits = next(iter(self.limits.items()))
        key = limits.rules.rules[0].key("p", a_client(principal))
        members = self.store(address).members
        assert members is not None
        return members.owner(key)

    async def kill(self, address: str) -> None:
        """End an instance without a word."""
        await self.limits.pop(address).close()

    async def stop(self) -> None:
        """End all instances."""
        for limits in self.limits.values():
            await limits.close()

    async def settle(self) -> None:
        """Let everything in the background come to an end."""
        for _ in range(20):
            await asyncio.sleep(0)

    async def deliver(self, address: str, body: bytes, sender: str = "") -> bytes:
        """Deliver a message."""
        self.messages.append((address, body))
        await asyncio.sleep(0)
        if address in self.silent:
            await asyncio.Event().wait()
        if address not in self.limits or (sender, address) in self.cut:
            raise ConnectionError("connection refused")
        answer = await self.limits[address].answer_instance(body)
        assert answer is not None
        return answer

    @property
    def counted_messages(self) -> int:
        """Messages about calls; greetings do not depend on them."""
        return sum(b'"type":"greet"' not in body for _, body in self.messages)


@dataclass
class Link:
    """Connections of one instance."""

    crowd: Crowd
    address: str

    async def exchange(self, address: str, path: str, body: bytes) -> bytes:
        return await self.crowd.deliver(address, body, self.address)

    def expect(self, address: str) -> None:
        pass
