"""One word says how a proxy does."""

from typing import Any

import pytest

from mcpproxy.status import reasons
from mcpproxy.status.inputs import ConditionReason, StatusInput
from tests.status.views import a_deployment, a_pod, a_view, observed, status_of
from tests.support.builders import a_backend, an_mcpproxy

SERVES = a_pod("tools-1", a_view())
LOOP = ConditionReason(reasons.CRASH_LOOP, "container mcpproxy keeps crashing")
CRASHING = a_pod("tools-1", ready=False, problem=LOOP)

OLDER = a_pod("tools-0", a_view(), superseded=True)


@pytest.mark.parametrize(
    ("seen", "word"),
    [
        (observed(SERVES), "Serving"),
        (observed(a_pod("tools-1", a_view(state="RateLimited"))), "Degraded"),
        (observed(a_pod("tools-1", a_view(state="Unhealthy"))), "Failing"),
        (observed(SERVES, terminating=True), "Terminating"),
        (observed(SERVES, suspended=True), "Suspended"),
        (observed(deployment=a_deployment(0)), "Scaled to 0"),
        (observed(deployment=None), "Pending"),
        (observed(deployment=None, rejected="spec: wrong"), "Stalled"),
        (observed(a_pod("tools-1", a_view(), current=False), deployment=a_deployment(1, updated=0)),
         "Updating"),
        (observed(CRASHING, deployment=a_deployment(1, available=0, was_available=True)),
         "Stalled"),
        (observed(a_pod("tools-1")), "Pending"),
        (observed(OLDER, CRASHING, deployment=a_deployment(1, updated=0)), "Degraded"),
        (observed(OLDER, deployment=a_deployment(1, updated=0, paused=True)), "Paused"),
    ],
)  # fmt: skip
def test_the_summary_is_the_most_important_state(seen: StatusInput, word: str) -> None:
    assert status_of(seen).summary == word


@pytest.mark.parametrize(("ready", "shown"), [(0, "0/2"), (2, "2/2")])
def test_the_number_of_pods_is_shown_next_to_the_desired_number(ready: int, shown: str) -> None:
    deployment: Any = a_deployment(2, ready=ready)
    assert status_of(observed(deployment=deployment)).pods == shown


def test_the_failing_optional_backend_is_named_where_the_proxy_serves() -> None:
    views = (a_view("weather"), a_view("news", state="Unhealthy", message="refused"))
    proxy = an_mcpproxy(backends=[a_backend("weather"), a_backend("news", optional=True)])
    status = status_of(observed(a_pod("tools-1", *views), spec=proxy.spec))
    ready = next(condition for condition in status.conditions or [] if condition.type == "Ready")
    assert (ready.status, status.summary) == ("True", "Degraded")
    assert "news (optional) is Unhealthy: refused" in ready.message
