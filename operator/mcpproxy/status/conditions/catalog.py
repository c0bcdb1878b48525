"""Checks of CatalogDrift: pods offer another catalog than the approved one."""

from collections.abc import Sequence
from typing import Literal

from mcpproxy.api.v1alpha1.catalog import CatalogSpec
from mcpproxy.api.v1alpha1.status import CatalogDrift, DriftedComponents, PodReport
from mcpproxy.report_aggregation import merge_drift
from mcpproxy.status import reasons
from mcpproxy.status.conditions.condition import ABSENT, Absence, ConditionValue
from mcpproxy.status.disagreement import missing_reports
from mcpproxy.status.inputs import StatusInput


def no_catalog_is_approved(observed: StatusInput) -> Literal[Absence.ABSENT] | None:
    """Apply if the spec approves no catalog."""
    spec = _catalog(observed)
    return ABSENT if spec is None or spec.expected is None else None


def no_pod_has_reported(observed: StatusInput) -> ConditionValue | None:
    """Apply without any report."""
    if observed.reports:
        return None
    return ConditionValue(
        "Unknown", reasons.NOT_REPORTED, "no ready pod has reported on its catalog"
    )


def catalog_differs(observed: StatusInput) -> ConditionValue | None:
    """Apply as soon as one pod reports a difference."""
    spec = _catalog(observed)
    if spec is None or spec.expected is None:
        return None
    reports, expected = observed.reports, spec.expected
    differing = [report for report in reports if _differs(report, expected)]
    if not differing:
        return None
    all_differ = len(differing) == len(reports)
    who = "" if all_differ else f"{len(differing)} of {len(reports)} pods: "
    message = who + _describe_drift(spec, expected, differing)
    return ConditionValue("True", reasons.CATALOG_DIFFERS, message)


def catalog_is_unknown(observed: StatusInput) -> ConditionValue | None:
    """Apply if a pod does not know all backends yet."""
    if all(report.catalog_hash is not None for report in observed.reports):
        return None
    message = "the catalog is incomplete because some backends are unknown"
    return ConditionValue("Unknown", reasons.CATALOG_UNKNOWN, message)


def pods_do_not_report(observed: StatusInput) -> ConditionValue | None:
    """Apply if reports of serving pods are missing."""
    missing = missing_reports(observed)
    if not missing:
        return None
    message = f"no report from {missing} of {len(observed.serving)} pods"
    return ConditionValue("Unknown", reasons.NOT_REPORTED, message)


def catalog_is_approved(observed: StatusInput) -> ConditionValue | None:
    """Apply in all other cases."""
    return ConditionValue("False", reasons.CATALOG_APPROVED, "the catalog is approved")


def _catalog(observed: StatusInput) -> CatalogSpec | None:
    return observed.spec.catalog if observed.spec else None


def _differs(report: PodReport, expected: str) -> bool:
    drift = report.drift or CatalogDrift()
    return bool(drift.new or drift.changed or drift.gone) or report.catalog_hash not in (
        None,
        expected,
    )


def _describe_drift(spec: CatalogSpec, expected: str, differing: Sequence[PodReport]) -> str:
    drift = merge_drift([report.drift for report in differing])
    if drift is None:
        hashes = " and ".join(sorted({report.catalog_hash or "" for report in differing} - {""}))
        return (
            f"the catalog has the hash {hashes} instead of the approved {expected}; set"
            " spec.catalog.approved to see which components differ"
        )
    sorts = {"new": drift.new, "changed": drift.changed, "gone": drift.gone}
    listed = "; ".join(_list(sort, components) for sort, components in sorts.items() if components)
    if not (drift.new or drift.changed):
        return listed
    if spec.on_drift == "Withhold":
        return f"{listed}; new and changed components are withheld until spec.catalog approves them"
    return f"{listed}; the components are served because spec.catalog.onDrift is Report"


def _list(sort: str, components: DriftedComponents) -> str:
    more = components.count - len(components.names)
    rest = f" and {more} more" if more > 0 else ""
    return f"{components.count} {sort}: {', '.join(components.names)}{rest}"
