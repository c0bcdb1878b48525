"""The Grafana dashboard: its schema, and what helps its readers.

tests/apiserver/test_monitoring.py compares its queries with the metrics of both programs.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from mcpproxy.proxy.telemetry.metrics import STATES
from scripts.dashboard import metrics
from scripts.dashboard import panels as forms
from scripts.dashboard.build import dashboard
from scripts.yaml_files import parse_yaml
from tests.support import dashboards

ROOT = Path(__file__).parents[2]
PANELS = list(dashboards.panels())
RULES = parse_yaml((ROOT / "manifests" / "monitoring" / "rules.yaml").read_text())["spec"]
ALERTS = {rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"]}


def of_type(kind: str) -> list[dict[str, Any]]:
    """The panels of a type."""
    return [panel for panel in PANELS if panel["type"] == kind]


def test_the_dashboard_is_as_generated() -> None:
    assert dashboards.FILE.read_text(encoding="utf-8") == dashboard(), "run: make manifests"


def missing(argument: Any, read: Any, place: str = "") -> Iterator[str]:
    """The places of `given` that a reader has not kept; it may add defaults."""
    if isinstance(argument, dict) and isinstance(read, dict):
        for key, value in argument.items():
            if key not in read and value not in (None, [], {}):
                yield f"{place}.{key}"
            elif key in read:
                yield from missing(value, read[key], f"{place}.{key}")
    elif isinstance(argument, list) and isinstance(read, list) and len(argument) == len(read):
        for number, (item, other) in enumerate(zip(argument, read, strict=True)):
            yield from missing(item, other, f"{place}[{number}]")
    elif argument != read:
        yield place


def test_the_dashboard_has_the_schema_of_grafana() -> None:
    register_default_plugins()
    document = dashboards.load()
    read = json.loads(JSONEncoder().encode(Dashboard.from_json(document)))
    assert list(missing(document, read)) == []
    document["panels"][1]["options"]["colour"] = "red"
    read = json.loads(JSONEncoder().encode(Dashboard.from_json(document)))
    assert list(missing(document, read)) == [".panels[1].options.colour"]


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_every_panel_has_a_description_a_unit_and_the_chosen_source(panel: dict[str, Any]) -> None:
    assert panel["description"].endswith(".")
    assert panel["datasource"]["uid"] == "${datasource}"
    refs = [target["refId"] for target in panel["targets"]]
    assert len(set(refs)) == len(refs)
    assert all(refs)
    for target in panel["targets"]:
        assert target["datasource"]["uid"] == "${datasource}"
    if panel["type"] in ("stat", "timeseries"):
        assert panel["fieldConfig"]["defaults"]["unit"]


def test_numbers_and_places_of_panels_are_distinct() -> None:
    groups = [list(dashboards.load()["panels"])]
    groups += [row["panels"] for row in groups[0] if row.get("panels")]
    numbers = [panel["id"] for group in groups for panel in group]
    assert len(set(numbers)) == len(numbers)
    for group in groups:
        seen: set[tuple[int, int]] = set()
        for panel in group:
            place = panel["gridPos"]
            columns = range(place["x"], place["x"] + place["w"])
            lines = range(place["y"], place["y"] + place["h"])
            cells = {(x, y) for x in columns for y in lines}
            assert not cells & seen
            assert max(columns) < 24
            seen |= cells


def test_the_first_row_shows_numbers_whose_colors_have_limits() -> None:
    first = dashboards.load()["panels"][1:7]
    assert {panel["type"] for panel in first} == {"stat"}
    colored = [
        panel["title"]
        for panel in first
        if len(panel["fieldConfig"]["defaults"]["thresholds"]["steps"]) > 1
    ]
    assert colored == ["Backends down", "Failed calls", "Call duration (p95)"]
    for panel in first:
        assert panel["options"]["reduceOptions"]["calcs"] == ["lastNotNull"]


def test_every_state_of_a_backend_has_a_text_and_a_color() -> None:
    assert {state for state, _ in forms.STATES} == set(STATES)
    (timeline,) = of_type("state-timeline")
    (mapping,) = timeline["fieldConfig"]["defaults"]["mappings"]
    shown = {option["text"]: int(number) for number, option in mapping["options"].items()}
    (target,) = timeline["targets"]
    for state, number in shown.items():
        assert re.search(rf'state="{state}"}} == 1\) \* {number}\b', target["expr"])
    assert {option["color"] for option in mapping["options"].values()} > {"green", "red"}


def test_the_table_names_each_column_and_its_order() -> None:
    (table,) = of_type("table")
    merge, organize = table["transformations"]
    assert merge["id"] == "merge"
    renamed = organize["options"]["renameByName"]
    assert list(renamed) == [f"Value #{target['refId']}" for target in table["targets"]]
    overridden = {override["matcher"]["options"] for override in table["fieldConfig"]["overrides"]}
    assert overridden == set(renamed.values())
    assert {target["format"] for target in table["targets"]} == {"table"}
    keys = set(organize["options"]["indexByName"]) - set(renamed)
    for target in table["targets"]:
        assert f"by ({', '.join(sorted(keys, key=target['expr'].index))}" in target["expr"]


def test_failed_calls_are_those_of_the_alert() -> None:
    assert f'!~"{metrics.NOT_FAILED}"' in ALERTS["MCPProxyCallsFail"]["expr"]


@pytest.mark.parametrize(
    ("title", "alert"),
    [
        ("Failed calls", "MCPProxyCallsFail"),
        ("Call duration (p95)", "MCPProxyCallsSlow"),
        ("Queued MCPProxies", "MCPProxyQueueNotDrained"),
        ("Watch lag", "MCPProxyWatchBehind"),
    ],
)
def test_a_panel_turns_red_where_its_alert_fires(title: str, alert: str) -> None:
    (panel,) = [item for item in PANELS if item["title"] == title]
    red = panel["fieldConfig"]["defaults"]["thresholds"]["steps"][-1]
    assert (red["color"], red["value"]) == (
        "red",
        float(ALERTS[alert]["expr"].rpartition(">")[2]),
    )


def test_alerts_and_pages_that_the_dashboard_names_exist() -> None:
    text = dashboards.FILE.read_text(encoding="utf-8")
    assert set(re.findall(r"alert (\w+)", text)) <= set(ALERTS)
    pages = set(re.findall(r"\bdocs/[a-z-]+\.md", text))
    assert {link["url"] for link in dashboards.load()["links"]} <= pages
    assert {page for page in pages if not (ROOT / page).exists()} == set()
