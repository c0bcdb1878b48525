"""Field conflicts: other managers that keep changing applied fields, and the back-off."""

import hashlib
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from mcpproxy.api import constants
from mcpproxy.api.kubernetes.objects import Object
from mcpproxy.api.yaml_safe_json import json_text
from mcpproxy.backoff import Backoff
from mcpproxy.cluster.field_managers import find_contested_field
from mcpproxy.cluster.resources import ProxyKey
from mcpproxy.status import reasons
from mcpproxy.status.inputs import ConditionReason

log = logging.getLogger(__name__)

FIRST_PAUSE: Final = 1.0
"""Seconds between the first and the second reversal; each further one doubles them."""
LAST_PAUSE: Final = 300.0
FIGHT: Final = 3
"""Number of reversals of one child from which on they are reported."""
QUIET: Final = 60.0
"""Minimum of seconds without another change after which the reversals are forgotten."""

_DELETED: Final = ("", "")


@dataclass(slots=True)
class _ChildConflicts:
    """The last manifest of one child, and its reversals."""

    manifest: bytes
    """Its digest."""
    applied_at: datetime
    backoff: Backoff
    """Delays until the same manifest may be applied again; each failure is a reversal."""
    field: str = ""
    manager: str = ""

    @property
    def quiet(self) -> float:
        """Seconds without another change after which the conflict is over."""
        return max(QUIET, 2 * self.backoff.delay)


class FieldConflicts:
    """Counter of reversals: a manifest is applied again after another manager undid it.

    A first reversal is immediate. The pauses before the next ones grow from 1 to 300 seconds.
    """

    def __init__(
        self, now: Callable[[], datetime], reverted: Callable[[str], None] = lambda kind: None
    ) -> None:
        """`reverted` receives the kind of a child for each reversal of a reported conflict."""
        self._now = now
        self._reverted = reverted
        self._children: dict[ProxyKey, dict[tuple[str, str], _ChildConflicts]] = {}

    def forget(self, key: ProxyKey) -> None:
        """Forget an MCPProxy that no longer exists."""
        self._children.pop(key, None)

    def retain(self, key: ProxyKey, desired: Iterable[Object]) -> None:
        """Forget the children of an MCPProxy that it no longer has."""
        identities = {_identity(manifest) for manifest in desired}
        children = self._children.get(key, {})
        for gone in children.keys() - identities:
            del children[gone]

    def pause(self, key: ProxyKey, manifest: Object) -> float:
        """Return the seconds until this manifest may be applied again; 0 for at once."""
        child = self._children.get(key, {}).get(_identity(manifest))
        if child is None or child.manifest != _digest(manifest):
            return 0.0
        return max(0.0, child.backoff.delay - self._since(child))

    def applied(self, key: ProxyKey, manifest: Object, before: Object | None) -> None:
        """Note that a manifest was applied; `before` is the previous object."""
        children = self._children.setdefault(key, {})
        child, digest = children.get(_identity(manifest)), _digest(manifest)
        if child is None or child.manifest != digest:
            is_kept = child is not None and self._since(child) < child.quiet
            backoff = child.backoff if child and is_kept else Backoff(FIRST_PAUSE, LAST_PAUSE)
            children[_identity(manifest)] = _ChildConflicts(digest, self._now(), backoff)
            return
        if self._since(child) >= child.quiet:
            child.backoff.reset()
        child.field, child.manager = find_contested_field(manifest, before) if before else _DELETED
        child.backoff.record_failure()
        child.applied_at = self._now()
        if child.backoff.failures >= FIGHT:
            self._reverted(manifest["kind"])
        if child.backoff.failures == FIGHT:
            log.warning("%s/%s: %s", *key, _message(_identity(manifest), child))

    def finding(self, key: ProxyKey) -> ConditionReason | None:
        """Return the contested fields of an MCPProxy as a reason; None if there are none."""
        fights = [
            _message(identity, child)
            for identity, child in self._children.get(key, {}).items()
            if child.backoff.failures >= FIGHT and self._since(child) < child.quiet
        ]
        return ConditionReason(reasons.CONTESTED, "; ".join(fights)) if fights else None

    def until_quiet(self, key: ProxyKey) -> float | None:
        """Return the seconds until a conflict is over if no change follows; None without one."""
        left = [
            child.quiet - self._since(child)
            for child in self._children.get(key, {}).values()
            if child.backoff.failures >= FIGHT
        ]
        return min((seconds for seconds in left if seconds > 0), default=None)

    def _since(self, child: _ChildConflicts) -> float:
        return (self._now() - child.applied_at).total_seconds()


def _identity(manifest: Object) -> tuple[str, str]:
    return manifest["kind"], manifest["metadata"]["name"]


def _digest(manifest: Object) -> bytes:
    return hashlib.sha256(json_text(manifest, sort_keys=True).encode()).digest()


def _message(identity: tuple[str, str], child: _ChildConflicts) -> str:
    kind, name = identity
    if not child.manager:
        return (
            f"{kind} {name}: another client keeps deleting it, so the operator creates it again at"
            " longer and longer intervals; stop that client"
        )
    who, remedy = f"manager {child.manager}", "stop that manager from changing it"
    if child.manager == constants.FIELD_MANAGER:
        who = f"another operator (field manager {child.manager})"
        remedy = "run only one operator for this namespace"
    elif child.field == "spec.replicas":
        remedy = "stop that manager, or remove spec.replicas from the MCPProxy"
    return (
        f"{child.field} of {kind} {name}: {who} keeps changing it, so the operator reverts it at"
        f" longer and longer intervals; {remedy}"
    )
