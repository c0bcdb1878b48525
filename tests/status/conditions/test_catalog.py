"""CatalogDrift: the condition and its Events, from what pods report."""

from typing import Any

import pytest

from mcpproxy.api.catalog_digests import approved_hash
from mcpproxy.api.v1alpha1.status import CatalogDrift, DriftedComponents
from mcpproxy.status.compute import find_condition
from mcpproxy.status.events import find_transitions
from mcpproxy.status.inputs import StatusInput
from tests.status.views import a_pod, a_report, a_view, condition, observed, status_of, verdict
from tests.support.builders import an_mcpproxy

TOOLS = {"tools": {"weather_now": "a" * 64}}
HASH = approved_hash(TOOLS)
OTHER = "b" * 64
NEW = CatalogDrift(new=DriftedComponents(count=2, names=["tools: weather_a", "tools: weather_b"]))


def seen(*hashes: str | None, drift: CatalogDrift | None = None, **catalog: Any) -> StatusInput:
    """A proxy with this catalog approved and a pod for each hash; the first reports the drift."""
    reports = [
        a_report(a_view(), catalog=result, drift=drift if not number else None)
        for number, result in enumerate(hashes)
    ]
    pods = [a_pod(f"tools-{number}", report=report) for number, report in enumerate(reports)]
    return observed(*pods, spec=an_mcpproxy(catalog=catalog).spec)


def told(before: StatusInput, after: StatusInput) -> list[tuple[str, str]]:
    """Type and reason of each Event."""
    transitions = find_transitions(status_of(before), status_of(after))
    return [(item.type, item.reason) for item in transitions]


def test_without_an_approved_catalog_there_is_no_condition() -> None:
    assert find_condition(status_of(seen(HASH)), "CatalogDrift") is None


@pytest.mark.parametrize("catalog", [{"approvedHash": HASH}, {"approved": TOOLS}])
def test_an_approved_catalog_is_not_a_drift_and_another_one_is(catalog: dict[str, Any]) -> None:
    same, other = status_of(seen(HASH, **catalog)), status_of(seen(OTHER, **catalog))
    assert verdict(same, "CatalogDrift") == ("False", "CatalogApproved")
    assert verdict(other, "CatalogDrift") == ("True", "CatalogDiffers")


def test_drift_from_an_approved_hash_shows_both_hashes() -> None:
    message = condition(status_of(seen(OTHER, approvedHash=HASH)), "CatalogDrift").message
    assert HASH in message
    assert OTHER in message
    assert "spec.catalog.approved " in message


def test_drift_names_the_components_and_their_handling() -> None:
    served = condition(status_of(seen(OTHER, drift=NEW, approved=TOOLS)), "CatalogDrift").message
    assert "2 new: tools: weather_a, tools: weather_b" in served
    assert "are served" in served
    withheld = seen(OTHER, drift=NEW, approved=TOOLS, onDrift="Withhold")
    assert "are withheld" in condition(status_of(withheld), "CatalogDrift").message


def test_a_new_tool_is_a_drift_while_another_backend_is_not_known() -> None:
    status = status_of(seen(None, drift=NEW, approved=TOOLS))
    assert verdict(status, "CatalogDrift") == ("True", "CatalogDiffers")


def test_drift_is_unknown_without_a_report_or_with_an_unknown_backend() -> None:
    assert verdict(status_of(seen(approvedHash=HASH)), "CatalogDrift") == (
        "Unknown",
        "NotReported",
    )
    assert verdict(status_of(seen(HASH, None, approvedHash=HASH)), "CatalogDrift") == (
        "Unknown",
        "CatalogUnknown",
    )


def test_one_pod_that_sees_another_catalog_is_a_drift_with_the_numbers() -> None:
    status = status_of(seen(OTHER, HASH, HASH, drift=NEW, approved=TOOLS))
    result = condition(status, "CatalogDrift")
    assert (result.status, result.message[:12]) == ("True", "1 of 3 pods:")
    assert status.catalog_hash is None


def test_a_drift_does_not_change_ready() -> None:
    status = status_of(seen(OTHER, drift=NEW, approved=TOOLS, onDrift="Withhold"))
    assert verdict(status, "Ready") == ("True", "Serving")
    assert find_condition(status, "Stalled") is None


def test_a_drift_is_reported_once_when_it_begins_and_when_it_ends() -> None:
    good, bad, unknown = (seen(item, approvedHash=HASH) for item in (HASH, OTHER, None))
    assert told(good, bad) == [("Warning", "CatalogDiffers")]
    assert told(bad, seen("c" * 64, approvedHash=HASH)) == []
    assert told(bad, good) == [("Normal", "CatalogApproved")]
    assert told(good, unknown) == told(unknown, good) == []
