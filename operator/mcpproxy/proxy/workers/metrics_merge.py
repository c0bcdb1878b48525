"""Metrics of all workers, added up; no counter ever goes down.

What a worker has counted is kept when it ends, as far as it was seen: what it counted between the
last look and a sudden end is lost.
"""

from collections.abc import Iterable, Iterator

import msgspec
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

_ACCUMULATING = ("counter", "histogram", "summary")
_Key = tuple[str, tuple[tuple[str, str], ...]]


class MetricFamily(msgspec.Struct, frozen=True):
    """One metric with its samples, as workers tell it."""

    name: str
    documentation: str
    type: str
    samples: list[tuple[str, dict[str, str], float]]


def encode_families(metrics: Iterable[Metric]) -> list[MetricFamily]:
    """The metrics of a registry."""
    return [
        MetricFamily(
            m.name, m.documentation, m.type, [(s.name, s.labels, s.value) for s in m.samples]
        )
        for m in metrics
    ]


class MetricTotals(Collector):
    """A collector for a registry of the parent."""

    def __init__(self) -> None:
        self._lives: dict[str, list[MetricFamily]] = {}
        self._past: list[MetricFamily] = []

    def take(self, life: str, families: list[MetricFamily]) -> None:
        """What a worker says now; `life` names it from its start to its end."""
        self._lives[life] = families

    def retire(self, life: str) -> None:
        """The worker has ended: what it has counted stays."""
        ended = self._lives.pop(life, [])
        counted = [family for family in ended if family.type in _ACCUMULATING]
        self._past = _added([*self._past, *counted])

    def collect(self) -> Iterator[Metric]:
        living = (family for families in self._lives.values() for family in families)
        for family in _added([*self._past, *living]):
            metric = Metric(family.name, family.documentation, family.type)
            for name, labels, value in family.samples:
                metric.add_sample(name, labels, value)
            yield metric


def _added(families: Iterable[MetricFamily]) -> list[MetricFamily]:
    first: dict[str, MetricFamily] = {}
    sums: dict[str, dict[_Key, float]] = {}
    for family in families:
        first.setdefault(family.name, family)
        found = sums.setdefault(family.name, {})
        for name, labels, value in family.samples:
            key = name, tuple(sorted(labels.items()))
            if key not in found:
                found[key] = value
            elif name.endswith("_created"):
                found[key] = min(found[key], value)
            else:
                found[key] += value
    return [
        MetricFamily(
            name,
            family.documentation,
            family.type,
            [(sample, dict(labels), value) for (sample, labels), value in sums[name].items()],
        )
        for name, family in first.items()
    ]
