"""Limits in plans: which rule counts which tools, and what a change of the rules changes."""

import json
from pathlib import Path
from typing import Any

import pytest

from mcpproxy.api.manifest_errors import ManifestError
from mcpproxy.api.v1alpha1.status import BackendStatus
from mcpproxy.plan.access.call_limits import build_limits, limit_differences
from mcpproxy.plan.compare import load_earlier_plan
from mcpproxy.plan.document import FORM, Plan, build_document
from mcpproxy.plan.render import render_plan
from mcpproxy.proxy.core.catalog.component_filter import EVERYTHING
from mcpproxy.proxy.core.translation.namespacing import PrefixMapping
from mcpproxy.proxy.protocol.kinds import KINDS, TOOLS
from tests.plan.planning import NOTES, plan, proxy
from tests.proxy.authorization.stage import catalog_of
from tests.support.builders import an_mcpproxy

FAST = {"name": "fast", "calls": 60, "window": "1m", "burst": 10}
WRITES = {"name": "writes", "per": "Backend", "tools": ["*_set"], "inFlight": 2}


def _plan(*rules: dict[str, Any], state: str = "Healthy", **limits: Any) -> Plan:
    catalog = catalog_of(a={TOOLS: ["get", "set"]}, b={TOOLS: ["get"]})
    statuses = [BackendStatus.model_validate({"name": name, "state": state}) for name in ("a", "b")]
    selection = dict.fromkeys(KINDS, EVERYTHING)
    origins = {name: (PrefixMapping(name), selection) for name in ("a", "b")}
    fields: dict[str, Any] = {"limits": {"rules": list(rules), **limits}} if rules else {}
    spec = an_mcpproxy(**fields).spec
    document = build_document(an_mcpproxy().metadata, catalog, statuses, origins, known=True)
    document["access"] = None
    document["limits"] = build_limits(spec.limits, document)
    return document


def test_a_plan_shows_which_rule_counts_which_tools_of_which_backends() -> None:
    limits = _plan(FAST, WRITES)["limits"]
    fast, writes = limits["rules"]
    assert limits["counted"] == "Owner"
    assert (fast["per"], fast["everyRequest"]) == ("Principal", True)
    assert (fast["tools"], fast["backends"]) == (["a_get", "a_set", "b_get"], ["a", "b"])
    assert (writes["per"], writes["everyRequest"], writes["inFlight"]) == ("Backend", False, 2)
    assert (writes["tools"], writes["backends"]) == (["a_set"], ["a"])
    assert limits["unusedRules"] == []


def test_the_text_has_the_rules_and_a_matrix_of_tools() -> None:
    text = render_plan(_plan(FAST, WRITES))
    assert "limits (x: counted, -: not counted; by one of the pods for all)" in text
    assert (
        "  1: fast: 60 calls in 1m with bursts of 10 for each principal, every request to a, b\n"
        "  2: writes: 2 calls at a time for each backend, 1 tools to a\n"
    ) in text
    assert "  tools: a_get  x  -\n  tools: a_set  x  x\n  tools: b_get  x  -\n" in text
    assert "warning" not in text
    assert "limits" not in render_plan(_plan())


@pytest.mark.parametrize(
    ("shared", "words"),
    [
        ({"mode": "None"}, "by each pod for itself"),
        ({"valkey": {"address": "valkey:6379"}}, "by a Valkey server"),
    ],
)
def test_the_text_says_who_counts(shared: dict[str, Any], words: str) -> None:
    assert f"not counted; {words})" in render_plan(_plan(FAST, shared=shared))


def test_a_rule_that_covers_no_tool_is_a_warning_unless_a_list_is_missing() -> None:
    idle = {**WRITES, "tools": ["c_*"]}
    assert _plan(FAST, idle)["limits"]["unusedRules"] == ["writes"]
    assert "warning: writes covers no tool of this catalog" in render_plan(_plan(FAST, idle))
    assert _plan(FAST, idle, state="Unhealthy")["limits"]["unusedRules"] == []


def test_differences_name_rules_amounts_and_tools() -> None:
    before = _plan(FAST, {**WRITES, "name": "gone"}, {**WRITES, "name": "kept"})
    slow = {"name": "fast", "calls": 30, "window": "1m", "tools": ["a_*"]}
    after = _plan(slow, WRITES, {**WRITES, "name": "kept"})
    after["limitDifferences"] = limit_differences(before, after)
    assert after["limitDifferences"] == {
        "added": ["writes"],
        "removed": ["gone"],
        "changed": [
            {
                "name": "fast",
                "amounts": {"calls": [60, 30], "burst": [10, None]},
                "everyRequest": [True, False],
                "tools": {"added": [], "removed": ["b_get"]},
            }
        ],
    }
    text = render_plan(after)
    assert "difference of limits (+ added, - removed, ~ changed)\n  + writes\n  - gone\n" in text
    assert (
        "  ~ fast: calls 60 -> 30; burst 10 -> none; counts only tools; -1 tools: b_get\n" in text
    )


def test_limits_that_are_not_known_are_not_compared() -> None:
    after = _plan(FAST)
    after["limitDifferences"] = limit_differences({}, after)
    assert after["limitDifferences"] is None
    assert "limits that are served now: unknown" in render_plan(after)


async def test_the_command_compares_the_limits_of_an_earlier_plan(tmp_path: Path) -> None:
    notes = {"name": "notes", "stdio": NOTES}
    first = await plan(
        "-o", "json", "-f", proxy(tmp_path / "a.yaml", notes, limits={"rules": [FAST]})
    )
    earlier = tmp_path / "earlier.json"
    earlier.write_text(first.out, encoding="utf-8")
    limits = {"rules": [{**FAST, "calls": 30}]}
    changed = proxy(tmp_path / "b.yaml", notes, limits=limits)
    second = await plan("-o", "json", "-f", changed, "--against", earlier)
    (document,) = json.loads(second.out)["proxies"]
    change = {"name": "fast", "amounts": {"calls": [60, 30]}}
    assert document["limitDifferences"] == {"added": [], "removed": [], "changed": [change]}
    # Clients see the same components, so the exit code is that of no difference.
    assert second.code == 0
    assert "~ fast: calls 60 -> 30" in (await plan("-f", changed, "--against", earlier)).out


@pytest.mark.parametrize("limits", [[], {"rules": 1}, {"rules": [{"name": "a", "tools": []}]}])
def test_a_file_with_broken_limits_is_refused(tmp_path: Path, limits: Any) -> None:
    content = {"version": FORM, "proxies": [{**_plan(FAST), "limits": limits}]}
    path = tmp_path / "earlier.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ManifestError, match="not the output of plan"):
        load_earlier_plan(path)
