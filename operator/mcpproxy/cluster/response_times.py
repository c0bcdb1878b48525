"""Response times of the API server: they distinguish a busy server from a single slow request."""

import statistics
from collections import deque
from typing import Final

NEWEST: Final = 32
"""Number of responses from which the load is inferred."""
BUSY: Final = 0.5
"""Median of the newest response times, in seconds, from which on the server is busy."""


class ResponseTimes:
    """Times of the newest successful requests.

    Failures are not included: a request that a webhook delays until it fails shows no load.
    """

    def __init__(self) -> None:
        self._newest: deque[float] = deque(maxlen=NEWEST)

    def record(self, seconds: float) -> None:
        """Record the time of a successful request."""
        self._newest.append(seconds)

    def is_busy(self) -> bool:
        """Return True if most requests take long, so that more of them at once would not help."""
        return len(self._newest) == NEWEST and statistics.median(self._newest) >= BUSY
