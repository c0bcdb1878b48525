"""The plan's document, from catalogs made by hand."""

import json

from mcpproxy.api.status import BackendStatus
from mcpproxy.proxy.core.catalog import KINDS, TOOLS, Catalog, Listing
from mcpproxy.proxy.core.names import Names
from mcpproxy.proxy.core.selection import EVERYTHING
from mcpproxy.proxy.plan.document import Plan, differences, document, exit_code, tokens


def _plan(tools: dict[str, list[str]], text: str = "", state: str = "Healthy") -> Plan:
    catalog = Catalog()
    for backend, names in tools.items():
        items = [json.dumps({"name": name, "description": text}).encode() for name in names]
        catalog.put(backend, TOOLS, Listing(tuple(items), tuple(names)))
    statuses = [BackendStatus.model_validate({"name": b, "state": state}) for b in tools]
    selections = dict.fromkeys(KINDS, EVERYTHING)
    return document("p", catalog, statuses, {b: (Names(b), selections) for b in tools})


def test_a_tool_is_shown_with_its_backend_and_its_own_name() -> None:
    plan = _plan({"a": ["a_echo"]})
    (tool,) = plan["tools"]
    assert (tool["backend"], tool["ownName"], tool["served"]) == ("a", "echo", True)
    assert exit_code(plan) == 0


def test_a_name_that_two_backends_claim_is_exit_code_3() -> None:
    plan = _plan({"a": ["same"], "b": ["same"]})
    assert [tool["served"] for tool in plan["tools"]] == [True, False]
    assert exit_code(plan) == 3


def test_a_name_over_64_characters_is_exit_code_3() -> None:
    assert exit_code(_plan({"a": ["a_" + "x" * 62]})) == 0
    assert exit_code(_plan({"a": ["a_" + "x" * 63]})) == 3


def test_a_backend_that_is_not_healthy_is_exit_code_1_and_there_is_no_hash() -> None:
    plan = _plan({"a": ["a_echo"]}, state="Unhealthy")
    assert (exit_code(plan), plan["catalogHash"], plan["unreachable"]) == (1, None, ["a"])


def test_added_removed_and_changed_tools_are_exit_code_2() -> None:
    before, after = _plan({"a": ["a_x", "a_y"]}), _plan({"a": ["a_y", "a_z"]}, "new")
    found = differences(before, after)
    assert found["tools"] == {"added": ["a_z"], "removed": ["a_x"], "changed": ["a_y"]}
    assert exit_code(after, found) == 2
    assert exit_code(after, differences(after, after)) == 0


def test_four_bytes_of_compact_json_are_a_token() -> None:
    assert tokens(b'{"name" : "abcd"}') == 4
