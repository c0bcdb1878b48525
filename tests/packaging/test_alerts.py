"""When the alerts of manifests/monitoring fire: rules_test.yaml, evaluated over its series.

Where promtool is on the PATH, it has to come to the same.
"""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from mcpproxy.controller.watch_cache import LAG
from scripts.yaml_files import parse_documents, parse_yaml
from tests.support.promql_values import Labels, Points, Series, value

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "manifests" / "monitoring"
GROUPS: dict[str, Any] = parse_yaml((MONITORING / "rules.yaml").read_text())["spec"]
RULES = [rule for group in GROUPS["groups"] for rule in group["rules"]]
FILE: dict[str, Any] = parse_yaml((MONITORING / "rules_test.yaml").read_text())
WHOLE = re.compile(r"(-?\d+)(?:([+-]\d+))?(?:x(\d+))?")


def seconds(text: str) -> float:
    """Seconds of a duration such as 3m30s."""
    units = {"s": 1, "m": 60, "h": 3600}
    return float(sum(int(n) * units[unit] for n, unit in re.findall(r"(\d+)([smh])", text)))


def labelled(text: str) -> dict[str, str]:
    """The labels of a series as it is written, its name among them."""
    name, _, rest = text.partition("{")
    return {"__name__": name, **dict(re.findall(r'(\w+)="([^"]*)"', rest))}


def points(text: str, interval: float) -> Points:
    """The values of a series: `a`, `axN` and `a+bxN`, which is N + 1 of them."""
    result: list[float] = []
    for word in text.split():
        match = WHOLE.fullmatch(word)
        assert match, word
        start, step, times = int(match[1]), int(match[2] or 0), int(match[3] or 0)
        result += [float(start + step * number) for number in range(times + 1)]
    return [(number * interval, item) for number, item in enumerate(result)]


def alerts(case: dict[str, Any], until: float) -> Series:
    """All series of a case, and those of the alerts up to a time."""
    interval = seconds(case["interval"])
    series = Series()
    for item in case["input_series"]:
        series.add(labelled(item["series"]), points(item["values"], interval))
    active: dict[tuple[str, Labels], float] = {}
    result = Series(dict(series.points))
    step = seconds(FILE["evaluation_interval"])
    for number in range(int(until / step) + 1):
        for rule in RULES:
            _evaluate(rule, series, number * step, active, result)
    return result


def _evaluate(
    rule: dict[str, Any],
    series: Series,
    now: float,
    active: dict[tuple[str, Labels], float],
    result: Series,
) -> None:
    there = value(rule["expr"], series, now)
    assert isinstance(there, dict)
    for key in [key for key in active if key[0] == rule["alert"] and key[1] not in there]:
        del active[key]
    for labels in there:
        since = active.setdefault((rule["alert"], labels), now)
        firing = now - since >= seconds(rule.get("for", "0s"))
        own = {**dict(labels), **rule["labels"], "alertname": rule["alert"]}
        state = {"__name__": "ALERTS", "alertstate": "firing" if firing else "pending"}
        result.add({**own, **state}, [(now, 1.0), (now + 1, None)])


@pytest.mark.parametrize("case", FILE["tests"], ids=lambda case: case["name"])
def test_alerts_fire_only_in_their_situations(case: dict[str, Any]) -> None:
    for wanted in case["promql_expr_test"]:
        at = seconds(wanted["eval_time"])
        result = value(wanted["expr"], alerts(case, at), at)
        assert isinstance(result, dict)
        shown = sorted(sorted(dict(labels).items()) for labels in result)
        expected = [sorted(labelled(sample["labels"]).items()) for sample in wanted["exp_samples"]]
        assert shown == sorted(expected), wanted["eval_time"]


def test_every_alert_is_seen_to_fire() -> None:
    seen = {
        labelled(sample["labels"])["alertname"]
        for case in FILE["tests"]
        for wanted in case["promql_expr_test"]
        for sample in wanted["exp_samples"]
    }
    assert seen == {rule["alert"] for rule in RULES}


def test_a_watch_is_behind_for_longer_than_the_alert_wants_before_the_operator_is_restarted() -> (
    None
):
    (rule,) = [item for item in RULES if item["alert"] == "MCPProxyWatchBehind"]
    threshold = float(rule["expr"].rpartition(">")[2])
    deployment = parse_yaml((ROOT / "manifests" / "base" / "deployment.yaml").read_text())
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    probe = container["livenessProbe"]
    least = LAG + probe["periodSeconds"] * (probe["failureThreshold"] - 1)
    (monitor,) = [
        document
        for document in parse_documents((MONITORING / "podmonitors.yaml").read_text())
        if document["metadata"]["name"] == "mcpproxy-operator"
    ]
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert threshold + seconds(endpoint["interval"]) < least, "one scrape falls in between"
    assert "for" not in rule


def _promtool(directory: Path, *command: str) -> None:
    (directory / "rules.yaml").write_text(yaml.safe_dump(GROUPS))
    shutil.copy(MONITORING / "rules_test.yaml", directory)
    done = subprocess.run(
        ["promtool", *command], cwd=directory, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


if shutil.which("promtool"):

    def test_promtool_gives_the_same_results(tmp_path: Path) -> None:
        _promtool(tmp_path, "check", "rules", "rules.yaml")
        _promtool(tmp_path, "test", "rules", "rules_test.yaml")
