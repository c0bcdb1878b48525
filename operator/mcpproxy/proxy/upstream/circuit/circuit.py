"""Circuit breaker of one backend.

    closed ──── enough consecutive failures ───> open ─── a successful check ───> half-open
      ^                                           ^                                │     │
      └────────────── a successful call ──────────┼────────────────────────────────┘     │
                                                  └───────────── one failure ────────────┘

Only failures count that show that the backend can't be reached: a connection or a session that
could not be opened, and a call that was lost or timed out while checks fail as well. A response
proves the contrary, whatever it says, and so do slow calls while checks succeed.
"""

import math
from collections.abc import Callable
from typing import Final

from mcpproxy.backoff import Backoff
from mcpproxy.proxy.core.errors import BackendError, ProcessFailed, TimedOut, Unreachable
from mcpproxy.proxy.core.health import HealthState
from mcpproxy.proxy.protocol.jsonrpc import RpcError

SPAN: Final = 1.0
"""Seconds that the failures which open the circuit cover, at least. Calls that fail together when a
backend restarts have one cause, and it is over soon."""
PROBE_FIRST: Final = 1.0
"""Seconds between the opening and the first check. Doubles with each check that fails."""
OPEN: Final = "CircuitOpen"
_COUNTED: Final = (Unreachable, TimedOut, ProcessFailed)


class CircuitOpen(BackendError):
    """Calls fail at once, because the backend could not be reached lately."""

    reason = OPEN
    refused = True

    def __init__(self, text: str, wait: float) -> None:
        """`wait` is the number of seconds until the next check, after which calls may succeed."""
        super().__init__(text)
        self.wait = wait

    def rpc(self, backend: str) -> RpcError:
        error = super().rpc(backend)
        milliseconds = max(math.ceil(self.wait * 1000), 1)
        return RpcError(error.code, error.message, {**error.data, "retryAfterMs": milliseconds})


class Circuit:
    """State of the circuit breaker of one backend."""

    def __init__(
        self,
        threshold: int | None,
        longest: float,
        clock: Callable[[], float],
        answered_at: Callable[[], float],
        check_at: Callable[[float], object],
        on_change: Callable[[], None],
    ) -> None:
        """`threshold` is the number of consecutive failures that open the circuit; None for never.

        `longest` is the maximum number of seconds between two checks. `answered_at` returns the
        time of the backend's last response, `check_at` requests a check at a time, and `on_change`
        is called when calls begin or cease to be refused; times are those of `clock`.
        """
        self.is_open = False
        """True while calls are refused."""
        self.failures = 0
        """Consecutive failures."""
        self.openings = 0
        """Number of times that the circuit opened."""
        self._threshold = threshold
        self._clock, self._answered_at = clock, answered_at
        self._check_at, self._on_change = check_at, on_change
        self._first_at = self._last_at = 0.0
        """Times of the first and the last failure."""
        self._is_half_open = False
        self._is_well = True
        """Result of the last check."""
        self._checks = Backoff(min(PROBE_FIRST, longest), longest)
        self._finding: HealthState | None = None

    @property
    def finding(self) -> HealthState | None:
        """State for the status; None while calls are admitted."""
        return self._finding if self.is_open else None

    def refusal(self) -> CircuitOpen:
        """Return the error of a call that is not sent."""
        assert self._finding is not None
        wait = max(self._checks.retry_at - self._clock(), PROBE_FIRST)
        text = f"not sent: {self._finding.message}; the next check is in {math.ceil(wait)} s"
        return CircuitOpen(text, wait)

    def record_success(self) -> None:
        """Record that a call got its response."""
        self.failures = 0
        self._is_half_open = False
        self._checks.reset()
        self._close()

    def record_failure(self, error: BackendError) -> None:
        """Record that a call got no response."""
        if self._threshold is None or not self._counts(error):
            return
        now = self._clock()
        if self.failures and self._answered_at() > self._last_at and not self.is_open:
            self.record_success()
        if not self.failures:
            self._first_at = now
        self.failures, self._last_at = self.failures + 1, now
        enough = self.failures >= self._threshold and now - self._first_at >= SPAN
        if not self.is_open and (enough or self._is_half_open):
            self._open(error, now)

    def _counts(self, error: BackendError) -> bool:
        if not isinstance(error, _COUNTED) or error.answered:
            return False
        return not (error.reached and self._is_well)

    def _open(self, error: BackendError, now: float) -> None:
        self.is_open, self._is_half_open = True, False
        self.openings += 1
        times = "1 request" if self.failures == 1 else f"{self.failures} requests in a row"
        self._finding = HealthState("Unhealthy", OPEN, f"{times} failed ({error})")
        self._probe_later(now)
        self._on_change()

    def _probe_later(self, now: float) -> None:
        self._checks.record_failure(now)
        self._check_at(self._checks.retry_at)

    def record_check(self, good: bool) -> None:
        """Record the result of a check of the backend."""
        self._is_well = good
        if not self.is_open:
            return
        if good:
            # A later response is one of a call, or of another check.
            self._is_half_open, self._last_at = True, self._clock()
            self._close()
        elif self._clock() >= self._checks.retry_at:
            self._probe_later(self._clock())

    def _close(self) -> None:
        if self.is_open:
            self.is_open = False
            self._on_change()
