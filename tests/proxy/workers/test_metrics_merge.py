"""Metrics of all workers, added up."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from mcpproxy.proxy.workers.metrics_merge import MetricFamily, MetricTotals, encode_families


def _worker(calls: int, open_now: int, *seconds: float) -> list[MetricFamily]:
    registry = CollectorRegistry()
    counter = Counter("calls", "Calls", ["backend"], registry=registry)
    counter.labels("a").inc(calls)
    if calls > 5:
        counter.labels("busy").inc()
    Gauge("open", "Open", registry=registry).set(open_now)
    histogram = Histogram("took", "Took", buckets=(0.1, 1), registry=registry)
    for value in seconds:
        histogram.observe(value)
    return encode_families(registry.collect())


def _values(totals: MetricTotals) -> dict[str, float]:
    registry = CollectorRegistry()
    registry.register(totals)
    text = generate_latest(registry).decode()
    return {
        f"{sample.name}{sorted(sample.labels.values())}": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_counters_histograms_and_gauges_are_added_up() -> None:
    totals = MetricTotals()
    totals.update("0.1", _worker(3, 2, 0.05, 0.5))
    totals.update("1.1", _worker(7, 1, 0.5))
    result = _values(totals)
    assert result["calls_total['a']"] == 10
    assert result["calls_total['busy']"] == 1
    assert result["open[]"] == 3
    assert result["took_bucket['0.1']"] == 1
    assert (
        result["took_bucket['1.0']"] == result["took_bucket['+Inf']"] == result["took_count[]"] == 3
    )
    assert result["took_sum[]"] == 0.05 + 0.5 + 0.5


def test_a_newer_report_of_a_worker_replaces_its_previous_one() -> None:
    totals = MetricTotals()
    totals.update("0.1", _worker(3, 2))
    totals.update("0.1", _worker(4, 0))
    assert _values(totals)["calls_total['a']"] == 4
    assert _values(totals)["open[]"] == 0


def test_counters_outlive_a_worker_and_gauges_do_not() -> None:
    totals = MetricTotals()
    totals.update("0.1", _worker(3, 2, 0.5))
    totals.update("1.1", _worker(1, 1))
    for life in ("0.1", "never seen"):
        totals.retire_worker(life)
    assert _values(totals)["calls_total['a']"] == 4
    assert _values(totals)["open[]"] == 1
    totals.update("0.2", _worker(2, 0, 0.5))
    totals.retire_worker("0.2")
    result = _values(totals)
    assert (result["calls_total['a']"], result["took_count[]"], result["open[]"]) == (6, 2, 1)


def test_the_time_since_when_is_counted_is_that_of_the_oldest_worker() -> None:
    totals = MetricTotals()
    made = [_worker(1, 0), _worker(1, 0)]
    totals.update("0.1", made[1])
    totals.update("1.1", made[0])
    (oldest,) = [value for name, labels, value in made[0][0].samples if name == "calls_created"]
    assert _values(totals)["calls_created['a']"] == oldest
