"""Outcomes of passes, and their failures as reasons for the status."""

from dataclasses import dataclass

from mcpproxy.cluster.errors import (
    ClusterError,
    Conflict,
    Forbidden,
    LimitExceeded,
    OperatorFault,
    Unavailable,
)
from mcpproxy.cluster.resources import ProxyKey
from mcpproxy.reconcile.snapshot import Snapshot, describe_fault
from mcpproxy.status import reasons
from mcpproxy.status.inputs import ConditionReason
from mcpproxy.status.rejections import explain_rejection


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of bringing the children to the state that the spec requests."""

    snapshot: Snapshot
    """The snapshot with the children that resulted."""
    blocked: ConditionReason | None = None
    """Reason for which the children could not be written."""
    pending_changes: tuple[str, ...] = ()
    """Kinds and names of the children that a suspended MCPProxy would change."""
    requeue_after: float | None = None
    """Seconds until another pass although nothing changes."""
    error: Exception | None = None
    """Error that ended the pass: it is retried after the status is written."""


class Failures:
    """Errors of planning and applying, and the MCPProxies that met a Conflict last time."""

    def __init__(self) -> None:
        self._conflicts: set[ProxyKey] = set()

    def describe(self, key: ProxyKey, error: Exception) -> ConditionReason:
        """Return the reason for which the children could not be written.

        Raise a first Conflict: the snapshot is outdated. A second one in sequence is a rejection.
        """
        if isinstance(error, Conflict) and key not in self._conflicts:
            self._conflicts.add(key)
            raise error
        if isinstance(error, ClusterError):
            return describe_rejection(error)
        return ConditionReason(reasons.OPERATOR_FAILED, describe_fault(error))

    def has(self, key: ProxyKey) -> bool:
        """Return True if the last pass over an MCPProxy met a Conflict."""
        return key in self._conflicts

    def forget(self, key: ProxyKey) -> None:
        """Forget the Conflict of an MCPProxy that was reconciled or no longer exists."""
        self._conflicts.discard(key)


def describe_rejection(error: ClusterError) -> ConditionReason:
    """Return the reason for which a child could not be written."""
    if isinstance(error, Forbidden):
        return ConditionReason(reasons.FORBIDDEN, f"the operator lacks a permission: {error}")
    if isinstance(error, Unavailable):
        return ConditionReason(reasons.API_SERVER_UNAVAILABLE, f"cannot write a child: {error}")
    text = explain_rejection(str(error))
    return ConditionReason(reasons.REFUSED, f"the API server rejected a child: {text}")


def describe_unread(snapshot: Snapshot) -> ConditionReason:
    """Return the reason for which nothing is changed: kinds that could not be read."""
    kinds = ", ".join(sorted(snapshot.unread))
    error = first_error(snapshot)
    if isinstance(error, OperatorFault):
        return ConditionReason(reasons.OPERATOR_FAILED, str(error))
    if isinstance(error, LimitExceeded):
        return ConditionReason(reasons.TOO_LARGE, f"the operator changes nothing: {error}")
    denied = isinstance(error, Forbidden)
    reason = reasons.FORBIDDEN if denied else reasons.API_SERVER_UNAVAILABLE
    cause = (
        "the operator lacks the permission to read"
        if denied
        else "the API server did not respond to requests for"
    )
    message = f"{cause} {kinds}; the operator changes nothing until it can read them: {error}"
    return ConditionReason(reason, message)


def first_error(snapshot: Snapshot) -> ClusterError:
    """Return the error of the first kind, by name, that could not be read."""
    return snapshot.unread[min(snapshot.unread)]
