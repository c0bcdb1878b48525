"""Doubts that are waited out for a while before the status tells of them."""

from collections.abc import Callable
from datetime import datetime
from typing import Final

from mcpproxy.cluster.resources import ProxyKey

PATIENCE: Final = 30.0
"""Seconds that a doubt lasts before it is told: pods hear of changes at different moments."""


class Debouncer:
    """Remembers since when there are doubts about which MCPProxy."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._since: dict[ProxyKey, dict[str, datetime]] = {}

    def young(
        self, key: ProxyKey, doubts: frozenset[str], told: frozenset[str]
    ) -> tuple[frozenset[str], float | None]:
        """Which of all doubts are not to be told yet, and seconds until the first of them is.

        Those that were `told` before need no patience.
        """
        now, before = self._now(), self._since.get(key, {})
        since = {doubt: before.get(doubt, now) for doubt in doubts}
        if since:
            self._since[key] = since
        else:
            self._since.pop(key, None)
        left = {
            doubt: PATIENCE - (now - began).total_seconds()
            for doubt, began in since.items()
            if doubt not in told
        }
        young = {doubt: seconds for doubt, seconds in left.items() if seconds > 0}
        return frozenset(young), min(young.values(), default=None)

    def forget(self, key: ProxyKey) -> None:
        """The MCPProxy is gone."""
        self._since.pop(key, None)
