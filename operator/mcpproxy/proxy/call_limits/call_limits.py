"""Admission of calls by `spec.limits`."""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from mcpproxy.limits.clients import COUNTED_SUBJECTS
from mcpproxy.proxy.call_limits.account import SubjectAccount
from mcpproxy.proxy.call_limits.in_flight.slots import KEPT_FREE, Slots
from mcpproxy.proxy.call_limits.instances.owner_store import OwnerStore
from mcpproxy.proxy.call_limits.instances.peers import Instances
from mcpproxy.proxy.call_limits.rule_set import (
    CountedBy,
    GuardedPermit,
    InFlightRule,
    RateRule,
    RuleSet,
)
from mcpproxy.proxy.call_limits.rules import RETRY_SOON
from mcpproxy.proxy.call_limits.store import Store, SubjectKey
from mcpproxy.proxy.call_limits.valkey.valkey_store import ValkeyStore
from mcpproxy.proxy.call_limits.window_table import LocalStore
from mcpproxy.proxy.core.access import CallLimitExceeded
from mcpproxy.proxy.core.exchange import ClientIdentity
from mcpproxy.proxy.instances.members import InstanceLink
from mcpproxy.proxy.upstream.mounted.values import MountedValues

if TYPE_CHECKING:
    from mcpproxy.api.v1alpha1 import Limits, MCPProxy

SWEEP_EVERY: Final = 1.0
"""Seconds between two looks for leases that have ended."""


RegisterCounter = Callable[
    [str, str, Sequence[str], Callable[[], Iterable[tuple[tuple[str, ...], int]]]], None
]
"""Function that registers a counter by name, documentation, labels and reader."""


class CountedRequest(Protocol):
    """A request with the backend's names, as far as limits need it."""

    @property
    def method(self) -> str:
        """The method."""

    @property
    def target(self) -> str:
        """The downstream name of the component, if it has one."""


