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
from mcpproxy.proxy.call_limits.rules import RETRY_SOON, CompiledRule, CountedInFlight, RuleSet
from mcpproxy.proxy.call_limits.store import Store, SubjectKey
from mcpproxy.proxy.call_limits.valkey.valkey_store import ValkeyStore
from mcpproxy.proxy.call_limits.window import Rate
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


CANCELLED_FOR: Final = 10.0
"""Seconds for which a cancelled call counts as in flight."""


class CallPermit:
    """Permission for one call; while it lasts, the call is in flight."""

    __slots__ = ("_slots",)

    def __init__(self, slots: Sequence[Slots]) -> None:
        """The calls in `slots` end with the permit."""
        self._slots = slots

    def release(self, *, is_cancelled: bool = False) -> None:
        """End the call. Further calls have no effect.

        The backend may go on with a cancelled call, which therefore stays in flight for a while:
        otherwise a client that cancels would have any number at a time.
        """
        held, self._slots = self._slots, ()
        if is_cancelled and held:
            kept = CallPermit(held)
            asyncio.get_running_loop().call_later(CANCELLED_FOR, kept.release)
            return
        for slots in held:
            slots.release()

    def __del__(self) -> None:
        # Calls that end before their first step have nobody else to release them.
        if self._slots:
            self.release()


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
        """Accounts by rule, those that were used last at the end."""
        self._free = CallPermit(())
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
    ) -> CallPermit | None:
        """Admit a call, or return None if that takes waiting. Raise CallLimitExceeded."""
        # As `counting`, but without a call.
        counted = self.rules.known.get((request.method, request.target, backend, client.user))
        if counted is None:
            counted = self.rules.counting(request.method, request.target, backend, client)
        occupied: list[Slots] = []
        for rule, limit, key in counted.in_flight:
            slots = self._slots.get(key) or self._add_slots(limit, key)
            is_taken = slots.take_at_once()
            if is_taken:
                occupied.append(slots)
                continue
            _withdraw((), CallPermit(occupied))
            if is_taken is None:
                return None
            raise CallLimitExceeded(rule.name, rule.why_in_flight, RETRY_SOON, client, backend)
        permit = CallPermit(occupied) if occupied else self._free
        now, taken = self._clock(), []
        for rule, rate, key in counted.rates:
            # As `_account`, but without a call.
            accounts = self._accounts[rule.id]
            account = accounts.pop(key, None) or self._new_account(rule, rate, key)
            accounts[key] = account
            wait = account.take(now)
            if wait == 0.0:
                taken.append(account)
                continue
            _withdraw(taken, permit)
            if wait is None:
                return None
            raise CallLimitExceeded(rule.name, rule.why, wait, client, backend)
        return permit

    async def admit(
        self, request: CountedRequest, backend: str, client: ClientIdentity
    ) -> CallPermit:
        """Admit a call, and wait for the store if necessary. Raise CallLimitExceeded."""
        counted = self.rules.counting(request.method, request.target, backend, client)
        taken: list[SubjectAccount] = []
        admission = self._free
        try:
            admission = await self._occupy(counted.in_flight, backend, client)
            for rule, rate, key in counted.rates:
                account = self._account(rule, rate, key)
                wait = await account.acquire()
                if wait > 0:
                    raise CallLimitExceeded(rule.name, rule.why, wait, client, backend)
                taken.append(account)
        except CallLimitExceeded as error:
            self.limited[error.rule] += 1
            _withdraw(taken, admission)
            raise
        except BaseException:
            _withdraw(taken, admission)
            raise
        return admission

    async def _occupy(
        self, counted: CountedInFlight, backend: str, client: ClientIdentity
    ) -> CallPermit:
        """Count a call in flight, and wait if necessary. Raise CallLimitExceeded."""
        taken: list[Slots] = []
        try:
            for rule, limit, key in counted:
                slots = self._slots.get(key) or self._add_slots(limit, key)
                if not await slots.take():
                    why = rule.why_in_flight
                    raise CallLimitExceeded(rule.name, why, RETRY_SOON, client, backend)
                taken.append(slots)
        except BaseException:
            CallPermit(taken).release()
            raise
        return CallPermit(taken) if taken else self._free

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

    def _account(self, rule: CompiledRule, rate: Rate, key: SubjectKey) -> SubjectAccount:
        """Return an account, which is then the one that was used last."""
        accounts = self._accounts[rule.id]
        account = accounts.pop(key, None) or self._new_account(rule, rate, key)
        accounts[key] = account
        return account

    def _new_account(self, rule: CompiledRule, rate: Rate, key: SubjectKey) -> SubjectAccount:
        """Return a new account, for which there is room afterwards."""
        accounts = self._accounts[rule.id]
        if len(accounts) >= self._share:
            COUNTED_SUBJECTS.record()
            accounts.pop(next(iter(accounts))).collect(float("inf"))
        return SubjectAccount(
            *(rule, rate, key, self.store, self._clock),
            allows_on_failure=self._allows_on_failure,
        )

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


def _withdraw(taken: Iterable[SubjectAccount], admission: CallPermit) -> None:
    """Undo the admission of a call that another rule does not admit."""
    for account in taken:
        account.put_back()
    admission.release()


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
