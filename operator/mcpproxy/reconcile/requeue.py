"""Requeue intervals: the seconds until another pass although no watch reports a change."""

from typing import Final

from mcpproxy.desired import ServiceTarget, config_map
from mcpproxy.reconcile.plan import WAIT
from mcpproxy.reconcile.snapshot import Snapshot

POLL: Final = 60.0
"""Seconds between two reads of objects that no watch covers."""


def earliest(*intervals: float | None) -> float | None:
    """Return the shortest interval; None if there is none."""
    return min((seconds for seconds in intervals if seconds is not None), default=None)


def poll_interval(snapshot: Snapshot) -> float | None:
    """Return the seconds until Services, missing kinds and the keys of tokens are read again."""
    if any(target == ServiceTarget() for target in snapshot.services.values()):
        return WAIT
    unwatched = snapshot.services or snapshot.hidden_services or snapshot.missing_kinds
    reads_keys = snapshot.proxy is not None and config_map.needs_token_keys(snapshot.proxy)
    return POLL if unwatched or reads_keys else None
