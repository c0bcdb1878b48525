"""The rules that count a call, with the counters of its subject, and the permit of the call."""

import asyncio
from collections.abc import Iterable
from itertools import takewhile
from typing import TYPE_CHECKING, Final

from mcpproxy.proxy.call_limits.account import SubjectAccount
from mcpproxy.proxy.call_limits.in_flight.slots import Slots
from mcpproxy.proxy.call_limits.rules import KEPT, MAX_NAME, CompiledRule
from mcpproxy.proxy.call_limits.store import SubjectKey
from mcpproxy.proxy.call_limits.window import Rate
from mcpproxy.proxy.core.exchange import ClientIdentity

if TYPE_CHECKING:
    from mcpproxy.api.v1alpha1 import LimitRule

CANCELLED_FOR: Final = 10.0
"""Seconds for which a cancelled call counts as in flight."""


class InFlightRule:
    """A rule with `inFlight`, and the calls of one subject that it counts."""

    __slots__ = ("key", "limit", "rule", "slots")

    def __init__(self, rule: CompiledRule, limit: int, key: SubjectKey) -> None:
        self.rule, self.limit, self.key = rule, limit, key
        self.slots: Slots | None = None
        """The slots as of the last call. They have no room if others have replaced them."""


class RateRule:
    """A rule with `calls`, and the calls of one subject that it counts."""

    __slots__ = ("account", "key", "rate", "rule")

    def __init__(self, rule: CompiledRule, rate: Rate, key: SubjectKey) -> None:
        self.rule, self.rate, self.key = rule, rate, key
        self.account: SubjectAccount | None = None
        """The account as of the last call. It has no calls left if it was forgotten."""


class CountedBy:
    """The rules that count a request, and the permit of each of its calls.

    All calls with the same rules and subjects share it, so each call must release it exactly once.
    """

    __slots__ = ("in_flight", "rates")

    def __init__(self, in_flight: tuple[InFlightRule, ...], rates: tuple[RateRule, ...]) -> None:
        self.in_flight, self.rates = in_flight, rates

    def release(self, *, is_cancelled: bool = False) -> None:
        """End a call, of which each rule with `inFlight` has counted one.

        The backend may go on with a cancelled call, which therefore stays in flight for a while:
        otherwise a client that cancels would have any number at a time.
        """
        if is_cancelled and self.in_flight:
            asyncio.get_running_loop().call_later(CANCELLED_FOR, self.release)
            return
        for counted in self.in_flight:
            # They are not replaced while a call is in flight.
            slots = counted.slots
            assert slots is not None
            slots.running -= 1
            if not (slots.used and 0 < slots.held - slots.running <= slots.kept_in_use):
                slots.settle()

    def until(self, at: InFlightRule | RateRule) -> tuple[list[Slots], list[SubjectAccount]]:
        """Return the slots and accounts of the rules before `at`, which have just been used."""
        rules = [*takewhile(lambda rule: rule is not at, (*self.in_flight, *self.rates))]
        return (
            [rule.slots for rule in rules if isinstance(rule, InFlightRule) and rule.slots],
            [rule.account for rule in rules if isinstance(rule, RateRule) and rule.account],
        )

    def guarded(self) -> "GuardedPermit":
        """Return a permit for one call that is released at the latest when nobody has it."""
        return GuardedPermit(self)


class GuardedPermit:
    """Permission for one call; while it lasts, the call is in flight."""

    __slots__ = ("_counted",)

    def __init__(self, counted: CountedBy) -> None:
        self._counted: CountedBy | None = counted

    def release(self, *, is_cancelled: bool = False) -> None:
        """End the call. Further calls have no effect."""
        counted, self._counted = self._counted, None
        if counted is not None:
            counted.release(is_cancelled=is_cancelled)

    def guarded(self) -> "GuardedPermit":
        """Return the same permit."""
        return self

    def __del__(self) -> None:
        # Calls that end before their first step have nobody else to release them.
        self.release()


class RuleSet:
    """All rules of a proxy, with a cache of the rules for each name and caller."""

    def __init__(self, rules: "Iterable[LimitRule]") -> None:
        self.rules = tuple(map(CompiledRule, rules))
        self.known: dict[tuple[str, str, str, str], CountedBy] = {}
        """Results of `counting` by method, name, backend and user."""

    def counting(self, method: str, name: str, backend: str, client: ClientIdentity) -> CountedBy:
        """Return the rules that count a client's request about a component of a backend."""
        key = method, name, backend, client.user
        counted = self.known.get(key)
        if counted is None:
            counted = self._count(method, name, backend, client)
            if len(name) <= MAX_NAME and len(method) <= MAX_NAME:
                if len(self.known) >= KEPT:
                    self.known.clear()
                self.known[key] = counted
        return counted

    def _count(self, method: str, name: str, backend: str, client: ClientIdentity) -> CountedBy:
        covering = [
            (rule, rule.key(backend, client)) for rule in self.rules if rule.covers(method, name)
        ]
        return CountedBy(
            tuple(
                InFlightRule(rule, rule.in_flight, key) for rule, key in covering if rule.in_flight
            ),
            tuple(RateRule(rule, rule.rate, key) for rule, key in covering if rule.rate),
        )

    def unused(self, tools: Iterable[str]) -> list[str]:
        """Return the names of the rules that cover none of the offered tools."""
        names = tuple(tools)
        return [rule.name for rule in self.rules if not rule.covers_one_of(names)]
