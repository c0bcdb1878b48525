"""Calls and slots that this instance has counted, or knows from others."""

from collections.abc import Iterable

from mcpproxy.proxy.call_limits.in_flight.hold_table import HoldTable
from mcpproxy.proxy.call_limits.instances import peer_messages as messages
from mcpproxy.proxy.call_limits.instances.peer_messages import (
    CountedSubject,
    HeldSlots,
    SubjectMessage,
)
from mcpproxy.proxy.call_limits.store import HoldRequest, SubjectKey
from mcpproxy.proxy.call_limits.window_table import WindowTable


class Counts:
    """Counts of all subjects."""

    def __init__(self, counter: str) -> None:
        """`counter` identifies this process."""
        self.counter = counter
        self.windows = WindowTable(counter)
        self.holds = HoldTable()
        """Slots of all instances, as far as this one counts them."""
        self._held: dict[SubjectKey, int] = {}
        """Slots of this instance, which itself or another one counts."""

    def keep(self, key: SubjectKey, granted: int) -> int:
        """Record how many slots of a subject this instance holds; return the number."""
        if granted:
            self._held[key] = granted
        else:
            self._held.pop(key, None)
        return granted

    def hold(self, request: HoldRequest, holder: str, now: float) -> int:
        """Let a process hold slots as their owner; return how many it holds."""
        own = self._held.get(request.key)
        if own and holder != self.counter:
            # Another instance may have counted them so far.
            self.holds.adopt(request.key, self.counter, own, now)
        return self.holds.hold(request, holder, now)

    def keys(self, now: float) -> set[SubjectKey]:
        """Return the subjects with calls within their period, or with slots."""
        return {key for key, _ in self.windows.counted(now)} | set(self.holds.held(now))

    def calls(self, key: SubjectKey, now: float) -> list[CountedSubject]:
        """Return the calls of a subject for messages: one entry, or none without a call."""
        rate = self.windows.rate(key)
        if rate is None:
            return []
        counted = messages.encode_snapshot(self.windows.snapshot(key, now), now)
        return [(SubjectMessage.of(key, rate), counted)]

    def slots(self, key: SubjectKey, now: float) -> list[HeldSlots]:
        """Return the slots of all instances for messages."""
        holders = self.holds.held(now).get(key, {})
        slots = [HeldSlots(key.rule, key.subject, name, count) for name, count in holders.items()]
        return slots[: messages.MAX_HOLDERS]

    def own_slots(self, key: SubjectKey) -> list[HeldSlots]:
        """Return the slots of this instance for messages."""
        count = self._held.get(key)
        return [] if not count else [HeldSlots(key.rule, key.subject, self.counter, count)]

    def adopt(
        self, calls: Iterable[CountedSubject], slots: Iterable[HeldSlots], now: float
    ) -> None:
        """Count what another instance knows."""
        for subject, snapshot in calls:
            told = messages.decode_snapshot(snapshot, now)
            self.windows.adopt(subject.key, subject.rate, told, now)
        for held in slots:
            key = SubjectKey(held.rule, held.subject)
            if held.holder != self.counter:
                self.holds.adopt(key, held.holder, held.count, now)
