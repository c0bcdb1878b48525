"""Merge of the reports of all workers."""

from collections.abc import Sequence
from typing import Final

from mcpproxy.api.v1alpha1.status import BackendStatus, PodReport
from mcpproxy.report_aggregation import (
    Reporters,
    aggregate_backend,
    common_value,
    merge_authorization,
    merge_drift,
    merge_issuers,
    merge_limits,
)

WORKER_REPORTERS: Final = Reporters("workers", "WorkersDisagree", "WorkersDiffer")


def merge_reports(blank: PodReport, reports: Sequence[PodReport]) -> PodReport:
    """Merge reports; `blank` is the report before any worker has reported.

    Workers that have not tried a backend do not affect its state. Its state is that of most other
    workers. Counts and the catalog hash are present only if all workers agree.
    """
    return blank.model_copy(
        update={
            "backends": [_state(unknown, reports) for unknown in blank.backends],
            "catalog_hash": common_value([report.catalog_hash for report in reports]),
            "drift": merge_drift([report.drift for report in reports]),
            "authentication": merge_issuers([report.authentication for report in reports]),
            "authorization": merge_authorization([report.authorization for report in reports]),
            "limits": merge_limits([report.limits for report in reports]),
            "clashes": sorted({clash for report in reports for clash in report.clashes}),
        }
    )


def _state(unknown: BackendStatus, reports: Sequence[PodReport]) -> BackendStatus:
    views = [view for report in reports for view in report.backends if view.name == unknown.name]
    tried = [view for view in views if view.state != "Unknown"]
    if not tried:
        return views[0] if views else unknown
    return aggregate_backend(unknown.name, tried, WORKER_REPORTERS)
