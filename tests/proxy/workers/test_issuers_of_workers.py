"""The keys of issuers in the report of several workers: the worst state counts."""

from mcpproxy.api.v1alpha1.status import IssuerStatus, PodReport
from mcpproxy.proxy.workers.report_merge import merge_reports

URL = "https://login.example.com"
GOOD = IssuerStatus(issuer=URL, keys=2)
STALE = IssuerStatus(issuer=URL, keys=2, message="no connection", keys_from="2026-01-01")
DOWN = IssuerStatus(issuer=URL, keys=0, message="no connection")
BLANK = PodReport(config_hash="h", version="1", backends=[], clashes=[])


def merged(*states: IssuerStatus | None) -> list[IssuerStatus] | None:
    """Return the merged report of workers; None stands for a worker without authentication."""
    reports = [
        BLANK.model_copy(update={"authentication": None if state is None else [state]})
        for state in states
    ]
    return merge_reports(BLANK, reports).authentication


def test_the_worst_state_of_an_issuer_is_that_of_all_workers() -> None:
    assert merged(GOOD, GOOD) == [GOOD]
    assert merged(GOOD, STALE, GOOD) == [STALE]
    assert merged(STALE, DOWN, GOOD) == [DOWN]
    assert merged(DOWN, STALE) == [DOWN]


def test_each_issuer_is_reported_once() -> None:
    other = IssuerStatus(issuer="apiKeys", keys=1)
    both = BLANK.model_copy(update={"authentication": [GOOD, other]})
    assert merge_reports(BLANK, [both, both]).authentication == [GOOD, other]


def test_without_authentication_nothing_is_reported() -> None:
    assert merged(None, None) is None
    assert merged() is None
