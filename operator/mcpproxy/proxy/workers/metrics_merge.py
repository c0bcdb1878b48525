"""Sum of the metrics of all workers, in which counters never decrease.

The last known counts of a worker are kept when it exits. Counts between the last query and a crash
are lost.
"""

from collections.abc import Iterable, Iterator

import msgspec
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

_ACCUMULATING = ("counter", "histogram", "summary")
_Key = tuple[str, tuple[tuple[str, str], ...]]


class MetricFamily(msgspec.Struct, frozen=True):
    """One metric with its samples, in the form that workers send."""

    name: str
    documentation: str
    type: str
    samples: list[tuple[str, dict[str, str], float]]


def encode_families(metrics: Iterable[Metric]) -> list[MetricFamily]:
    """Convert the metrics of a registry to the form that workers send."""
    return [
        MetricFamily(
            m.name, m.documentation, m.type, [(s.name, s.labels, s.value) for s in m.samples]
        )
        for m in metrics
    ]


class MetricTotals(Collector):
    """Collector for the registry of the supervisor."""

    def __init__(self) -> None:
        self._current: dict[str, list[MetricFamily]] = {}
        self._past: list[MetricFamily] = []

    def update(self, generation: str, families: list[MetricFamily]) -> None:
        """Replace the metrics of a running worker; `generation` identifies its process."""
        self._current[generation] = families

    def retire_worker(self, generation: str) -> None:
        """Keep the counts of a worker that exited."""
        ended = self._current.pop(generation, [])
        counted = [family for family in ended if family.type in _ACCUMULATING]
        self._past = _sum_families([*self._past, *counted])

    def collect(self) -> Iterator[Metric]:
        living = (family for families in self._current.values() for family in families)
        for family in _sum_families([*self._past, *living]):
            metric = Metric(family.name, family.documentation, family.type)
            for name, labels, value in family.samples:
                metric.add_sample(name, labels, value)
            yield metric


def _sum_families(families: Iterable[MetricFamily]) -> list[MetricFamily]:
    first: dict[str, MetricFamily] = {}
    sums: dict[str, dict[_Key, float]] = {}
    for family in families:
        first.setdefault(family.name, family)
        sums_of_family = sums.setdefault(family.name, {})
        for name, labels, value in family.samples:
            key = name, tuple(sorted(labels.items()))
            if key not in sums_of_family:
                sums_of_family[key] = value
            elif name.endswith("_created"):
                sums_of_family[key] = min(sums_of_family[key], value)
            else:
                sums_of_family[key] += value
    return [
        MetricFamily(
            name,
            family.documentation,
            family.type,
            [(sample, dict(labels), value) for (sample, labels), value in sums[name].items()],
        )
        for name, family in first.items()
    ]
