"""The settings of Kopf."""

from itertools import islice

from mcpproxy.controller.kopf_settings import kopf_settings


def test_a_request_of_a_watch_that_fails_is_repeated_forever_within_5_seconds() -> None:
    pauses = kopf_settings().networking.error_backoffs
    assert not isinstance(pauses, float)
    first = list(islice(iter(pauses), 1000))
    assert len(first) == 1000
    assert max(first) <= 5
    assert first[:2] == [1, 1]
    assert list(islice(iter(pauses), 1000)) == first
