"""Health of one backend, with hysteresis in both directions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from mcpproxy.api import constants
from mcpproxy.api.defaults import HealthPolicy
from mcpproxy.api.untrusted_text import clean_text
from mcpproxy.limits.backends import FINDING_TEXT

if TYPE_CHECKING:
    from mcpproxy.api.v1alpha1.status import BackendState

Failure = Literal["Unhealthy", "Unauthorized", "RateLimited"]
_NO_SIGNATURE: Final[tuple[str, ...]] = ()


@dataclass(frozen=True, slots=True)
class HealthState:
    """State of a backend with its cause: a CamelCase reason and a message."""

    state: "BackendState"
    reason: str | None = None
    message: str | None = None

    @classmethod
    def without_lists(cls, errors: Sequence[str]) -> "HealthState":
        """Return the state of a healthy backend some of whose lists cannot be fetched."""
        message = f"{'; '.join(errors)}; other lists are served"
        return cls("Healthy", constants.LIST_FAILED, message)


GUARDED: Final = HealthState(
    "Healthy",
    "ClientCredentials",
    "the backend requires credentials of clients, which forwardHeaders forwards, so that only"
    " clients know its components",
)

FOR_CALLERS: Final = HealthState(
    "Healthy",
    "OnBehalfOfCallers",
    "the backend is called on behalf of each caller, so that only callers know its components",
)

NOT_LISTED: Final = HealthState(
    "RateLimited",
    constants.NOT_LISTED,
    "HTTP 429: the backend limits requests, and its components have not been listed yet",
)


class BackendHealth:
    """Count consecutive probe results, and change the state only after enough equal ones.

    The first probe alone decides, because nothing is known before it.
    """

    def __init__(self, policy: HealthPolicy) -> None:
        self._policy = policy
        self._successes = 0
        self._failures = 0
        self._last_signature = _NO_SIGNATURE
        """Signature of the last failure, if it differs from `finding`."""
        self._signature_count = 0
        """Number of consecutive failures with the signature `_last_signature`."""
        self.last_failure: HealthState | None = None
        """Result of the last failed probe, also if it has not changed the state."""
        self.finding = HealthState(
            "Unknown", "NotTried", "the proxy has not connected to the backend yet"
        )

    @property
    def needs_recheck(self) -> bool:
        """True if the last probe contradicts the state, so that the next one should be early."""
        healthy = self.finding.state == "Healthy"
        return (healthy and self._failures > 0) or (
            not healthy and self._successes + self._signature_count > 0
        )

    @property
    def is_usable(self) -> bool:
        """True if the backend's components may be offered."""
        return self.finding.state in ("Healthy", "RateLimited")

    def record_success(self, finding: HealthState | None = None) -> bool:
        """Record a successful probe; `finding` qualifies the success.

        Return True if the state, its reason or its message changed.
        """
        self._successes, self._failures = self._successes + 1, 0
        self._last_signature, self._signature_count = _NO_SIGNATURE, 0
        if self.finding.state == "Unknown" or self._successes >= self._policy.healthy_after:
            return self._transition_to(finding or HealthState("Healthy"))
        return False

    def record_failure(self, state: Failure, reason: str, message: str) -> bool:
        """Record a failed probe. Return True if the state, its reason or its message changed.

        A new kind of failure changes nothing until it has occurred often enough.
        """
        if len(message) > FINDING_TEXT.value:
            FINDING_TEXT.record()
        new = HealthState(state, reason, clean_text(message, FINDING_TEXT.value))
        self.last_failure = new
        self._successes, self._failures = 0, self._failures + 1
        signature = self._failure_signature(new)
        self._signature_count = (
            self._signature_count + 1 if signature == self._last_signature else 1
        )
        self._last_signature = signature
        in_a_row = self._failures if self.finding.state == "Healthy" else self._signature_count
        certain = self.finding.state == "Unknown" or signature == _NO_SIGNATURE
        if certain or in_a_row >= self._policy.unhealthy_after:
            return self._transition_to(new)
        return False

    def _failure_signature(self, new: HealthState) -> tuple[str, ...]:
        """Return the difference of a failure from `finding`: its state, or its reason and
        message."""
        if new.state != self.finding.state:
            return (new.state,)
        return _NO_SIGNATURE if new == self.finding else (f"{new.reason}", f"{new.message}")

    def _transition_to(self, finding: HealthState) -> bool:
        changed, self.finding = finding != self.finding, finding
        self._last_signature, self._signature_count = _NO_SIGNATURE, 0
        return changed
