"""The state of one backend, with hysteresis both ways."""

from dataclasses import dataclass
from typing import Final, Literal

from mcpproxy.api.defaults import HealthPolicy
from mcpproxy.api.untrusted_text import clean_text
from mcpproxy.api.v1alpha1 import status
from mcpproxy.api.v1alpha1.status import BackendState
from mcpproxy.limits.backends import FINDING_TEXT

Failure = Literal["Unhealthy", "Unauthorized", "RateLimited"]
_NOTHING: Final[tuple[str, ...]] = ()


@dataclass(frozen=True, slots=True)
class HealthState:
    """Why a backend is in a state: a CamelCase word and a sentence."""

    state: BackendState
    reason: str | None = None
    message: str | None = None


GUARDED: Final = HealthState(
    "Healthy",
    "ClientCredentials",
    "it wants credentials of clients, which forwardHeaders passes on: what it offers is known to"
    " them alone",
)

NOT_LISTED: Final = HealthState(
    "RateLimited",
    status.NOT_LISTED,
    "it answers HTTP 429, and what it offers was not listed before",
)


class BackendHealth:
    """Counts checks in a row that went alike; changes its mind only after enough of them.

    The first check of all decides alone: nothing is known before it.
    """

    def __init__(self, policy: HealthPolicy) -> None:
        self._policy = policy
        self._good = 0
        self._bad = 0
        self._other = _NOTHING
        """How the last check failed, if otherwise than the finding says."""
        self._others = 0
        """How many in a row failed like that."""
        self.finding = HealthState("Unknown", "NotTried", "the backend was not tried yet")

    @property
    def suspected(self) -> bool:
        """Whether the last check contradicts the state, so that the next one should come soon."""
        healthy = self.finding.state == "Healthy"
        return (healthy and self._bad > 0) or (not healthy and self._good + self._others > 0)

    @property
    def usable(self) -> bool:
        """Whether its components are to be shown."""
        return self.finding.state in ("Healthy", "RateLimited")

    def good(self, finding: HealthState | None = None) -> bool:
        """A check succeeded, with a finding where there is something to say of it.

        Returns whether the state, its reason or its message changed.
        """
        self._good, self._bad = self._good + 1, 0
        self._other, self._others = _NOTHING, 0
        if self.finding.state == "Unknown" or self._good >= self._policy.healthy_after:
            return self._become(finding or HealthState("Healthy"))
        return False

    def bad(self, state: Failure, reason: str, message: str) -> bool:
        """A check failed. Returns whether the state, its reason or its message changed.

        To fail in another way than before changes nothing until it happened often enough.
        """
        if len(message) > FINDING_TEXT.value:
            FINDING_TEXT.record()
        found = HealthState(state, reason, clean_text(message, FINDING_TEXT.value))
        self._good, self._bad = 0, self._bad + 1
        other = self._unlike(found)
        self._others = self._others + 1 if other == self._other else 1
        self._other = other
        in_a_row = self._bad if self.finding.state == "Healthy" else self._others
        certain = self.finding.state == "Unknown" or other == _NOTHING
        if certain or in_a_row >= self._policy.unhealthy_after:
            return self._become(found)
        return False

    def _unlike(self, found: HealthState) -> tuple[str, ...]:
        """What is new about a failure: its state, or else its reason and message."""
        if found.state != self.finding.state:
            return (found.state,)
        return _NOTHING if found == self.finding else (f"{found.reason}", f"{found.message}")

    def _become(self, finding: HealthState) -> bool:
        changed, self.finding = finding != self.finding, finding
        self._other, self._others = _NOTHING, 0
        return changed
