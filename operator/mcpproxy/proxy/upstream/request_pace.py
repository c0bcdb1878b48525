"""The pace of requests that no client causes: a backend that fails or is loud gets few."""

import random

from mcpproxy.limits.backends import OWN_REQUESTS, RETRY_PAUSE

REFILL = 0.5
"""Requests a second that are allowed again."""
DEEPEST = 10.0
"""Requests beyond the allowed ones that are waited for; a list can have many pages."""
STEADY = 10.0
"""Seconds after which something that was begun counts as working."""
BRIEF = 1.0
"""Seconds within which something that ends has ended at once."""


class RequestRate:
    """Room for a few requests at once, which comes back slowly."""

    def __init__(self) -> None:
        self._left = float(OWN_REQUESTS.value)
        self._at = float("-inf")

    def pause(self, now: float) -> float:
        """Seconds until a request may be made."""
        self._refill(now)
        if self._left >= 1:
            return 0.0
        OWN_REQUESTS.record()
        return (1 - self._left) / REFILL

    def spend(self, requests: int, now: float) -> None:
        """Note requests that were made."""
        self._refill(now)
        self._left = max(self._left - requests, -DEEPEST)

    def _refill(self, now: float) -> None:
        gained = (now - self._at) * REFILL
        self._left = min(self._left + gained, float(OWN_REQUESTS.value))
        self._at = now


class Backoff:
    """Pauses between attempts at something that fails or ends: each about twice the last one."""

    def __init__(self, first: float) -> None:
        """`first` is the first pause in seconds."""
        self._first = first
        self.failures = 0
        """Failures in a row."""

    def failed(self, lived: float, least: float = 0.0) -> float:
        """The pause after a failure of what has worked for `lived` seconds."""
        if lived >= STEADY:
            self.failures = 0
        self.failures += 1
        if self.failures == 1 and lived >= BRIEF:
            return 0.0
        pause = max(self._first, least) * 2.0 ** min(self.failures - 1, 16)
        if pause >= RETRY_PAUSE.value:
            RETRY_PAUSE.record()
            pause = float(RETRY_PAUSE.value)
        # Many proxies that lost one backend must not come back together.
        return pause * random.uniform(0.8, 1.2)

    def works(self) -> None:
        """Begin again with short pauses: it works, or had no chance to."""
        self.failures = 0
