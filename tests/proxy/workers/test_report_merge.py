"""One report for all workers."""

from typing import Any

from mcpproxy.api.v1alpha1.status import BackendStatus, CatalogDrift, DriftedComponents, PodReport
from mcpproxy.proxy.workers.report_merge import WORKER_REPORTERS, merge_reports


def _view(state: str, **more: Any) -> BackendStatus:
    return BackendStatus.model_validate({"name": "a", "state": state, **more})


def _report(*views: BackendStatus, catalog: str | None = None, **more: Any) -> PodReport:
    value = {"config_hash": "c", "version": "1", "backends": list(views), "catalog_hash": catalog}
    return PodReport.model_validate({**value, "clashes": [], **more})


BLANK = _report(_view("Unknown", reason="NotTried", message="nobody has"))
HEALTHY = _view("Healthy", protocolVersion="2025-11-25", components={"tools": 3})


def test_before_any_worker_has_reported_every_backend_is_unknown() -> None:
    assert merge_reports(BLANK, []) == BLANK


def test_workers_that_agree_are_shown_as_one() -> None:
    report = _report(HEALTHY, catalog="h", clashes=["x"])
    assert merge_reports(BLANK, [report, report]) == report


def test_a_worker_with_an_unknown_state_does_not_count() -> None:
    unknown = _report(_view("Unknown"))
    assert merge_reports(BLANK, [unknown, _report(HEALTHY)]).backends == [HEALTHY]


def test_a_backend_reachable_for_some_workers_is_degraded_with_their_number_and_the_reason() -> (
    None
):
    gone = _view("Unhealthy", reason="Unreachable", message="connection refused")
    (backend,) = merge_reports(BLANK, [_report(HEALTHY), _report(gone)]).backends
    assert (backend.state, backend.reason) == ("Degraded", WORKER_REPORTERS.disagree)
    assert backend.message == "1 of 2 workers: connection refused"
    assert backend.components == HEALTHY.components


def test_a_backend_unreachable_for_most_workers_has_failed_and_has_no_counts() -> None:
    views = [HEALTHY, _view("Unauthorized", message="no"), _view("Unhealthy", message="gone")]
    (backend,) = merge_reports(BLANK, [_report(view) for view in views]).backends
    assert backend.state == "Unhealthy"
    assert backend.message == "1 of 3 workers: gone; 1 of 3 workers: no"
    assert backend.components is None


def test_counts_and_the_catalogs_hash_are_absent_while_workers_differ() -> None:
    more = _view("Healthy", protocolVersion="2025-11-25", components={"tools": 4})
    reports = [_report(HEALTHY, catalog="h", clashes=["y"]), _report(more, catalog="i")]
    result = merge_reports(BLANK, [*reports, _report(HEALTHY, clashes=["x", "y"])])
    assert (result.backends[0].state, result.backends[0].components) == ("Healthy", None)
    assert result.backends[0].protocol_version == "2025-11-25"
    assert result.catalog_hash is None
    assert result.clashes == ["x", "y"]


def test_a_component_that_one_worker_alone_sees_is_a_drift() -> None:
    def drifting(*names: str) -> CatalogDrift:
        return CatalogDrift(new=DriftedComponents(count=len(names), names=list(names)))

    reports = [
        _report(HEALTHY).model_copy(update={"drift": drift})
        for drift in (drifting("tools: a"), CatalogDrift(), drifting("tools: b"))
    ]
    result = merge_reports(BLANK, reports).drift
    assert result is not None
    assert result.new == DriftedComponents(count=2, names=["tools: a", "tools: b"])
    assert merge_reports(BLANK, [_report(HEALTHY)]).drift is None
