"""Slots that instances hold, counted by one process for all of them.

A slot allows one call in flight. An instance states how many it wants to hold and confirms them
again and again, so that those of an instance that was killed become free.
"""

from mcpproxy.limits.clients import COUNTED_SUBJECTS
from mcpproxy.limits.instances import HOLD_TIME, KNOWN
from mcpproxy.proxy.call_limits.store import HoldRequest, SubjectKey
from mcpproxy.proxy.call_limits.window_table import make_room
from mcpproxy.proxy.fair_shares import FairShares


class HoldTable:
    """Slots by subject and holder."""

    def __init__(self) -> None:
        self._subjects: dict[SubjectKey, dict[str, tuple[int, float]]] = {}
        """Slots of each holder, and the time at which they become free."""
        self._shares: FairShares[SubjectKey] = FairShares(COUNTED_SUBJECTS.value)

    def hold(self, request: HoldRequest, holder: str, now: float) -> int:
        """Let an instance hold as many slots as it wants and as are free; return how many."""
        holders = self._holders(request.key, now)
        others = sum(count for name, (count, _) in holders.items() if name != holder)
        free = max(request.limit - others, 0)
        granted = max(min(request.wanted, free), min(request.running, request.wanted))
        self._set(request.key, holder, granted, now + HOLD_TIME.value)
        return granted

    def adopt(self, key: SubjectKey, holder: str, count: int, now: float) -> None:
        """Count slots that an instance holds, unless it has stated their number itself."""
        if holder not in self._holders(key, now):
            self._set(key, holder, count, now + HOLD_TIME.value)

    def held(self, now: float) -> dict[SubjectKey, dict[str, int]]:
        """Return the slots that are held, by subject and holder."""
        return {
            key: {holder: count for holder, (count, ends) in holders.items() if ends > now}
            for key, holders in self._subjects.items()
        }

    def _holders(self, key: SubjectKey, now: float) -> dict[str, tuple[int, float]]:
        holders = self._subjects.get(key, {})
        for late in [holder for holder, (_, ends) in holders.items() if ends <= now]:
            HOLD_TIME.record()
            del holders[late]
        return holders

    def _set(self, key: SubjectKey, holder: str, count: int, ends: float) -> None:
        holders = self._subjects.get(key)
        if holders is None:
            if not count:
                return
            holders = self._add(key)
        if count and (holder in holders or len(holders) < KNOWN.value):
            holders[holder] = count, ends
            self._shares.touch(key)
        elif not count:
            holders.pop(holder, None)
        if not holders:
            self._shares.discard(key)
            del self._subjects[key]

    def _add(self, key: SubjectKey) -> dict[str, tuple[int, float]]:
        make_room(self._subjects, self._shares)
        self._shares.add(key, (key.rule,))
        holders = self._subjects[key] = {}
        return holders
