"""Scraping of the pods."""

from typing import Any

from mcpproxy import desired
from mcpproxy.api import constants
from tests.support.builders import OPTIONS, OWNER, an_mcpproxy


def monitor(**fields: Any) -> dict[str, Any]:
    """The PodMonitor of a proxy that asks for one like this."""
    proxy = an_mcpproxy(monitoring={"podMonitor": fields})
    children = desired.build(proxy, OPTIONS, OWNER)
    (child,) = [item for item in children if item["kind"] == "PodMonitor"]
    return child


def test_the_admin_port_of_the_pods_is_scraped() -> None:
    spec = monitor()["spec"]
    assert spec["selector"]["matchLabels"] == constants.selector_labels("tools")
    (endpoint,) = spec["podMetricsEndpoints"]
    assert (endpoint["port"], endpoint["path"]) == ("admin", "/metrics")
    assert endpoint.keys() == {"port", "path", "relabelings"}
    children = desired.build(an_mcpproxy(), OPTIONS, OWNER)
    (deployment,) = [child for child in children if child["kind"] == "Deployment"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert "admin" in {port["name"] for port in container["ports"]}


def test_labels_and_times_come_from_the_spec() -> None:
    result = monitor(labels={"release": "x"}, interval="30s", scrapeTimeout="5s")
    assert result["metadata"]["labels"] == {**constants.child_labels("tools"), "release": "x"}
    (endpoint,) = result["spec"]["podMetricsEndpoints"]
    assert (endpoint["interval"], endpoint["scrapeTimeout"]) == ("30s", "5s")


def test_monitoring_without_a_pod_monitor_creates_no_child() -> None:
    children = desired.build(an_mcpproxy(monitoring={}), OPTIONS, OWNER)
    assert "PodMonitor" not in {child["kind"] for child in children}
