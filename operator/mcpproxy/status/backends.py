"""Aggregation of the backends in the reports of all pods."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from pydantic.alias_generators import to_camel

from mcpproxy.api.v1alpha1.status import BackendStatus, ComponentCounts, PodReport
from mcpproxy.report_aggregation import Reporters, aggregate_backend, common_value
from mcpproxy.status import reasons
from mcpproxy.status.disagreement import views_of

_VOICES: Final = Reporters("pods", reasons.PODS_DISAGREE, reasons.PODS_DIFFER)


def merge_backends(
    names: Iterable[str],
    reports: Sequence[PodReport],
    held: Mapping[str, BackendStatus] | None = None,
) -> list[BackendStatus]:
    """Return each backend by name; pods that do not know its state yet are ignored.

    `held` has the previous values of backends whose disagreements are debounced.
    """
    return [_merge_one(name, reports, (held or {}).get(name)) for name in sorted(names)]


def total_counts(backends: Iterable[BackendStatus]) -> ComponentCounts | None:
    """Return the sums of the known counts; None if none is known."""
    known = [backend.components for backend in backends if backend.components is not None]
    if not known:
        return None

    def total(pick: Callable[[ComponentCounts], int | None]) -> int | None:
        numbers = [count for count in map(pick, known) if count is not None]
        return sum(numbers) if numbers else None

    return ComponentCounts(
        tools=total(lambda counts: counts.tools),
        prompts=total(lambda counts: counts.prompts),
        resources=total(lambda counts: counts.resources),
        resource_templates=total(lambda counts: counts.resource_templates),
    )


def count_components(backends: Sequence[BackendStatus]) -> str | None:
    """Return the number of backends with complete counts, as in `2/3`; None without any count."""
    if total_counts(backends) is None:
        return None
    return f"{sum(map(_is_counted, backends))}/{len(backends)}"


def _is_counted(backend: BackendStatus) -> bool:
    if backend.components is None:
        return False
    kinds = {to_camel(field) for field in ComponentCounts.model_fields}
    return kinds == {*backend.components.to_manifest(), *(backend.not_offered or ())}


def catalog_hash(reports: Sequence[PodReport]) -> str | None:
    """Return the hash of the catalog; None if pods differ or one does not know it."""
    return common_value([report.catalog_hash for report in reports])


def _merge_one(
    name: str, reports: Sequence[PodReport], held: BackendStatus | None
) -> BackendStatus:
    known = views_of(name, reports)
    if not known:
        views = [view for report in reports for view in report.backends if view.name == name]
        return BackendStatus(
            name=name,
            state="Unknown",
            reason=(views[0].reason if views else None) or reasons.NOT_REPORTED,
            message=(views[0].message if views else None) or "no ready pod has reported on it",
        )
    return aggregate_backend(name, known, _VOICES, held)
