"""Counts of calls and of the time that they took; counting is far cheaper than with labels.

One thread counts, so nothing is locked.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate

from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

Read = Callable[[], Iterable[tuple[Sequence[str], int]]]


class LabelledCounter(Collector):
    """A counter with labels, whose numbers are kept by whoever counts."""

    def __init__(self, name: str, documentation: str, labels: Sequence[str], read: Read) -> None:
        """`name` is without `_total`; `read` gives the values of the labels, and counts."""
        self._about = name, documentation, labels
        self._read = read

    def collect(self) -> Iterator[Metric]:
        name, documentation, labels = self._about
        found = CounterMetricFamily(name, documentation, labels=labels)
        for values, count in self._read():
            found.add_metric(values, count)
        yield found


class Histogram:
    """How many calls took how long."""

    __slots__ = ("counts", "seconds")

    def __init__(self, buckets: int) -> None:
        self.counts = [0] * (buckets + 1)
        """By the bucket, the last one without a bound."""
        self.seconds = 0.0


class CallSeries:
    """Calls of one backend, method and outcome."""

    __slots__ = ("count", "durations")

    def __init__(self, durations: Histogram) -> None:
        self.count = 0
        self.durations = durations


class CallMetrics(Collector):
    """Calls by backend, method and outcome."""

    def __init__(self, bounds: Sequence[float]) -> None:
        """`bounds` are the upper bounds of the buckets, in seconds and in order."""
        self._bounds = tuple(bounds)
        self._entries: dict[tuple[str, str, str], CallSeries] = {}
        self._durations: dict[tuple[str, str], Histogram] = {}

    def add(self, backend: str, method: str, outcome: str, seconds: float) -> None:
        """A call has ended after so many seconds."""
        entry = self._entries.get((backend, method, outcome))
        if entry is None:
            durations = self._durations.get((backend, method))
            if durations is None:
                durations = Histogram(len(self._bounds))
                self._durations[backend, method] = durations
            entry = self._entries[backend, method, outcome] = CallSeries(durations)
        entry.count += 1
        durations = entry.durations
        durations.counts[bisect_left(self._bounds, seconds)] += 1
        durations.seconds += seconds

    def collect(self) -> Iterator[Metric]:
        calls = CounterMetricFamily(
            "mcpproxy_calls",
            "Requests sent to backends, by how they ended",
            labels=["backend", "method", "outcome"],
        )
        for labels, entry in self._entries.items():
            calls.add_metric(labels, entry.count)
        yield calls
        seconds = HistogramMetricFamily(
            "mcpproxy_call_duration_seconds",
            "Time from a request to its answer",
            labels=["backend", "method"],
        )
        ends = [*map(floatToGoString, self._bounds), "+Inf"]
        for about, durations in self._durations.items():
            buckets = list(zip(ends, accumulate(durations.counts), strict=True))
            seconds.add_metric(about, buckets, durations.seconds)
        yield seconds
