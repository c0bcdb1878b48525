"""The reports of all workers, made one."""

from collections.abc import Sequence
from typing import Final

from mcpproxy.api.v1alpha1.status import BackendStatus, PodReport
from mcpproxy.report_aggregation import Reporters, aggregate_backend, common_value, merge_drift

VOICES: Final = Reporters("workers", "WorkersDisagree", "WorkersDiffer")


def merge_reports(blank: PodReport, reports: Sequence[PodReport]) -> PodReport:
    """One report for all; `blank` says what there is before any worker has reported.

    Workers that don't know a backend yet have no say in its state, which is what most of the others
    see; counts and the catalog's hash are shown where all agree on them.
    """
    return blank.model_copy(
        update={
            "backends": [_state(unknown, reports) for unknown in blank.backends],
            "catalog_hash": common_value([report.catalog_hash for report in reports]),
            "drift": merge_drift([report.drift for report in reports]),
            "clashes": sorted({clash for report in reports for clash in report.clashes}),
        }
    )


def _state(unknown: BackendStatus, reports: Sequence[PodReport]) -> BackendStatus:
    views = [view for report in reports for view in report.backends if view.name == unknown.name]
    known = [view for view in views if view.state != "Unknown"]
    if not known:
        return views[0] if views else unknown
    return aggregate_backend(unknown.name, known, VOICES)
