"""The state of a backend changes only after enough checks that say so."""

import pytest

from mcpproxy.api.defaults import HealthPolicy
from mcpproxy.limits.backends import FINDING_TEXT
from mcpproxy.proxy.core.health import BackendHealth, HealthState


def _health(unhealthy_after: int = 2, healthy_after: int = 1) -> BackendHealth:
    return BackendHealth(HealthPolicy(10, 5, unhealthy_after, healthy_after))


def _bad(health: BackendHealth, state: str = "Unhealthy") -> bool:
    return health.record_failure(state, "Unreachable", "connection refused")  # type: ignore[arg-type]


def test_nothing_is_known_before_the_first_check() -> None:
    health = _health()
    assert (health.finding.state, health.is_usable, health.needs_recheck) == (
        "Unknown",
        False,
        False,
    )


def test_the_first_check_decides_alone() -> None:
    good, bad = _health(3, 3), _health(3, 3)
    assert good.record_success()
    assert _bad(bad)
    assert good.finding == HealthState("Healthy")
    assert bad.finding == HealthState("Unhealthy", "Unreachable", "connection refused")


def test_a_healthy_backend_becomes_unhealthy_after_enough_bad_checks() -> None:
    health = _health(unhealthy_after=3)
    health.record_success()
    assert [_bad(health) for _ in range(3)] == [False, False, True]
    assert not health.is_usable


def test_the_error_text_of_a_backend_is_truncated_and_escaped() -> None:
    reached = FINDING_TEXT.reached
    health = _health()
    health.record_failure("Unhealthy", "Unreachable", "a\x1b[2J\n" + "b" * FINDING_TEXT.value)
    message = health.finding.message or ""
    assert len(message) == FINDING_TEXT.value
    assert message.isprintable()
    assert FINDING_TEXT.reached == reached + 1


def test_a_successful_check_resets_the_count() -> None:
    health = _health(unhealthy_after=2)
    health.record_success()
    assert [_bad(health), health.record_success(), _bad(health)] == [False, False, False]
    assert health.finding.state == "Healthy"


def test_an_unhealthy_backend_becomes_healthy_after_enough_good_checks() -> None:
    health = _health(healthy_after=2)
    _bad(health)
    assert [health.record_success(), health.record_success()] == [False, True]


def test_a_single_contrary_check_requires_a_recheck_in_both_states() -> None:
    health = _health(unhealthy_after=2, healthy_after=2)
    health.record_success()
    _bad(health)
    assert health.needs_recheck
    _bad(health)
    assert not health.needs_recheck
    health.record_success()
    assert health.needs_recheck


@pytest.mark.parametrize(("state", "usable"), [("Unauthorized", False), ("RateLimited", True)])
def test_only_a_backend_that_is_merely_slowed_down_keeps_its_components(
    state: str, usable: bool
) -> None:
    health = _health(unhealthy_after=1)
    health.record_success()
    assert _bad(health, state)
    assert health.is_usable is usable


def test_an_equal_finding_is_not_a_change() -> None:
    health = _health()
    assert [_bad(health), _bad(health), _bad(health)] == [True, False, False]
    assert not health.needs_recheck


def test_failing_in_another_way_takes_as_many_checks_as_failing_at_all() -> None:
    health = _health(unhealthy_after=3)
    _bad(health)
    for state in ("Unauthorized", "RateLimited"):
        assert [_bad(health, state) for _ in range(3)] == [False, False, True]
        assert health.finding.state == state


def test_alternating_failures_of_a_backend_do_not_change_its_state() -> None:
    health = _health(unhealthy_after=2)
    health.record_success()
    states = ("RateLimited", "Unauthorized", "Unhealthy")
    changes = [_bad(health, state) for state in states * 4]
    assert changes.count(True) == 1
    assert health.finding.state == "Unauthorized"
    assert health.needs_recheck


def test_a_reason_or_message_that_changes_with_each_check_is_not_reported_each_time() -> None:
    health = _health(unhealthy_after=2)
    health.record_failure("Unhealthy", "Unreachable", "refused")
    for number in range(5):
        assert not health.record_failure("Unhealthy", "Unreachable", f"attempt {number}")
    assert health.finding.message == "refused"
    assert not health.record_failure("Unhealthy", "TimedOut", "late")
    assert health.record_failure("Unhealthy", "TimedOut", "late")
    assert health.finding == HealthState("Unhealthy", "TimedOut", "late")


def test_a_successful_check_resets_the_failure_history() -> None:
    health = _health(unhealthy_after=2, healthy_after=2)
    _bad(health)
    assert [_bad(health, "Unauthorized"), health.record_success()] == [False, False]
    assert not _bad(health, "Unauthorized")
