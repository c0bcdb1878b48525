"""Rate limit and backoff of requests that no client causes."""

import random

from mcpproxy.limits.backends import OWN_REQUESTS, RETRY_PAUSE

REFILL = 0.5
"""Requests per second by which the allowance grows."""
DEEPEST = 10.0
"""Maximum debt in requests; a list can have many pages."""
STEADY = 10.0
"""Seconds after which an operation counts as established."""
BRIEF = 1.0
"""Seconds within which an end counts as an immediate failure."""


class RequestRate:
    """Token bucket for a few requests."""

    def __init__(self) -> None:
        self._left = float(OWN_REQUESTS.value)
        self._at = float("-inf")

    def pause(self, now: float) -> float:
        """Return the seconds until a request may be sent."""
        self._refill(now)
        if self._left >= 1:
            return 0.0
        OWN_REQUESTS.record()
        return (1 - self._left) / REFILL

    def spend(self, requests: int, now: float) -> None:
        """Record requests that were sent."""
        self._refill(now)
        self._left = max(self._left - requests, -DEEPEST)

    def _refill(self, now: float) -> None:
        gained = (now - self._at) * REFILL
        self._left = min(self._left + gained, float(OWN_REQUESTS.value))
        self._at = now


class Backoff:
    """Exponential backoff, which doubles with each consecutive failure."""

    def __init__(self, first: float) -> None:
        """`first` is the first pause in seconds."""
        self._first = first
        self.failures = 0
        """Consecutive failures."""

    def failed(self, lived: float, least: float = 0.0) -> float:
        """Return the seconds to pause after a failure of an operation that worked for `lived`
        seconds."""
        if lived >= STEADY:
            self.failures = 0
        self.failures += 1
        if self.failures == 1 and lived >= BRIEF:
            return 0.0
        pause = max(self._first, least) * 2.0 ** min(self.failures - 1, 16)
        if pause >= RETRY_PAUSE.value:
            RETRY_PAUSE.record()
            pause = float(RETRY_PAUSE.value)
        # Prevents that many proxies reconnect to a backend at the same time.
        return pause * random.uniform(0.8, 1.2)

    def works(self) -> None:
        """Reset the backoff after a success, or if no attempt was possible."""
        self.failures = 0
