"""The operator's metrics bear the names that controllers made with controller-runtime have."""

from prometheus_client.parser import text_string_to_metric_families

from mcpproxy.controller.metrics import OperatorMetrics
from mcpproxy.limits.pods import REPORT_LINE
from mcpproxy.limits.table import PODS

PASSES = "controller_runtime_reconcile_total"


def samples(metrics: OperatorMetrics) -> dict[tuple[str, ...], float]:
    """Values by name and labels, these in the order of their names."""
    return {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
    }


def test_passes_are_counted_by_result() -> None:
    metrics = OperatorMetrics()
    metrics.passed("ok", 0.1)
    metrics.passed("error", 0.2)
    metrics.passed("conflict", 0.2)
    result = samples(metrics)
    assert result[PASSES, "mcpproxy", "success"] == 1
    assert result[PASSES, "mcpproxy", "requeue"] == 1
    assert result[PASSES, "mcpproxy", "error"] == 1
    assert result["controller_runtime_reconcile_errors_total", "mcpproxy"] == 1
    assert result["controller_runtime_reconcile_time_seconds_count", "mcpproxy"] == 3


def test_results_that_were_never_seen_are_zero_and_not_absent() -> None:
    actual = samples(OperatorMetrics())
    assert [actual[PASSES, "mcpproxy", result] for result in ("success", "requeue", "error")] == [
        0,
        0,
        0,
    ]


def test_the_queue_reports_its_depth_and_waiting_times() -> None:
    metrics = OperatorMetrics()
    metrics.work(lambda: 4, lambda: 2, lambda: 1)
    metrics.added()
    metrics.retried()
    metrics.waited(0.3)
    result = samples(metrics)
    names = ("mcpproxy", "mcpproxy")
    assert result["workqueue_depth", *names] == 4
    assert result["workqueue_adds_total", *names] == 1
    assert result["workqueue_retries_total", *names] == 1
    assert result["workqueue_queue_duration_seconds_sum", *names] == 0.3
    assert result["mcpproxy_operator_pod_streams", "followed"] == 2
    assert result["mcpproxy_operator_pod_streams", "reporting"] == 1


def test_writes_watches_and_leadership_have_metrics() -> None:
    metrics = OperatorMetrics()
    leading = [True]
    metrics.leadership("lease", lambda: leading[0])
    metrics.watch("pods", lambda: 7.0, lambda: 3.0)
    metrics.wrote("Deployment", "apply", "ok")
    result = samples(metrics)
    assert result["leader_election_master_status", "lease"] == 1
    assert result["mcpproxy_operator_watch_age_seconds", "pods"] == 7
    assert result["mcpproxy_operator_watch_behind_seconds", "pods"] == 3
    assert result["mcpproxy_operator_writes_total", "Deployment", "ok", "apply"] == 1
    leading.clear()
    leading.append(False)
    assert samples(metrics)["leader_election_master_status", "lease"] == 0


def test_limits_that_pods_exceed_are_counted() -> None:
    metrics = OperatorMetrics()
    before = samples(metrics)
    REPORT_LINE.record()
    after = samples(metrics)
    name = "mcpproxy_operator_limit_reached_total"
    assert {labels[0] for known, *labels in after if known == name} == {pod.name for pod in PODS}
    assert after[name, "report-line"] == before[name, "report-line"] + 1
