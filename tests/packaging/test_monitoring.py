"""manifests/monitoring speaks of pods, ports and labels that there are."""

import re
from pathlib import Path
from typing import Any

import pytest

from mcpproxy.api import constants
from mcpproxy.desired import build
from mcpproxy.desired.pod_monitor import NAMED
from scripts.yaml_files import parse_documents
from tests.support.builders import OPTIONS, OWNER, an_mcpproxy
from tests.support.promql import Offer, Selector, groupings, selectors

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "manifests" / "monitoring"


def documents(name: str) -> list[dict[str, Any]]:
    """The objects of a file."""
    return parse_documents((MONITORING / name).read_text(encoding="utf-8"))


def template(monitor: str) -> dict[str, Any]:
    """The pods that a monitor is meant for."""
    if monitor == "mcpproxy-operator":
        text = (ROOT / "manifests" / "install.yaml").read_text(encoding="utf-8")
        result = next(
            document for document in parse_documents(text) if document["kind"] == "Deployment"
        )
    else:
        children = build(an_mcpproxy(), OPTIONS, OWNER)
        result = next(child for child in children if child["kind"] == "Deployment")
    pod: dict[str, Any] = result["spec"]["template"]
    return pod


@pytest.mark.parametrize("monitor", documents("podmonitors.yaml"), ids=lambda m: m["metadata"])
def test_monitors_choose_the_pods_and_ports_that_there_are(monitor: dict[str, Any]) -> None:
    pod = template(monitor["metadata"]["name"])
    labels = pod["metadata"]["labels"]
    selector = monitor["spec"]["selector"]
    assert selector["matchLabels"].items() <= labels.items()
    for expression in selector.get("matchExpressions", []):
        assert expression == {"key": constants.LABEL_INSTANCE, "operator": "Exists"}
        assert constants.LABEL_INSTANCE in labels
    ports = {port["name"] for container in pod["spec"]["containers"] for port in container["ports"]}
    assert {
        podmetricsendpoint["port"] for podmetricsendpoint in monitor["spec"]["podMetricsEndpoints"]
    } <= ports


def test_all_metrics_of_a_proxy_have_its_name_with_either_monitor() -> None:
    bundled = next(
        document
        for document in documents("podmonitors.yaml")
        if document["metadata"]["name"] == "mcpproxy-proxies"
    )
    children = build(an_mcpproxy(monitoring={"podMonitor": {}}), OPTIONS, OWNER)
    own = next(child for child in children if child["kind"] == "PodMonitor")
    for monitor in (bundled, own):
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        assert endpoint["relabelings"] == [NAMED]
    (source,) = NAMED["sourceLabels"]
    meta = "__meta_kubernetes_pod_label_" + re.sub(r"[^a-zA-Z0-9_]", "_", constants.LABEL_INSTANCE)
    assert source == meta
    assert template("mcpproxy-proxies")["metadata"]["labels"][constants.LABEL_INSTANCE] == "tools"


def test_alerts_use_only_labels_of_their_expression() -> None:
    [rules] = documents("rules.yaml")
    for group in rules["spec"]["groups"]:
        for rule in group["rules"]:
            text = " ".join(rule["annotations"].values())
            used = set(re.findall(r"\$labels\.([a-z_]+)", text))
            assert used <= groupings(rule["expr"]), rule["alert"]
            assert rule["labels"]["severity"] in ("warning", "critical")


def test_every_alert_links_to_its_heading_in_the_troubleshooting_page() -> None:
    [rules] = documents("rules.yaml")
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    headings = set(re.findall(r"^#### (\w+)$", page, re.MULTILINE))
    alerts = [rule for group in rules["spec"]["groups"] for rule in group["rules"]]
    assert headings == {rule["alert"] for rule in alerts}
    for rule in alerts:
        link = f"docs/troubleshooting.md#{rule['alert'].lower()}"
        assert rule["annotations"]["runbook_url"] == link


def test_an_unknown_metric_or_label_is_reported() -> None:
    text = '# TYPE a_total counter\na_total{result="ok"} 1\n'
    offer = Offer.of(text, frozenset({"pod"}))
    assert list(offer.lacks('sum by (pod, result) (rate(a_total{result="ok"}[5m])) > 2')) == []
    assert list(offer.lacks("rate(b_total[5m])")) == ["no metric b_total"]
    assert list(offer.lacks('a_total{kind="x"}')) == ["a_total has no label kind"]
    assert list(offer.lacks('a_total{result="error"}')) == ["a_total never has result=error"]
    for expression, word in (
        ('a_total{result!="okay"}', "okay"),
        ('a_total{result=~"ok|okay"}', "okay"),
        ('a_total{result!~"Conflct|ok"}', "Conflct"),
    ):
        assert list(offer.lacks(expression)) == [f"a_total never has result={word}"]
    later = Offer.of(text, frozenset(), {"result": frozenset({"Conflict"})})
    assert list(later.lacks('a_total{result!~"ok|Conflict", result=~"$result"}')) == []
    two = Offer.of(f'{text}# TYPE b_total counter\nb_total{{kind="x"}} 1\n', frozenset())
    assert list(two.lacks('b_total{kind="x"} / a_total{kind="x"}')) == ["a_total has no label kind"]
    assert list(offer.lacks("sum by (kind) (a_total)")) == [
        "nothing has the label kind: sum by (kind) (a_total)"
    ]
    assert list(Offer.of(text, frozenset()).lacks('a_total{pod="x"}')) == [
        "a_total has no label pod"
    ]
    assert selectors('absent(a == 1) or sum by (x) (rate(b{c=~"d"}[1m]))') == [
        Selector("a", ()),
        Selector("b", (("c", "=~", "d"),)),
    ]
