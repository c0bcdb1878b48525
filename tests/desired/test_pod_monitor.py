"""How the pods are scraped."""

from typing import Any

from mcpproxy import desired
from mcpproxy.api import constants
from tests.support.builders import OPTIONS, OWNER, an_mcpproxy


def monitor(**given: Any) -> dict[str, Any]:
    """The PodMonitor of a proxy that asks for one like this."""
    proxy = an_mcpproxy(monitoring={"podMonitor": given})
    children = desired.build(proxy, OPTIONS, OWNER)
    (found,) = [one for one in children if one["kind"] == "PodMonitor"]
    return found


def test_the_admin_port_of_the_pods_is_scraped() -> None:
    found = monitor()["spec"]
    assert found["selector"]["matchLabels"] == constants.selector_labels("tools")
    (endpoint,) = found["podMetricsEndpoints"]
    assert (endpoint["port"], endpoint["path"]) == ("admin", "/metrics")
    assert endpoint.keys() == {"port", "path", "relabelings"}
    children = desired.build(an_mcpproxy(), OPTIONS, OWNER)
    (deployment,) = [one for one in children if one["kind"] == "Deployment"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert "admin" in {port["name"] for port in container["ports"]}


def test_labels_and_times_come_from_the_spec() -> None:
    found = monitor(labels={"release": "x"}, interval="30s", scrapeTimeout="5s")
    assert found["metadata"]["labels"] == {**constants.child_labels("tools"), "release": "x"}
    (endpoint,) = found["spec"]["podMetricsEndpoints"]
    assert (endpoint["interval"], endpoint["scrapeTimeout"]) == ("30s", "5s")


def test_monitoring_without_a_pod_monitor_creates_no_child() -> None:
    children = desired.build(an_mcpproxy(monitoring={}), OPTIONS, OWNER)
    assert "PodMonitor" not in {one["kind"] for one in children}
