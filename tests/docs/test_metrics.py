"""The metrics reference: complete, and right about the names and labels that programs serve."""

from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from mcpproxy.controller.metrics import OperatorMetrics
from mcpproxy.proxy.config.access import with_access
from mcpproxy.proxy.config.options import RuntimeOptions
from mcpproxy.proxy.config.targets import from_backends
from mcpproxy.proxy.runtime import Runtime
from scripts import metrics_reference
from scripts.metrics_reference import MetricDefinition

HASH = {"secretKeyRef": {"name": "ci", "key": "hash"}}
FIELDS: dict[str, Any] = {
    "publicUrl": "https://mcp.example.com/mcp",
    "authentication": {"apiKeys": [{"name": "ci", "hashFrom": HASH}]},
    "audit": {},
    "limits": {"rules": [{"name": "all", "per": "Proxy", "calls": 10, "window": "1s"}]},
}
OF_WORKERS = {"mcpproxy_workers", "mcpproxy_worker_ends_total"}
"""Served by the process that supervises workers."""


def _documented(program: str) -> dict[str, MetricDefinition]:
    return {result.name: result for result in metrics_reference.metrics_of(program)}


def test_the_page_is_current() -> None:
    assert metrics_reference.PAGE.read_text(encoding="utf-8") == metrics_reference.render()


async def test_the_page_lists_the_metrics_of_a_pod() -> None:
    backend = {"name": "weather", "url": "http://127.0.0.1:1/mcp"}
    configuration = with_access(from_backends([backend]), FIELDS)
    served = await Runtime(configuration, RuntimeOptions()).metrics()
    _check_names(served, set(_documented("pods")) - OF_WORKERS)


def test_the_page_lists_the_metrics_of_the_operator() -> None:
    _check_names(OperatorMetrics().render(), set(_documented("operator")))


def test_the_page_lists_the_labels_of_the_metrics() -> None:
    text = OperatorMetrics().render().decode()
    result = {
        (sample.name, label)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        for label in sample.labels
    }
    documented = _documented("operator")
    labels = {(name, label) for name, metric in documented.items() for label in metric.labels}
    assert result
    for name, label in result:
        base = next((n for n in documented if name.startswith(n)), "")
        assert label == "le" or not base or (base, label) in labels


def _check_names(served: bytes, documented: set[str]) -> None:
    lines = [line.split() for line in served.decode().splitlines() if line.startswith("# TYPE")]
    names = {line[2] for line in lines if not line[2].startswith(("process_", "python_"))}
    names = {name for name in names if not name.endswith("_created")}
    assert names == documented
