"""AuthenticationReady: whether pods have the keys that verify credentials."""

from typing import Any

import pytest

from mcpproxy.api.v1alpha1.status import IssuerStatus
from mcpproxy.status.compute import find_condition
from mcpproxy.status.inputs import StatusInput
from tests.status.views import a_pod, a_report, a_view, condition, observed, status_of, verdict
from tests.support.builders import an_mcpproxy

TYPE = "AuthenticationReady"
URL, PUBLIC = "https://login.example.com", "https://mcp.example.com/tools"
WANTED: dict[str, Any] = {"publicUrl": PUBLIC, "authentication": {"jwt": [{"issuer": URL}]}}
GOOD = IssuerStatus(issuer=URL, keys=2)
STALE = IssuerStatus(
    issuer=URL, keys=2, message="no connection", keys_from="2026-01-01T00:00:00+00:00"
)
DOWN = IssuerStatus(issuer=URL, keys=0, message="no connection")
NEW = IssuerStatus(issuer=URL, keys=0)


def seen(*states: IssuerStatus | None, **fields: Any) -> StatusInput:
    """A proxy with authentication, and a pod for each state of its issuer; None: an older pod."""
    reports = [
        a_report(a_view(), authentication=None if state is None else [state]) for state in states
    ]
    pods = [a_pod(f"tools-{number}", report=report) for number, report in enumerate(reports)]
    return observed(*pods, spec=an_mcpproxy(**WANTED).spec, **fields)


def test_without_authentication_there_is_no_condition() -> None:
    assert find_condition(status_of(observed(a_pod())), TYPE) is None


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ((GOOD,), ("True", "KeysKnown")),
        ((GOOD, GOOD), ("True", "KeysKnown")),
        ((STALE,), ("False", "KeysNotRead")),
        ((GOOD, STALE), ("False", "KeysNotRead")),
        ((DOWN,), ("False", "KeysUnavailable")),
        ((STALE, DOWN), ("False", "KeysUnavailable")),
        ((NEW,), ("Unknown", "KeysUnknown")),
        ((None,), ("Unknown", "NotReported")),
        ((), ("Unknown", "NotReported")),
    ],
)
def test_the_worst_pod_decides(
    states: tuple[IssuerStatus | None, ...], expected: tuple[str, str]
) -> None:
    assert verdict(status_of(seen(*states)), TYPE) == expected


def test_the_message_names_the_issuer_the_cause_and_the_age_of_the_keys() -> None:
    assert condition(status_of(seen(GOOD)), TYPE).message == f"keys are known of {URL} (2)"
    stale = condition(status_of(seen(STALE)), TYPE).message
    assert stale == (
        f"{URL}: no connection; keys of 2026-01-01T00:00:00+00:00 are used for up to a day"
    )
    some = condition(status_of(seen(GOOD, DOWN, GOOD)), TYPE).message
    assert some == f"1 of 3 pods: {URL}: no connection"


def test_the_condition_reports_keys_that_the_operator_cannot_read() -> None:
    status = status_of(seen(GOOD, token_keys_problem="the operator must not read the keys"))
    assert verdict(status, TYPE) == ("False", "KeysNotRead")
    assert condition(status, TYPE).message == "the operator must not read the keys"


def test_the_condition_is_unknown_without_a_report_of_each_pod() -> None:
    report = a_report(a_view(), authentication=[GOOD])
    pods = [a_pod("tools-0", report=report), a_pod("tools-1")]
    status = status_of(observed(*pods, spec=an_mcpproxy(**WANTED).spec))
    assert verdict(status, TYPE) == ("Unknown", "NotReported")


def test_the_url_of_the_status_is_the_public_one() -> None:
    assert status_of(seen(GOOD)).url == PUBLIC
