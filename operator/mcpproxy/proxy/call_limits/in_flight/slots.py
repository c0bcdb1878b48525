"""Calls in flight in this instance, and the slots that it holds for them."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from mcpproxy.proxy.call_limits.store import HoldRequest, Store, StoreUnavailable, SubjectKey

KEPT_FREE: Final = 16
"""An instance keeps up to 1/KEPT_FREE of the slots without a call in flight."""
TRIES: Final = 4
"""Answers of the store for which one call waits, because other calls take the slots."""
FULL_FOR: Final = 0.1
"""Seconds for which an instance refuses calls after the store had no slot."""
FAILED_FOR: Final = 1.0
"""Seconds after a failure of the store for which it is not asked again."""
CONFIRMED_EVERY: Final = 3.0
"""Seconds after which held slots are confirmed."""
NEVER: Final = float("-inf")


class Slots:
    """Slots of one subject that this instance holds, and its calls in flight."""

    def __init__(
        self,
        key: SubjectKey,
        limit: int,
        store: Store,
        clock: Callable[[], float],
        on_unused: Callable[["Slots"], None],
        *,
        kept: int,
        allows_on_failure: bool,
    ) -> None:
        """`kept` slots may be held for the next calls. `on_unused` is called when nothing is in
        flight, waits or is held any longer.

        `allows_on_failure` means that calls are counted alone while the store fails.
        """
        self.key = key
        self.running = 0
        """Calls in flight."""
        self.held = 0
        """Slots that this instance holds."""
        self.used = False
        """True if a call began since the last look."""
        self._limit, self._kept = limit, kept
        self.kept_in_use = 2 * kept
        """Free slots that are not given back while calls begin."""
        self._store, self._clock, self._on_unused = store, clock, on_unused
        self._allows_on_failure = allows_on_failure
        self._waiting = 0
        self._full_until = self._failed_until = self._confirmed_at = NEVER
        self._stating: asyncio.Task[None] | None = None

    def end_if_unused(self) -> None:
        """Call `on_unused` if nothing is in flight, waits or is held."""
        if not (self.running or self._waiting or self.held or self._stating):
            self._on_unused(self)

    def take_at_once(self) -> bool | None:
        """Begin a call, or return False without a free slot; None if that takes waiting."""
        if self.running < self.held:
            self.running += 1
            self.used = True
            return True
        now = self._clock()
        if now < self._full_until:
            return False
        if now < self._failed_until:
            is_allowed = self._allows_on_failure and self.running < self._limit
            self.running += is_allowed
            return is_allowed
        if self._stating is not None:
            return None
        granted = self._store.hold_at_once(self._request(self.running + 1), now)
        if granted is None:
            return None
        self.held, self._confirmed_at = granted, now
        return self.take_at_once() if self.running < granted else False

    async def take(self) -> bool:
        """Begin a call as `take_at_once` does, but wait for the store."""
        self._waiting += 1
        try:
            for _ in range(TRIES):
                is_taken = self.take_at_once()
                if is_taken is not None:
                    return is_taken
                await asyncio.shield(self._state())
        finally:
            self._waiting -= 1
        return False

    def release(self) -> None:
        """End a call."""
        self.running -= 1
        self.settle()

    def settle(self) -> None:
        """Give slots back after the end of a call, and call `on_unused` if none is left."""
        # Up to here, the target is not below the number of running calls.
        if self.held > self.running + self._kept and self._stating is None:
            self._give_back()
        if not (self.running or self.held):
            self.end_if_unused()

    def _give_back(self) -> None:
        """Give slots back that are neither needed nor kept."""
        if self.held <= self._target() + self._kept:
            return
        granted = self._store.hold_at_once(self._request(self.running), self._clock())
        if granted is not None:
            self.held = granted
        else:
            # Without a running loop, the next look states the number.
            with contextlib.suppress(RuntimeError):
                self._state()

    def confirm(self, now: float) -> None:
        """Confirm the slots that are in use, and let the others go if no call has begun lately."""
        is_surplus = self.held > self.running and not self.used
        if self.held and (is_surplus or now - self._confirmed_at >= CONFIRMED_EVERY):
            self._confirm(now)
        self.used = False

    async def close(self) -> None:
        """End what runs in the background."""
        if self._stating is not None:
            self._stating.cancel()
            await asyncio.gather(self._stating, return_exceptions=True)

    def _target(self) -> int:
        """Return the number of slots to hold, a few free ones for the next calls among them."""
        spare = self._kept if self.used or self._waiting else 0
        return min(self.running + self._waiting + spare, self._limit)

    def _request(self, wanted: int) -> HoldRequest:
        return HoldRequest(self.key, self._limit, wanted, self.running)

    def _confirm(self, now: float) -> None:
        if self._stating is not None or now < self._failed_until:
            return
        granted = self._store.hold_at_once(self._request(self._target()), now)
        if granted is None:
            self._state()
        else:
            self.held, self._confirmed_at = granted, now

    def _state(self) -> "asyncio.Task[None]":
        """Return the task that states the number of slots; all calls that wait share it."""
        if self._stating is None:
            loop = asyncio.get_running_loop()
            self._stating = loop.create_task(self._state_until_it_is_true())
        return self._stating

    async def _state_until_it_is_true(self) -> None:
        try:
            while True:
                wanted = self._target()
                # Slots that are given up are not used while the message is on its way.
                self.held = min(self.held, wanted)
                self.held = await self._store.hold(self._request(wanted))
                self._confirmed_at = self._clock()
                needed = self.running + self._waiting
                if self.held < min(wanted, needed):
                    self._full_until = self._confirmed_at + FULL_FOR
                    return
                if needed <= self.held <= self._target() + self._kept:
                    return
        except StoreUnavailable:
            self._failed_until = self._clock() + FAILED_FOR
            self.held = min(self.held, self.running)
        finally:
            self._stating = None
