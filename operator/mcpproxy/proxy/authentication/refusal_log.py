"""Log of refused tokens, which shows wrong configurations of the proxy or its issuers."""

import logging
from collections.abc import Callable
from typing import Final

from mcpproxy.proxy.authentication.refusals import CredentialsRefused

INTERVAL: Final = 60.0
"""Seconds between two lines on tokens that were refused for the same reason."""

log = logging.getLogger("mcpproxy.authentication")


class RefusalLog:
    """Writer of the claims for which tokens are refused.

    Most claims are not verified when a token is refused, so a line quotes an unknown sender. Any
    sender can cause lines, so there is at most one per result and interval.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        """`now` returns the seconds since the epoch."""
        self._now = now
        self._written: dict[str, float] = {}
        """Times of the last lines by result."""

    def record(self, refusal: CredentialsRefused) -> None:
        """Write a line, unless there was one on the same result lately."""
        if refusal.finding is None:
            return
        now = self._now()
        if now - self._written.get(refusal.result, float("-inf")) < INTERVAL:
            return
        self._written[refusal.result] = now
        log.warning("a token was refused (%s): %s", refusal.result, refusal.finding())
