"""Counters and durations of calls, which are much faster than the client library's labels.

One thread counts, so there are no locks.
"""

from bisect import bisect_left
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from itertools import accumulate

from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

Read = Callable[[], Iterable[tuple[Sequence[str], int]]]


class LabelledCounter(Collector):
    """Counter with labels whose values are stored elsewhere."""

    def __init__(self, name: str, documentation: str, labels: Sequence[str], read: Read) -> None:
        """Create a counter. `name` omits `_total`; `read` returns the label values and counts."""
        self._description = name, documentation, labels
        self._read = read

    def collect(self) -> Iterator[Metric]:
        name, documentation, labels = self._description
        family = CounterMetricFamily(name, documentation, labels=labels)
        for values, count in self._read():
            family.add_metric(values, count)
        yield family


class Histogram:
    """Histogram of the durations of calls."""

    __slots__ = ("counts", "seconds")

    def __init__(self, buckets: int) -> None:
        self.counts = [0] * (buckets + 1)
        """Number of calls by bucket; the last bucket is unbounded."""
        self.seconds = 0.0


class CallSeries:
    """Calls of one backend, method and outcome."""

    __slots__ = ("count", "durations")

    def __init__(self, durations: Histogram) -> None:
        self.count = 0
        self.durations = durations


class CallMetrics(Collector):
    """Calls by backend, method and outcome."""

    def __init__(self, bounds: Sequence[float], methods: Container[str]) -> None:
        """Create empty metrics.

        `bounds` are the ascending upper bounds of the buckets, in seconds. Methods that are not in
        `methods` are counted as "other", because clients choose method names.
        """
        self._methods = methods
        self._bounds = tuple(bounds)
        self._entries: dict[tuple[str, str, str], CallSeries] = {}
        self._durations: dict[tuple[str, str], Histogram] = {}

    def add(self, backend: str, method: str, outcome: str, seconds: float) -> None:
        """Record a call that took this many seconds."""
        if method not in self._methods:
            method = "other"
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
            "Requests sent to backends, by outcome",
            labels=["backend", "method", "outcome"],
        )
        for labels, entry in self._entries.items():
            calls.add_metric(labels, entry.count)
        yield calls
        seconds = HistogramMetricFamily(
            "mcpproxy_call_duration_seconds",
            "Time from the request to its response",
            labels=["backend", "method"],
        )
        ends = [*map(floatToGoString, self._bounds), "+Inf"]
        for series_labels, durations in self._durations.items():
            buckets = list(zip(ends, accumulate(durations.counts), strict=True))
            seconds.add_metric(series_labels, buckets, durations.seconds)
        yield seconds
