"""Coalescing of statuses that only count the pods of a rollout."""

from collections.abc import Callable
from datetime import datetime
from typing import Final

from mcpproxy.api.v1alpha1.status import MCPProxyStatus
from mcpproxy.cluster.resources import ProxyKey
from mcpproxy.status import reasons

PAUSE: Final = 15.0
"""Seconds between two statuses that differ only in numbers of pods."""


class RolloutProgress:
    """Delay of statuses of proxies that start, until something other than a number changes."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._since: dict[ProxyKey, datetime] = {}

    def held(
        self, key: ProxyKey, before: MCPProxyStatus | None, after: MCPProxyStatus
    ) -> float | None:
        """Return the seconds until `after` may be written; None for immediately."""
        if before is None or not _counts_alone(before, after):
            self._since.pop(key, None)
            return None
        since = self._since.setdefault(key, self._now())
        left = PAUSE - (self._now() - since).total_seconds()
        if left <= 0:
            del self._since[key]
            return None
        return left

    def forget(self, key: ProxyKey) -> None:
        """Forget an MCPProxy that no longer exists."""
        self._since.pop(key, None)


def _counts_alone(before: MCPProxyStatus, after: MCPProxyStatus) -> bool:
    reconciling = {condition.type for condition in before.conditions or []} >= {reasons.RECONCILING}
    return reconciling and before.url is None and _gist(before) == _gist(after)


def _gist(status: MCPProxyStatus) -> MCPProxyStatus:
    """Return a status without numbers of pods and the messages that repeat them."""
    counts = {"replicas": None, "ready_replicas": None, "pods": None, "selector": None}
    conditions = [
        condition.model_copy(update={"message": ""})
        if condition.reason in reasons.ON_THE_WAY
        else condition
        for condition in status.conditions or []
    ]
    return status.model_copy(update={**counts, "conditions": conditions})
