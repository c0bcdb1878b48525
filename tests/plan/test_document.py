"""The plan's document, from catalogs made by hand."""

import json

from mcpproxy.api.catalog_digests import approved_hash
from mcpproxy.api.v1alpha1 import ObjectMeta, OnClash
from mcpproxy.api.v1alpha1.status import BackendStatus
from mcpproxy.plan.document import (
    Plan,
    build_document,
    differ,
    exit_code,
    highest_exit_code,
    plan_differences,
)
from mcpproxy.plan.render import render_plan
from mcpproxy.proxy.core.catalog.catalog import Catalog
from mcpproxy.proxy.core.catalog.component_filter import EVERYTHING
from mcpproxy.proxy.core.catalog.component_list import ComponentList, count_tokens
from mcpproxy.proxy.core.translation.namespacing import PrefixMapping
from mcpproxy.proxy.protocol.kinds import KINDS, TOOLS


def a_plan(
    tools: dict[str, list[str]],
    text: str = "",
    state: str = "Healthy",
    known: bool = True,
    on_clash: OnClash | None = None,
) -> Plan:
    """The plan of these backends and their tools' outward names."""
    catalog = Catalog(serves_clashes=on_clash != "Fail")
    for backend, names in tools.items():
        items = [json.dumps({"name": name, "description": text}).encode() for name in names]
        catalog.put(backend, TOOLS, ComponentList(tuple(items), tuple(names)))
    statuses = [BackendStatus.model_validate({"name": b, "state": state}) for b in tools]
    selections = dict.fromkeys(KINDS, EVERYTHING)
    origins = {b: (PrefixMapping(b), selections) for b in tools}
    return build_document(
        ObjectMeta(name="p"), catalog, statuses, origins, known=known, on_clash=on_clash
    )


def test_a_tool_is_shown_with_its_backend_and_its_own_name() -> None:
    plan = a_plan({"a": ["a_echo"]})
    (tool,) = plan["tools"]
    assert (tool["backend"], tool["ownName"], tool["served"]) == ("a", "echo", True)
    assert exit_code(plan) == 0


def test_a_name_that_two_backends_claim_is_exit_code_3() -> None:
    plan = a_plan({"a": ["same"], "b": ["same"]})
    assert [tool["served"] for tool in plan["tools"]] == [True, False]
    clash = {"kind": "tools", "name": "same", "servedBy": "a", "backends": ["a", "b"]}
    assert plan["clashes"] == [clash]
    assert exit_code(plan) == 3


def test_a_clash_accepted_by_the_manifest_is_shown_without_a_failure() -> None:
    plan = a_plan({"a": ["same"], "b": ["same"]}, on_clash="First")
    assert [clash["servedBy"] for clash in plan["clashes"]] == ["a"]
    assert "served by a" in render_plan(plan)
    assert exit_code(plan) == 0


def test_a_clash_with_the_policy_fail_is_served_by_no_backend_and_is_exit_code_3() -> None:
    plan = a_plan({"a": ["same", "own"], "b": ["same"]}, on_clash="Fail")
    assert [tool["served"] for tool in plan["tools"]] == [False, True, False]
    assert [clash["servedBy"] for clash in plan["clashes"]] == [None]
    assert "same of a, b: served by no backend" in render_plan(plan)
    assert exit_code(plan) == 3


def test_a_hidden_tool_does_not_count_towards_the_tokens() -> None:
    assert a_plan({"a": ["s"], "b": ["s"]})["toolTokens"] == a_plan({"a": ["s"]})["toolTokens"] > 0


def test_a_name_over_64_characters_is_exit_code_3() -> None:
    assert exit_code(a_plan({"a": ["a_" + "x" * 62]})) == 0
    plan = a_plan({"a": ["a_" + "x" * 63]})
    assert [(result["backend"], result["length"]) for result in plan["tooLong"]] == [("a", 65)]
    assert exit_code(plan) == 3


def test_a_backend_with_unknown_lists_is_exit_code_1_without_a_hash() -> None:
    plan = a_plan({"a": ["a_echo"]}, state="Unhealthy", known=False)
    assert (exit_code(plan), plan["catalogHash"], plan["failed"]) == (1, None, ["a"])


def test_added_removed_and_changed_tools_are_exit_code_2() -> None:
    before, after = a_plan({"a": ["a_x", "a_y"]}), a_plan({"a": ["a_y", "a_z"]}, "new")
    result = plan_differences(before, after)
    assert result["tools"] == {"added": ["a_z"], "removed": ["a_x"], "changed": ["a_y"]}
    assert exit_code({**after, "differences": result}) == 2
    assert exit_code({**after, "differences": plan_differences(after, after)}) == 0


def test_a_different_order_alone_is_not_a_difference() -> None:
    before, after = a_plan({"a": ["a_x", "a_y"]}), a_plan({"a": ["a_y", "a_x"]})
    assert not differ(plan_differences(before, after))


def test_another_encoding_of_a_number_changes_the_digest() -> None:
    before = a_plan({"a": ["a_x", "a_y"]})
    after = {**before, "approved": {"tools": {**before["approved"]["tools"], "a_x": "0" * 64}}}
    assert plan_differences(before, after)["tools"]["changed"] == ["a_x"]
    assert not differ(plan_differences({**before, "approved": None}, after))


def test_the_approved_digests_of_a_plan_have_the_hash_of_its_catalog() -> None:
    plan = a_plan({"a": ["a_x", "a_y"]})
    assert [*plan["approved"]["tools"]] == ["a_x", "a_y"]
    assert approved_hash(plan["approved"]) == plan["catalogHash"]
    assert a_plan({"a": ["a_x"]}, known=False)["approved"] is None


def test_the_order_of_responses_of_backends_is_invisible() -> None:
    item, other = a_plan({"a": ["a_x"], "b": ["b_x"]}), a_plan({"b": ["b_x"], "a": ["a_x"]})
    item["backends"].sort(key=lambda backend: backend["name"])
    other["backends"].sort(key=lambda backend: backend["name"])
    assert json.dumps(item) == json.dumps(other)


def test_against_nothing_all_is_added() -> None:
    assert plan_differences(None, a_plan({"a": ["a_x"]}))["tools"]["added"] == ["a_x"]


def test_exit_code_1_takes_precedence_over_3_over_2_over_0() -> None:
    assert highest_exit_code([0, 2, 3, 1]) == 1
    assert highest_exit_code([0, 2, 3]) == 3
    assert highest_exit_code([0, 2]) == 2
    assert highest_exit_code([0]) == 0


def test_four_bytes_of_compact_json_are_a_token_rounded_up() -> None:
    assert count_tokens(b'{"name" : "abcd"}') == 4
    assert count_tokens(b'{"name" : "abcdef"}') == 5
    assert count_tokens(b'"\\ud800"') == 2


def test_a_name_cannot_control_the_terminal() -> None:
    shown = render_plan(a_plan({"a": ["a_\x1b[2J\nfake"]}))
    assert "\x1b" not in shown
    assert "a_\\x1b[2J\\nfake" in shown
