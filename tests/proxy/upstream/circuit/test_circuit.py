"""The circuit breaker: what opens it, what does not, and how it closes."""

from dataclasses import dataclass, field

import pytest

from mcpproxy.proxy.core.errors import (
    BackendError,
    HttpFailed,
    ProtocolError,
    RateLimited,
    TimedOut,
    Unauthorized,
    Unreachable,
)
from mcpproxy.proxy.upstream.circuit.circuit import SPAN, Circuit, CircuitOpen


@dataclass
class Stage:
    """A circuit with a clock of its own; 3 failures open it, and checks are 8 s apart at most."""

    now: float = 100.0
    answered_at: float = float("-inf")
    checks: list[float] = field(default_factory=list)
    """Times for which a check was requested."""
    changes: int = 0

    def circuit(self, threshold: int | None = 3) -> Circuit:
        def changed() -> None:
            self.changes += 1

        return Circuit(
            threshold,
            8.0,
            lambda: self.now,
            lambda: self.answered_at,
            self.checks.append,
            changed,
        )

    def fail(self, circuit: Circuit, times: int, error: BackendError | None = None) -> None:
        """Record failures of connections, half a second apart."""
        for _ in range(times):
            self.now += SPAN / 2
            circuit.record_failure(error or Unreachable("connection refused").unsent())


def lost(error: BackendError | None = None) -> BackendError:
    """The error of a request that was sent."""
    return error or Unreachable("the connection was closed before the response arrived")


def test_enough_consecutive_failures_refuse_calls_and_request_a_check() -> None:
    stage = Stage()
    circuit = stage.circuit()
    stage.fail(circuit, 2)
    assert not circuit.is_open
    stage.fail(circuit, 1)
    assert circuit.is_open
    assert (circuit.openings, stage.changes) == (1, 1)
    assert stage.checks == [stage.now + 1.0]
    error = circuit.refusal().rpc("p")
    assert error.message == (
        "backend p: not sent: 3 requests in a row failed (connection refused); the next check is in"
        " 1 s; the request did not run"
    )
    wanted = {"backend": "p", "reason": "CircuitOpen", "mayHaveRun": False, "retryAfterMs": 1000}
    assert error.data == wanted


def test_failures_at_the_same_moment_have_one_cause_and_refuse_nothing() -> None:
    stage = Stage()
    circuit = stage.circuit()
    for _ in range(64):
        circuit.record_failure(Unreachable("connection refused").unsent())
    assert not circuit.is_open
    stage.fail(circuit, 2)
    assert circuit.is_open


@pytest.mark.parametrize("success", ["a call", "a response on a connection"])
def test_a_success_between_failures_starts_the_count_again(success: str) -> None:
    stage = Stage()
    circuit = stage.circuit()
    for _ in range(3):
        stage.fail(circuit, 2)
        stage.now += 0.1
        if success == "a call":
            circuit.record_success()
        else:
            stage.answered_at = stage.now
    assert not circuit.is_open


@pytest.mark.parametrize(
    "error",
    [
        lost(),
        TimedOut("no response within 1 s"),
        HttpFailed("the backend responded with HTTP 503").unsent(),
        Unauthorized("HTTP 401").unsent(),
        RateLimited("HTTP 429").unsent(),
        ProtocolError("not MCP").unsent(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_lost_and_slow_calls_and_responses_of_a_backend_that_is_well_refuse_nothing(
    error: BackendError,
) -> None:
    stage = Stage()
    circuit = stage.circuit()
    circuit.record_check(True)
    stage.fail(circuit, 20, error)
    assert not circuit.is_open


@pytest.mark.parametrize("error", [lost(), TimedOut("no response within 1 s")])
def test_lost_and_slow_calls_count_while_checks_fail(error: BackendError) -> None:
    stage = Stage()
    circuit = stage.circuit()
    circuit.record_check(False)
    stage.fail(circuit, 3, error)
    assert circuit.is_open


def test_checks_that_fail_are_repeated_after_twice_the_time_up_to_the_interval() -> None:
    stage = Stage()
    circuit = stage.circuit()
    stage.fail(circuit, 3)
    waits = []
    for _ in range(5):
        waits.append(stage.checks[-1] - stage.now)
        stage.now = stage.checks[-1]
        circuit.record_check(False)
    assert waits == [1.0, 2.0, 4.0, 8.0, 8.0]
    assert circuit.refusal().wait == 8.0


def test_a_check_of_the_usual_schedule_does_not_postpone_the_next_one() -> None:
    stage = Stage()
    circuit = stage.circuit()
    stage.fail(circuit, 3)
    circuit.record_check(False)
    assert len(stage.checks) == 1


def test_after_a_successful_check_one_failure_refuses_calls_again() -> None:
    stage = Stage()
    circuit = stage.circuit()
    stage.fail(circuit, 3)
    stage.answered_at = stage.now
    circuit.record_check(True)
    assert not circuit.is_open
    assert circuit.finding is None
    stage.fail(circuit, 1)
    assert circuit.is_open
    assert stage.checks[-1] - stage.now == 2.0, "the pauses still grow"


@pytest.mark.parametrize("success", ["a call", "a response on a connection"])
def test_after_a_successful_call_it_takes_as_many_failures_as_at_first(success: str) -> None:
    stage = Stage()
    circuit = stage.circuit()
    stage.fail(circuit, 3)
    circuit.record_check(True)
    stage.now += 1.0
    if success == "a call":
        circuit.record_success()
    else:
        stage.answered_at = stage.now
    stage.fail(circuit, 2)
    assert not circuit.is_open
    stage.fail(circuit, 1)
    assert circuit.is_open
    assert stage.checks[-1] - stage.now == 1.0


def test_a_call_that_was_sent_before_and_succeeds_ends_the_refusals() -> None:
    stage = Stage()
    circuit = stage.circuit()
    stage.fail(circuit, 3)
    circuit.record_success()
    assert not circuit.is_open
    assert stage.changes == 2


def test_without_a_threshold_nothing_is_refused() -> None:
    stage = Stage()
    circuit = stage.circuit(None)
    stage.fail(circuit, 1000)
    assert not circuit.is_open


def test_the_time_until_the_next_check_is_a_second_at_least() -> None:
    stage = Stage()
    circuit = stage.circuit()
    stage.fail(circuit, 3)
    stage.now += 60.0
    refused = circuit.refusal()
    assert isinstance(refused, CircuitOpen)
    assert refused.wait == 1.0
