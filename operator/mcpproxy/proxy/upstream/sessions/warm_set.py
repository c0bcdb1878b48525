"""Warm sessions for one pool key, and the number of them that suits its requests."""

import math
from dataclasses import dataclass, field
from typing import Final

from mcpproxy.backoff import Backoff
from mcpproxy.proxy.upstream.transports.session import UpstreamSession

MAX_WARM: Final = 48
REFILL_DELAY: Final = 0.02
"""Maximum seconds by which closing a used session, and opening its replacement, is delayed."""
REFILL_SIZE: Final = 8
"""Number of used sessions that are replaced at once. Smaller groups delay more of the calls, larger
ones delay some calls for longer."""
RATE_WINDOW: Final = 1.0
"""Seconds over which the rate of requests is averaged."""
HALVED_IN: Final = 10.0
"""Seconds in which an excessive number of warm sessions is halved."""
RETRY_FIRST: Final = 1.0
RETRY_LATEST: Final = 60.0


@dataclass(slots=True)
class WarmSet:
    """Initialized, unused sessions for one pool key."""

    each: int
    """Number of sessions that are kept for each concurrent request."""
    counted_at: float
    """Time until which `requests_per_second` takes requests into account."""
    links: list[UpstreamSession] = field(default_factory=list)
    opening: int = 0
    in_use: int = 0
    wanted: int = 0
    used_at: float = 0.0
    filled_at: float = float("-inf")
    requests: int = 0
    """Number of requests since `counted_at`."""
    requests_per_second: float = 0.0
    hurried_at: float = float("-inf")
    """Time at which warm sessions were last used up faster than within `REFILL_DELAY`."""
    retry: Backoff = field(default_factory=lambda: Backoff(RETRY_FIRST, RETRY_LATEST))
    """Delay after a session could not be opened in advance."""

    def begin_use(self, now: float, *, missed: bool) -> None:
        """Record a request. If it `missed` a warm session, there are too few of them."""
        self.used_at = now
        self.requests += 1
        self.in_use += 1
        more = 1 if missed and self.wanted else 0
        self.wanted = min(max(self.wanted + more, self.in_use * self.each), MAX_WARM)

    def end_use(self) -> None:
        """Record that a request is complete."""
        self.in_use -= 1

    def touch(self, now: float) -> None:
        """Record that a client was served."""
        self.used_at = now

    def begin_refill(self, now: float, open_seconds: float) -> int:
        """Return the number of sessions to open now, each of which takes `open_seconds`."""
        if self.retry.is_waiting(now):
            return 0
        if self.needs_refill and now - self.filled_at < REFILL_DELAY:
            self.hurried_at = now
        self.filled_at = now
        self.wanted = max(self.wanted, self._target(now, open_seconds))
        missing = self.wanted - len(self.links) - self.opening
        # After a failure, one session shows whether the backend gives sessions again.
        return min(missing, 1 - self.opening) if self.retry.failures else missing

    def begin_opening(self) -> None:
        """Record that a session is being opened."""
        self.opening += 1

    def end_opening(self, now: float, *, failed: bool) -> None:
        """Record that a session was opened, or could not be."""
        self.opening -= 1
        if not failed:
            self.retry.reset()
        elif not self.retry.is_waiting(now):
            self.retry.record_failure(now)

    def empty(self) -> None:
        """Remove all sessions, and keep none until the next request."""
        self.links, self.wanted = [], 0

    def shrink(self, now: float, open_seconds: float, seconds: float) -> list[UpstreamSession]:
        """Remove the oldest sessions if fewer suffice than `seconds` ago, and return them."""
        if not self.wanted:
            return []
        faded = int(self.wanted * 0.5 ** (seconds / HALVED_IN))
        self.wanted = max(faded, self._target(now, open_seconds))
        surplus = max(len(self.links) - self.wanted, 0)
        removed, self.links = self.links[:surplus], self.links[surplus:]
        return removed

    def _target(self, now: float, open_seconds: float) -> int:
        """Return the number of sessions so that requests at the current rate find one."""
        if not self.each:
            return 0
        rate, target = self._count(now), max(self.in_use, 1) * self.each
        if self.each > 1:
            # Used sessions are replaced in groups.
            is_hurried = now - self.hurried_at < RATE_WINDOW
            delayed = REFILL_SIZE if is_hurried else round(rate * REFILL_DELAY)
            target += min(delayed, REFILL_SIZE)
        # Twice, because requests come at irregular intervals.
        return min(target + round(2 * rate * open_seconds), MAX_WARM)

    def _count(self, now: float) -> float:
        """Return the requests per second, including those since the last call."""
        elapsed = now - self.counted_at
        if elapsed > 0:
            weight = 1 - math.exp(-elapsed / RATE_WINDOW)
            latest = self.requests / elapsed
            self.requests_per_second += (latest - self.requests_per_second) * weight
            self.requests, self.counted_at = 0, now
        return self.requests_per_second

    @property
    def needs_refill(self) -> bool:
        """True if the next sessions should be opened now."""
        missing = self.wanted - len(self.links) - self.opening
        return missing >= REFILL_SIZE or missing >= self.wanted
