"""Counting calls gives the same text as the metrics library's own counters and histograms."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from mcpproxy.proxy.telemetry.call_metrics import CallMetrics

BOUNDS = (0.001, 0.01, 0.1, 1, 60)
calls = st.tuples(
    st.sampled_from(("a", "b")),
    st.sampled_from(("tools/call", "other")),
    st.sampled_from(("ok", "error")),
    st.one_of(st.sampled_from(BOUNDS), st.floats(0, 100)),
)


@given(st.lists(calls))
def test_counts_are_those_of_the_librarys_metrics(
    given_calls: list[tuple[str, str, str, float]],
) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    tally = CallMetrics(BOUNDS, ("tools/call",))
    ours.register(tally)
    counter = Counter(
        "mcpproxy_calls",
        "Requests sent to backends, by outcome",
        ["backend", "method", "outcome"],
        registry=theirs,
    )
    histogram = Histogram(
        "mcpproxy_call_duration_seconds",
        "Time from the request to its response",
        ["backend", "method"],
        buckets=BOUNDS,
        registry=theirs,
    )
    for backend, method, outcome, seconds in given_calls:
        tally.add(backend, method, outcome, seconds)
        counter.labels(backend, method, outcome).inc()
        histogram.labels(backend, method).observe(seconds)
    assert _lines(ours) == _lines(theirs)


def _lines(registry: CollectorRegistry) -> list[str]:
    """What is scraped, but for when a series began."""
    text = generate_latest(registry).decode()
    return sorted(line for line in text.splitlines() if "_created" not in line)
