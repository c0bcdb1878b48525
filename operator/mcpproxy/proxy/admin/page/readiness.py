"""Ready as one process can decide it, with the reasons and messages of the condition.

The condition also covers other pods and the rollout, which only the operator knows.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from mcpproxy.proxy.admin.page.data import BackendView

SERVING: Final = "Serving"
BACKENDS_UNHEALTHY: Final = "BackendsUnhealthy"
BACKENDS_UNKNOWN: Final = "BackendsUnknown"
TERMINATING: Final = "Terminating"
_NOT_LISTED: Final = "NotListed"
_NAMED: Final = 3
_SHUTTING_DOWN: Final = "shutting down"


class Readiness(NamedTuple):
    """Status, reason and message, as in a condition."""

    status: str
    reason: str
    message: str


def judge(backends: Sequence[BackendView], not_ready: str | None) -> Readiness:
    """Return the readiness; `not_ready` is the reason for which /readyz fails, or None."""
    if not_ready == _SHUTTING_DOWN:
        return Readiness("False", TERMINATING, "the process is shutting down")
    required = [backend for backend in backends if backend.required]
    failed = [backend for backend in required if _has_failed(backend)]
    if failed:
        return Readiness("False", BACKENDS_UNHEALTHY, _describe(failed))
    unknown = [backend for backend in required if backend.state == "Unknown"]
    if unknown:
        return Readiness("Unknown", BACKENDS_UNKNOWN, _describe(unknown))
    if not_ready is not None:
        return Readiness("Unknown", BACKENDS_UNKNOWN, not_ready)
    serving = sum(not _has_failed(backend) and backend.state != "Unknown" for backend in backends)
    return Readiness("True", SERVING, f"{serving} of {len(backends)} backends are being served")


def _has_failed(backend: BackendView) -> bool:
    if backend.state == "RateLimited":
        return backend.reason == _NOT_LISTED
    return backend.state in ("Unhealthy", "Unauthorized")


def _describe(backends: Sequence[BackendView]) -> str:
    texts = [_describe_one(backend) for backend in backends[:_NAMED]]
    more = len(backends) - _NAMED
    return "; ".join(texts) + (f"; and {more} more" if more > 0 else "")


def _describe_one(backend: BackendView) -> str:
    parts = (backend.name, backend.state, backend.reason, backend.message)
    return ": ".join(part for part in parts if part)
