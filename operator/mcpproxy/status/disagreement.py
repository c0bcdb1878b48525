"""Pure: what pods differ in, and which of them were not heard.

A list that changes reaches the pods at different moments, and a new pod may be ready before it is
heard: what is doubtful for a moment only is not told, and what was told before stays meanwhile.
"""

from collections.abc import Sequence
from typing import Final

from mcpproxy.api.v1alpha1.status import BackendStatus, MCPProxyStatus, PodReport
from mcpproxy.report_aggregation import DIFFER, describe_differences, is_serving
from mcpproxy.status import reasons
from mcpproxy.status.inputs import StatusInput

PODS: Final = "pods"
"""Some serving pods were not heard."""
CATALOG: Final = "catalog"
"""Pods offer different catalogs."""
_SEEN: Final = "seen by"
_CATALOGS: Final = "pods offer different catalogs, so there is no catalogHash"


def find_disagreements(observed: StatusInput) -> frozenset[str]:
    """What pods differ in: names of backends with `backend/` before them, PODS and CATALOG."""
    reports = observed.reports
    found = set()
    if 0 < len(reports) < len(observed.serving):
        found.add(PODS)
    if catalogs_differ(reports):
        found.add(CATALOG)
    for name in {view.name for report in reports for view in report.backends}:
        if describe_differences([view for view in views_of(name, reports) if is_serving(view)]):
            found.add(backend_key(name))
    return frozenset(found)


def reported_disagreements(status: MCPProxyStatus | None) -> frozenset[str]:
    """The doubts that a status speaks of."""
    if status is None:
        return frozenset()
    found = {
        backend_key(backend.name)
        for backend in status.backends or []
        if DIFFER in (backend.message or "")
    }
    for condition in status.conditions or []:
        if condition.type == reasons.BACKENDS_HEALTHY:
            found |= {PODS} if _SEEN in condition.message else set()
            found |= {CATALOG} if _CATALOGS in condition.message else set()
    return frozenset(found)


def backend_key(name: str) -> str:
    """The name of the doubt about one backend."""
    return f"backend/{name}"


def views_of(name: str, reports: Sequence[PodReport]) -> list[BackendStatus]:
    """What pods see of one backend, as far as they know it."""
    views = (view for report in reports for view in report.backends if view.name == name)
    return [view for view in views if view.state != "Unknown"]


def catalogs_differ(reports: Sequence[PodReport]) -> bool:
    """Whether two pods offer different catalogs."""
    return len({report.catalog_hash for report in reports} - {None}) > 1


def missing_reports(observed: StatusInput) -> int:
    """How many serving pods were not heard, as far as it is to be told."""
    if not observed.reports or PODS in observed.young:
        return 0
    return len(observed.serving) - len(observed.reports)


def unread_pods(observed: StatusInput) -> str | None:
    """Why the operator can't read a serving pod, the first by name; None where it can."""
    if PODS in observed.young:
        return None
    pods = sorted((pod for pod in observed.serving if not pod.report), key=lambda pod: pod.name)
    found = next((pod for pod in pods if pod.unread), None)
    return None if found is None else f"the operator can't read pod {found.name}: {found.unread}"


def disagreement_notes(observed: StatusInput) -> list[str]:
    """What is to be added to words on all backends."""
    found = []
    if missing_reports(observed):
        found.append(f"{_SEEN} {len(observed.reports)} of {len(observed.serving)} pods")
    cause = unread_pods(observed)
    if cause is not None:
        found.append(cause)
    if CATALOG not in observed.young and catalogs_differ(observed.reports):
        found.append(_CATALOGS)
    return found