class CallLimits:
    """All limits on the calls of one proxy, in this instance."""

    def __init__(
        self,
        rules: RuleSet,
        store: Store,
        *,
        allows_on_failure: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`allows_on_failure` means that calls are counted alone while the store fails."""
        self.rules, self.store = rules, store
        self._allows_on_failure = allows_on_failure
        self._clock = clock
        self._slots: dict[SubjectKey, Slots] = {}
        """Calls in flight, by the rule and subject."""
        self._share = max(COUNTED_SUBJECTS.value // len(rules.rules), 1)
        self._accounts: dict[str, dict[SubjectKey, SubjectAccount]] = {
            rule.id: {} for rule in rules.rules
        }
        """Accounts by rule; `_make_room` finds those of subjects that have not called lately."""
        self._sweeper: asyncio.Task[None] | None = None
        self.limited = dict.fromkeys((rule.name for rule in rules.rules), 0)
        """Number of refused calls by rule."""

    def start(self, on_change: Callable[[], None] = lambda: None) -> None:
        """Give leases back that end unused. Requires a running loop.

        `on_change` is called when the store begins or ceases to fail.
        """
        self._sweeper = asyncio.get_running_loop().create_task(self._sweep(on_change))

    def connect(self, link: InstanceLink) -> None:
        """Count together with the other instances, if the spec says so. Requires a running loop."""
        if isinstance(self.store, OwnerStore):
            self.store.connect(link)

    def register_metrics(self, count: RegisterCounter) -> None:
        """Register the counters of refused calls and of messages."""
        count(
            "mcpproxy_limited_calls",
            "Calls that a rule of spec.limits did not admit",
            ["rule"],
            lambda: [((rule,), number) for rule, number in self.limited.items()],
        )
        count(
            "mcpproxy_limit_messages",
            "Messages to other instances, or to the Valkey server, about calls for spec.limits",
            (),
            lambda: [((), self.store.sent)],
        )

    async def answer_instance(self, message: bytes) -> bytes | None:
        """Return the answer to a message of another instance; None if this one counts alone.

        Raise ValueError for a malformed message.
        """
        return await self.store.answer(message) if isinstance(self.store, OwnerStore) else None

    async def leave(self) -> None:
        """Tell the other instances that this one ends."""
        if isinstance(self.store, OwnerStore):
            self._collect(float("inf"))
            await self.store.leave()

    async def close(self) -> None:
        """End what runs in the background."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        await asyncio.gather(*(slots.close() for slots in self._slots.values()))
        await self.store.close()

    @property
    def running(self) -> dict[SubjectKey, int]:
        """Calls in flight in this instance that a rule with `inFlight` covers."""
        return {key: slots.running for key, slots in self._slots.items() if slots.running}

    def admit_at_once(
        self, request: CountedRequest, backend: str, client: ClientIdentity
    ) -> CountedBy | None:
        """Admit a call, or return None if that takes waiting. Raise CallLimitExceeded.

        The permit must be released exactly once.
        """
        # As `counting`, but without a call.
        counted = self.rules.known.get((request.method, request.target, backend, client.user))
        if counted is None:
            counted = self.rules.counting(request.method, request.target, backend, client)
        for held in counted.in_flight:
            slots = held.slots
            # As `Slots.take_at_once`, but without a call.
            if slots is not None and slots.running < slots.held:
                slots.running += 1
                slots.used = True
                continue
            is_taken = self._slots_of(held).take_at_once()
            if is_taken:
                continue
            _withdraw(*counted.until(held))
            if is_taken is None:
                return None
            why = held.rule.why_in_flight
            raise CallLimitExceeded(held.rule.name, why, RETRY_SOON, client, backend)
        now = self._clock()
        for rated in counted.rates:
            account = rated.account
            # As `SubjectAccount.take`, but without a call.
            if account is not None and account.left - 1 > account.mark and now < account.ends:
                account.left -= 1
                account.used = True
                continue
            wait = self._account_of(rated).take(now)
            if wait == 0.0:
                continue
            _withdraw(*counted.until(rated))
            if wait is None:
                return None
            raise CallLimitExceeded(rated.rule.name, rated.rule.why, wait, client, backend)
        return counted

    async def admit(
        self, request: CountedRequest, backend: str, client: ClientIdentity
    ) -> GuardedPermit:
        """Admit a call, and wait for the store if necessary. Raise CallLimitExceeded."""
        counted = self.rules.counting(request.method, request.target, backend, client)
        begun: list[Slots] = []
        taken: list[SubjectAccount] = []
        try:
            for held in counted.in_flight:
                slots = self._slots_of(held)
                if not await slots.take():
                    why = held.rule.why_in_flight
                    raise CallLimitExceeded(held.rule.name, why, RETRY_SOON, client, backend)
                begun.append(slots)
            for rated in counted.rates:
                account = self._account_of(rated)
                wait = await account.acquire()
                if wait > 0:
                    raise CallLimitExceeded(rated.rule.name, rated.rule.why, wait, client, backend)
                taken.append(account)
        except BaseException as error:
            if isinstance(error, CallLimitExceeded):
                self.limited[error.rule] += 1
            _withdraw(begun, taken)
            raise
        return counted.guarded()

    def _slots_of(self, held: InFlightRule) -> Slots:
        slots = held.slots = self._slots.get(held.key) or self._add_slots(held.limit, held.key)
        return slots

    def _add_slots(self, limit: int, key: SubjectKey) -> Slots:
        is_full = len(self._slots) >= COUNTED_SUBJECTS.value
        if is_full:
            COUNTED_SUBJECTS.record()
        slots = self._slots[key] = Slots(
            *(key, limit, self.store, self._clock, self._forget),
            kept=0 if is_full else limit // KEPT_FREE,
            allows_on_failure=self._allows_on_failure,
        )
        return slots

    def _forget(self, slots: Slots) -> None:
        self._slots.pop(slots.key, None)

    def _account_of(self, rated: RateRule) -> SubjectAccount:
        accounts = self._accounts[rated.rule.id]
        account = accounts.get(rated.key)
        if account is not None:
            account.used = True
        else:
            if len(accounts) >= self._share:
                self._make_room(accounts)
            account = accounts[rated.key] = SubjectAccount(
                *(rated.rule, rated.rate, rated.key, self.store, self._clock),
                allows_on_failure=self._allows_on_failure,
            )
        rated.account = account
        return account

    def _make_room(self, accounts: dict[SubjectKey, SubjectAccount]) -> None:
        """Forget a subject that has not called again since all others were considered."""
        COUNTED_SUBJECTS.record()
        while True:
            key = next(iter(accounts))
            account = accounts.pop(key)
            if not account.used:
                account.collect(float("inf"))
                return
            # Each round was paid for by a call.
            account.used = False
            accounts[key] = account

    def unused(self, tools: Iterable[str]) -> list[str]:
        """Return the names of the rules that cover none of the offered tools."""
        return self.rules.unused(tools)

    async def _sweep(self, on_change: Callable[[], None]) -> None:
        failure = None
        while True:
            await asyncio.sleep(SWEEP_EVERY)
            self.sweep()
            if failure != self.store.failure():
                failure = self.store.failure()
                on_change()

    def sweep(self) -> None:
        """Give back what is left of leases that have ended."""
        self._collect(self._clock())

    def _collect(self, now: float) -> None:
        for accounts in self._accounts.values():
            for account in list(accounts.values()):
                account.collect(now)
        for slots in list(self._slots.values()):
            slots.confirm(now)
            slots.end_if_unused()


def _withdraw(begun: Iterable[Slots], taken: Iterable[SubjectAccount]) -> None:
    """Undo the admission of a call that another rule does not admit."""
    for account in taken:
        account.put_back()
    for slots in begun:
        slots.release()


def build_call_limits(
    proxy: "MCPProxy", spec: "Limits", values: MountedValues, instances: Instances
) -> CallLimits:
    """Return the limits of a proxy, which are `spec`. Raise ValueError."""
    prefix = f"mcpproxy:{proxy.metadata.namespace or 'default'}:{proxy.metadata.name}"
    return CallLimits(
        RuleSet(spec.rules),
        _build_store(spec, prefix, values, instances),
        allows_on_failure=spec.on_store_failure != "Deny",
    )


def _build_store(spec: "Limits", prefix: str, values: MountedValues, instances: Instances) -> Store:
    shared = spec.shared
    if shared is not None and shared.valkey is not None:
        return ValkeyStore(shared.valkey, prefix, values)
    if shared is not None and shared.mode == "None":
        return LocalStore(time.monotonic)
    return OwnerStore(time.monotonic, instances)
