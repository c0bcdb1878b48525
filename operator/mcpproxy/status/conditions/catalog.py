"""Pure check: is the catalog that the pods see the approved one?"""

from collections.abc import Sequence

from mcpproxy.api.v1alpha1.catalog import CatalogSpec
from mcpproxy.api.v1alpha1.status import CatalogDrift, DriftedComponents, PodReport
from mcpproxy.report_aggregation import merge_drift
from mcpproxy.status import reasons
from mcpproxy.status.conditions.condition import ConditionValue
from mcpproxy.status.disagreement import missing_reports
from mcpproxy.status.inputs import StatusInput


def check_catalog_drift(
    observed: StatusInput, reports: Sequence[PodReport]
) -> ConditionValue | None:
    """True as soon as one pod sees a difference; absent where nothing was approved."""
    spec = observed.spec.catalog if observed.spec else None
    expected = spec.expected if spec else None
    if spec is None or expected is None:
        return None
    if not reports:
        return ConditionValue(
            "Unknown", reasons.NOT_REPORTED, "no ready pod has reported on its catalog"
        )
    differing = [report for report in reports if _differs(report, expected)]
    if differing:
        seen = len(differing), len(reports)
        who = "" if seen[0] == seen[1] else f"{seen[0]} of {seen[1]} pods: "
        return ConditionValue(
            "True", reasons.CATALOG_DIFFERS, who + _message(spec, expected, differing)
        )
    if any(report.catalog_hash is None for report in reports):
        message = "not all backends are known, so neither is the whole catalog"
        return ConditionValue("Unknown", reasons.CATALOG_UNKNOWN, message)
    if missing_reports(observed):
        message = f"{missing_reports(observed)} of {len(observed.serving)} pods were not heard"
        return ConditionValue("Unknown", reasons.NOT_REPORTED, message)
    return ConditionValue("False", reasons.CATALOG_APPROVED, "the catalog is the approved one")


def _differs(report: PodReport, expected: str) -> bool:
    drift = report.drift or CatalogDrift()
    return bool(drift.new or drift.changed or drift.gone) or report.catalog_hash not in (
        None,
        expected,
    )


def _message(spec: CatalogSpec, expected: str, differing: Sequence[PodReport]) -> str:
    drift = merge_drift([report.drift for report in differing])
    if drift is None:
        found = " and ".join(sorted({report.catalog_hash or "" for report in differing} - {""}))
        return (
            f"the hash of the catalog is {found}, not the approved {expected};"
            " spec.catalog.approved would tell which components differ"
        )
    sorts = {"new": drift.new, "changed": drift.changed, "gone": drift.gone}
    named = "; ".join(_named(sort, found) for sort, found in sorts.items() if found)
    if not (drift.new or drift.changed):
        return named
    if spec.on_drift == "Withhold":
        return f"{named}; what is new or changed is withheld until spec.catalog approves it"
    return f"{named}; it is served, as spec.catalog.onDrift is Report"


def _named(sort: str, found: DriftedComponents) -> str:
    more = found.count - len(found.names)
    rest = f" and {more} more" if more > 0 else ""
    return f"{found.count} {sort}: {', '.join(found.names)}{rest}"
