"""Components that clients see, and their names: include, exclude, overrides."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpproxy.api.v1alpha1.component_filters import Components, NamedComponents
from mcpproxy.proxy.core.catalog.component_filter import EVERYTHING, ComponentFilter
from mcpproxy.proxy.core.catalog.component_list import parse_component_list
from mcpproxy.proxy.core.translation.namespacing import PrefixMapping
from mcpproxy.proxy.core.translation.request_names import to_upstream_params
from mcpproxy.proxy.core.translation.uri_templates import Uri
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import RpcError
from mcpproxy.proxy.protocol.kinds import RESOURCES, TOOLS


def _selection(**fields: Any) -> ComponentFilter:
    return ComponentFilter.of(NamedComponents.model_validate(fields))


def _tools(selection: ComponentFilter, *items: dict[str, Any]) -> list[Any]:
    page = jsonrpc.decode_object(json.dumps({"tools": items}).encode())
    component_list = parse_component_list(TOOLS, PrefixMapping("sky"), [page], 0.0, selection)
    return [json.loads(item) for item in component_list.items]


def test_a_backend_without_a_filter_is_listed_unchanged() -> None:
    assert ComponentFilter.of(None) is EVERYTHING
    assert EVERYTHING.allows("x")
    assert EVERYTHING.displayed_name("x") == "x"
    assert EVERYTHING.original_name("x") == "x"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({"include": ["get_*"]}, ["get_a", "get_b_admin"]),
        ({"exclude": ["*_admin"]}, ["get_a", "set_a", "[x]"]),
        ({"include": ["get_*", "set_?"], "exclude": ["*_admin"]}, ["get_a", "set_a"]),
        ({"include": []}, []),
        ({"include": ["[x]"]}, ["[x]"]),
        ({"overrides": [{"name": "set_a", "enabled": False}]}, ["get_a", "get_b_admin", "[x]"]),
    ],
)
def test_only_selected_components_are_listed_and_callable(
    value: dict[str, Any], shown: list[str]
) -> None:
    names = ["get_a", "get_b_admin", "set_a", "[x]"]
    selection = _selection(**value)
    listed = _tools(selection, *({"name": name} for name in names))
    assert [tool["name"] for tool in listed] == [f"sky_{name}" for name in shown]
    for name in names:
        params = {"name": jsonrpc.encode_raw(f"sky_{name}")}
        if name in shown:
            sent = to_upstream_params(
                "tools/call", params, PrefixMapping("sky"), f"sky_{name}", selection
            )
            assert jsonrpc.decode_str(sent["name"]) == name
        else:
            with pytest.raises(RpcError, match="unknown tool"):
                to_upstream_params(
                    "tools/call", params, PrefixMapping("sky"), f"sky_{name}", selection
                )


def test_an_override_changes_name_and_texts_and_leaves_the_rest() -> None:
    override = {"name": "get", "rename": "fetch", "title": "T", "description": "D"}
    schema = {"type": "object", "x": [1, 2.50, None]}
    tools = _tools(
        _selection(overrides=[override]), {"name": "get", "inputSchema": schema, "title": "old"}
    )
    assert tools == [{"name": "sky_fetch", "inputSchema": schema, "title": "T", "description": "D"}]


def test_the_old_name_of_a_renamed_tool_is_unknown() -> None:
    selection = _selection(overrides=[{"name": "get", "rename": "fetch"}])
    assert selection.original_name("fetch") == "get"
    assert selection.original_name("get") is None


def test_two_tools_may_swap_their_names() -> None:
    selection = _selection(overrides=[{"name": "a", "rename": "b"}, {"name": "b", "rename": "a"}])
    assert [selection.original_name(selection.displayed_name(own)) for own in ("a", "b", "c")] == [
        "a",
        "b",
        "c",
    ]


@given(st.dictionaries(st.sampled_from("abcdef"), st.sampled_from("uvwxyz"), max_size=6))
def test_a_listed_component_can_be_called_by_its_listed_name(renames: dict[str, str]) -> None:
    distinct = {own: new for own, new in renames.items() if list(renames.values()).count(new) == 1}
    overrides = [{"name": own, "rename": new} for own, new in distinct.items()]
    selection = _selection(overrides=overrides)
    for own in "abcdef":
        assert selection.original_name(selection.displayed_name(own)) == own


def test_resources_are_selected_by_their_own_uris() -> None:
    selection = ComponentFilter.of(Components.model_validate({"include": ["file:///a/*"]}))
    page = jsonrpc.decode_object(b'{"resources":[{"uri":"file:///a/x"},{"uri":"file:///b/x"}]}')
    component_list = parse_component_list(RESOURCES, PrefixMapping("fs"), [page], 0.0, selection)
    assert component_list.names == ("file://fs//a/x",)


@pytest.mark.parametrize(
    ("template", "uri", "fits"),
    [
        ("w://city/{name}", "w://city/oslo", True),
        ("w://city/{name}", "w://town/oslo", False),
        ("w://{a}/x/{b}", "w://1/x/2", True),
        ("w://a.b", "w://aXb", False),
        ("w://{a}", "w://1/x", False),
        ("w://{a}", "w://1?x=2", False),
        ("w://x{?a}", "w://x?a=2", True),
        ("w://x{/a*}", "w://x/1/2", True),
        ("w://{+path}", "w://1/x", True),
        ("w://{+path}", "w://{a}", False),
        ("{+path}", "anything", True),
    ],
)
def test_a_uri_is_recognised_as_one_of_a_template(template: str, uri: str, fits: bool) -> None:
    assert Uri(uri).is_from([template]) is fits
