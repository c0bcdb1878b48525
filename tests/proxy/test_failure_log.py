"""Failed requests in the log: where they failed, and not more often than a person can read."""

import logging

import pytest

from mcpproxy.proxy.http1.errors import BURST, PAUSE, FailureLog

TEXT = "text of the request"


def _fail(log: FailureLog, times: int = 1) -> None:
    for _ in range(times):
        try:
            raise ValueError(TEXT)
        except ValueError as error:
            log.record(error)


def test_a_client_that_makes_requests_fail_does_not_fill_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = 0.0
    log = FailureLog(lambda: now)
    with caplog.at_level(logging.ERROR):
        _fail(log, 500)
        assert len(caplog.records) == BURST
        now = PAUSE
        _fail(log, 500)
        assert len(caplog.records) == BURST + 1
        assert f"{500 - BURST} more failed before" in caplog.text
    assert TEXT not in caplog.text
    assert "ValueError" in caplog.text


def test_failures_after_a_quiet_time_are_all_logged_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = 0.0
    log = FailureLog(lambda: now)
    _fail(log, BURST + 1)
    now = PAUSE * BURST
    caplog.clear()
    _fail(log, BURST)
    assert len(caplog.records) == BURST
