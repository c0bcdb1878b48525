"""Disagreements of pods: different facts about a backend, different catalogs, missing reports.

A change of a list reaches the pods at different moments, and a new pod may be ready before its
first report arrives. Disagreements are therefore reported only after a debounce period; until then
the status keeps its previous values.
"""

from collections.abc import Sequence
from typing import Final

from mcpproxy.api.v1alpha1.status import BackendStatus, MCPProxyStatus, PodReport
from mcpproxy.report_aggregation import describe_differences, is_serving
from mcpproxy.status import reasons
from mcpproxy.status.inputs import StatusInput

PODS: Final = "pods"
"""Reports of some serving pods are missing."""
CATALOG: Final = "catalog"
"""Pods offer different catalogs."""


def find_disagreements(observed: StatusInput) -> frozenset[str]:
    """Return the disagreements of the pods: PODS, CATALOG and the keys of backends."""
    reports = observed.reports
    keys = set()
    if 0 < len(reports) < len(observed.serving):
        keys.add(PODS)
    if catalogs_differ(reports):
        keys.add(CATALOG)
    for name in {view.name for report in reports for view in report.backends}:
        if describe_differences([view for view in views_of(name, reports) if is_serving(view)]):
            keys.add(backend_key(name))
    return frozenset(keys)


def reported_disagreements(status: MCPProxyStatus | None) -> frozenset[str]:
    """Return the disagreements that are the reasons of a stored status.

    An operator that takes over resumes with these. A disagreement that has a worse reason beside
    it is not among them, and is debounced once more.
    """
    if status is None:
        return frozenset()
    differing = {
        backend_key(backend.name)
        for backend in status.backends or []
        if backend.reason == reasons.PODS_DIFFER
    }
    overall = {
        condition.reason
        for condition in status.conditions or []
        if condition.type == reasons.BACKENDS_HEALTHY
    }
    if reasons.PODS_NOT_REPORTING in overall:
        return frozenset({*differing, PODS})
    if reasons.PODS_DIFFER in overall and not differing:
        return frozenset({CATALOG})
    return frozenset(differing)


def backend_key(name: str) -> str:
    """Return the key of a disagreement about one backend."""
    return f"backend/{name}"


def views_of(name: str, reports: Sequence[PodReport]) -> list[BackendStatus]:
    """Return the views of one backend in reports, except those whose state is unknown."""
    views = (view for report in reports for view in report.backends if view.name == name)
    return [view for view in views if view.state != "Unknown"]


def catalogs_differ(reports: Sequence[PodReport]) -> bool:
    """Return True if two pods offer different catalogs."""
    return len({report.catalog_hash for report in reports} - {None}) > 1


def missing_reports(observed: StatusInput) -> int:
    """Return the number of serving pods without a report; 0 while that is debounced."""
    if not observed.reports or PODS in observed.debounced:
        return 0
    return len(observed.serving) - len(observed.reports)


def unread_pods(observed: StatusInput) -> str | None:
    """Return the error of the first serving pod, by name, whose report can't be read."""
    if PODS in observed.debounced:
        return None
    pods = sorted((pod for pod in observed.serving if not pod.report), key=lambda pod: pod.name)
    pod = next((pod for pod in pods if pod.unread), None)
    return None if pod is None else f"cannot read the report of pod {pod.name}: {pod.unread}"


def disagreement_notes(observed: StatusInput) -> list[str]:
    """Return the notes that follow a message about all backends."""
    notes = []
    if missing_reports(observed):
        notes.append(f"reported by {len(observed.reports)} of {len(observed.serving)} pods")
    error = unread_pods(observed)
    if error is not None:
        notes.append(error)
    if CATALOG not in observed.debounced and catalogs_differ(observed.reports):
        notes.append("the pods have different catalogs, so catalogHash is not set")
    return notes
