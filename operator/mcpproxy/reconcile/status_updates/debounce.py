"""Debounce of the disagreements of pods, before the status reports them."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from mcpproxy.cluster.resources import ProxyKey

PATIENCE: Final = 30.0
"""Seconds for which a disagreement lasts before it is reported: changes reach pods at different
moments."""


class Debouncer:
    """The disagreements of each MCPProxy, and the time since which they last."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._since: dict[ProxyKey, dict[str, datetime]] = {}

    def is_tracking(self, key: ProxyKey) -> bool:
        """Return True once `debounce` or `resume` was called for the MCPProxy."""
        return key in self._since

    def resume(self, key: ProxyKey, reported: frozenset[str]) -> None:
        """Begin with disagreements that another operator has reported: their period is over."""
        over = self._now() - timedelta(seconds=PATIENCE)
        self._since[key] = dict.fromkeys(reported, over)

    def debounce(
        self, key: ProxyKey, disagreements: frozenset[str]
    ) -> tuple[frozenset[str], float | None]:
        """Return those that must not be reported yet, and the seconds until the first may be.

        A disagreement that is not among `disagreements` is over; if it returns, its period
        begins again.
        """
        now, before = self._now(), self._since.get(key, {})
        since = self._since[key] = {name: before.get(name, now) for name in disagreements}
        left = {name: PATIENCE - (now - began).total_seconds() for name, began in since.items()}
        recent = {name: seconds for name, seconds in left.items() if seconds > 0}
        return frozenset(recent), min(recent.values(), default=None)

    def forget(self, key: ProxyKey) -> None:
        """Forget an MCPProxy that no longer exists."""
        self._since.pop(key, None)
