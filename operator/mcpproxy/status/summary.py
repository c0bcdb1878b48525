"""Summary of the status in one or two words, for the column STATUS of kubectl get. Pure."""

from collections.abc import Callable, Mapping
from typing import Final

from mcpproxy.status import reasons
from mcpproxy.status.conditions.condition import ConditionValue
from mcpproxy.status.inputs import StatusInput

Conditions = Mapping[str, ConditionValue]

_PENDING: Final = frozenset(
    {
        reasons.BACKENDS_UNKNOWN,
        reasons.CREATING,
        reasons.PODS_NOT_REPORTING,
        reasons.PODS_NOT_READY,
        reasons.WAITING_FOR_DELETION,
    }
)


def summarize(observed: StatusInput, conditions: Conditions) -> str:
    """Return the word of the first check of SUMMARIES that holds."""
    return next(word for word, holds in SUMMARIES if holds(observed, conditions))


def _is_deleted(observed: StatusInput, _: Conditions) -> bool:
    return observed.terminating


def _is_suspended(_: StatusInput, conditions: Conditions) -> bool:
    return reasons.SUSPENDED in conditions


def _is_scaled_to_zero(_: StatusInput, conditions: Conditions) -> bool:
    return conditions[reasons.AVAILABLE].reason == reasons.SCALED_TO_ZERO


def _is_stalled(_: StatusInput, conditions: Conditions) -> bool:
    return reasons.STALLED in conditions


def _is_pending(_: StatusInput, conditions: Conditions) -> bool:
    ready = conditions[reasons.READY]
    return ready.status != "True" and ready.reason in _PENDING


def _is_not_ready(_: StatusInput, conditions: Conditions) -> bool:
    return conditions[reasons.READY].status == "False"


def _is_unknown(_: StatusInput, conditions: Conditions) -> bool:
    return conditions[reasons.READY].status == "Unknown"


def _is_paused(observed: StatusInput, conditions: Conditions) -> bool:
    deployment = observed.deployment
    paused = deployment is not None and deployment.paused and not deployment.rolled_out
    return reasons.RECONCILING in conditions and paused


def _is_hindered(observed: StatusInput, conditions: Conditions) -> bool:
    """Return True if a rollout does not continue without a human."""
    hindered = any(problem.reason in reasons.HINDERS for problem in observed.pod_problems)
    return reasons.RECONCILING in conditions and hindered


def _is_updating(_: StatusInput, conditions: Conditions) -> bool:
    return reasons.RECONCILING in conditions


def _is_serving(observed: StatusInput, _: Conditions) -> bool:
    return all(backend.state == "Healthy" for backend in observed.backends)


def _has_unhealthy_backends(observed: StatusInput, conditions: Conditions) -> bool:
    return not _is_serving(observed, conditions)


SUMMARIES: Final[tuple[tuple[str, Callable[[StatusInput, Conditions], bool]], ...]] = (
    ("Terminating", _is_deleted),
    ("Suspended", _is_suspended),
    ("Scaled to 0", _is_scaled_to_zero),
    ("Stalled", _is_stalled),
    ("Pending", _is_pending),
    ("Failing", _is_not_ready),
    ("Unknown", _is_unknown),
    ("Paused", _is_paused),
    ("Degraded", _is_hindered),
    ("Updating", _is_updating),
    ("Serving", _is_serving),
    ("Degraded", _has_unhealthy_backends),
)
"""Words and their checks, the most important first."""
