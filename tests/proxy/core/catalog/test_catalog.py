"""Lists of clients: merged lists, owners of names, changes."""

import json
from typing import Any

import pytest

from mcpproxy.proxy.core.catalog.capabilities import UNKNOWN, merge_capabilities, merge_instructions
from mcpproxy.proxy.core.catalog.catalog import Catalog
from mcpproxy.proxy.core.catalog.component_list import (
    ComponentList,
    count_tokens,
    parse_component_list,
    tokens_of_size,
)
from mcpproxy.proxy.core.catalog.merged_list import merge_lists
from mcpproxy.proxy.core.translation.namespacing import PrefixMapping
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import RpcError
from mcpproxy.proxy.protocol.kinds import KINDS, PROMPTS, RESOURCES, TEMPLATES, TOOLS, ComponentKind


def _page(kind: ComponentKind, *keys: str, **members: Any) -> jsonrpc.Message:
    content = {kind.member: [{kind.key: key, "extra": [1]} for key in keys], **members}
    return jsonrpc.decode_object(json.dumps(content).encode())


def _listing(
    kind: ComponentKind, prefix: str, *keys: str, now: float = 0.0, **members: Any
) -> ComponentList:
    return parse_component_list(kind, PrefixMapping(prefix), [_page(kind, *keys, **members)], now)


def _shown(catalog: Catalog, kind: ComponentKind, *, modern: bool = False, now: float = 0.0) -> Any:
    return json.loads(catalog.result(kind, modern=modern, now=now))


@pytest.mark.parametrize("kind", KINDS)
def test_items_of_all_pages_have_their_downstream_names(kind: ComponentKind) -> None:
    own = ["s://a", "s://b"] if kind.by_uri else ["a", "b"]
    shown = ("s://fs/a", "s://fs/b") if kind.by_uri else ("fs_a", "fs_b")
    component_list = parse_component_list(
        kind, PrefixMapping("fs"), [_page(kind, own[0]), _page(kind, own[1])], 0.0
    )
    assert component_list.names == shown
    assert [json.loads(item) for item in component_list.items] == [
        {kind.key: name, "extra": [1]} for name in shown
    ]


def test_without_a_prefix_items_are_the_bytes_they_were() -> None:
    raw = b'{"tools":[{"name" : "a", "x": 1.10, "y": "\\u00e9"}]}'
    component_list = parse_component_list(
        TOOLS, PrefixMapping(""), [jsonrpc.decode_object(raw)], 0.0
    )
    assert component_list.items == (b'{"name" : "a", "x": 1.10, "y": "\\u00e9"}',)


@pytest.mark.parametrize("tools", ["text", {"a": 1}, None, [7], ["a"]])
def test_a_value_that_is_not_a_list_of_objects_is_an_rpc_error(tools: Any) -> None:
    with pytest.raises(RpcError):
        parse_component_list(
            TOOLS,
            PrefixMapping("fs"),
            [jsonrpc.decode_object(json.dumps({"tools": tools}).encode())],
            0.0,
        )


@pytest.mark.parametrize("tools", [[], [{"title": "no name"}], [{"name": 7}]])
def test_items_without_a_name_are_left_out(tools: Any) -> None:
    page = jsonrpc.decode_object(json.dumps({"tools": tools}).encode())
    assert parse_component_list(TOOLS, PrefixMapping("fs"), [page], 0.0).items == ()


def test_backends_come_in_the_order_of_their_names_each_in_its_own_order() -> None:
    catalog = Catalog()
    catalog.put("b", TOOLS, _listing(TOOLS, "b", "z", "a"))
    catalog.put("a", TOOLS, _listing(TOOLS, "a", "y", "x"))
    assert [tool["name"] for tool in _shown(catalog, TOOLS)["tools"]] == [
        "a_y",
        "a_x",
        "b_z",
        "b_a",
    ]


def test_a_clash_is_logged_and_served_by_the_first_backend() -> None:
    catalog = Catalog()
    catalog.put("two", TOOLS, _listing(TOOLS, "", "a_x", "y"))
    catalog.put("one", TOOLS, _listing(TOOLS, "a", "x"))
    assert [tool["name"] for tool in _shown(catalog, TOOLS)["tools"]] == ["a_x", "y"]
    assert catalog.owner(TOOLS, "a_x") == "one"
    assert catalog.clashes() == ["tools: a_x of backend two is hidden by backend one"]


def test_a_clashing_name_is_served_by_no_backend_if_the_policy_is_fail() -> None:
    catalog = Catalog(serves_clashes=False)
    catalog.put("two", TOOLS, _listing(TOOLS, "", "a_x", "y"))
    catalog.put("one", TOOLS, _listing(TOOLS, "a", "x", "z"))
    assert [tool["name"] for tool in _shown(catalog, TOOLS)["tools"]] == ["a_z", "y"]
    assert catalog.owner(TOOLS, "a_x") is None
    assert catalog.claimed_by(TOOLS, "a_x") == ("one", "two")
    assert catalog.claimed_by(TOOLS, "y") == ()
    told = "tools: a_x is offered by the backends one, two and served by none of them"
    assert catalog.clashes() == [told]
    catalog.put("one", TOOLS, None)
    assert catalog.owner(TOOLS, "a_x") == "two"
    assert catalog.clashes() == []


def test_a_clash_logs_one_warning_with_both_backends_and_the_remedy(
    caplog: pytest.LogCaptureFixture,
) -> None:
    catalog = Catalog()
    for names in (["a_x"], ["a_x"], ["a_x", "y\x1b[2J"]):
        catalog.put("two", TOOLS, _listing(TOOLS, "", *names))
        catalog.put("one", TOOLS, _listing(TOOLS, "a", "x"))
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    said = record.getMessage()
    assert "tools: a_x of backend two is hidden by backend one" in said
    assert "change the prefix" in said
    catalog.put("three", TOOLS, _listing(TOOLS, "", "y\x1b[2J"))
    assert "\x1b" not in caplog.text


def test_a_name_too_long_for_clients_is_noted_and_a_long_uri_is_not() -> None:
    catalog = Catalog()
    catalog.put("a", TOOLS, _listing(TOOLS, "a", "x" * 62, "y" * 63))
    catalog.put("a", RESOURCES, _listing(RESOURCES, "a", "s://" + "x" * 100))
    assert catalog.clashes() == [f"tools: a_{'y' * 63} of backend a has more than 64 characters"]


def test_storing_an_equal_value_is_not_a_change() -> None:
    catalog = Catalog()
    assert catalog.put("a", TOOLS, _listing(TOOLS, "a", "x"))
    assert not catalog.put("a", TOOLS, _listing(TOOLS, "a", "x", now=9.0))
    assert catalog.put("a", TOOLS, _listing(TOOLS, "a", "x", "y"))


def test_a_change_that_clients_do_not_see_is_not_announced() -> None:
    catalog = Catalog()
    catalog.put("one", TOOLS, _listing(TOOLS, "a", "x"))
    assert not catalog.put("two", TOOLS, _listing(TOOLS, "", "a_x"))
    assert not catalog.put("three", TOOLS, _listing(TOOLS, "c"))


def test_removing_a_snapshot_hands_its_names_to_the_next() -> None:
    catalog = Catalog()
    catalog.put("one", TOOLS, _listing(TOOLS, "a", "x"))
    catalog.put("two", TOOLS, _listing(TOOLS, "", "a_x"))
    catalog.put("one", TOOLS, None)
    assert catalog.owner(TOOLS, "a_x") == "two"
    assert catalog.clashes() == []
    assert not catalog.put("one", TOOLS, None)


def test_a_legacy_list_has_no_caching_fields() -> None:
    catalog = Catalog()
    assert _shown(catalog, PROMPTS) == {"prompts": []}


@pytest.mark.parametrize(
    ("ttl", "scope", "now", "expected"),
    [
        (5000, "public", 0.0, (5000, "public")),
        (5000, "public", 2.0, (3000, "public")),
        (5000, "public", 60.0, (0, "public")),
        (5000, "private", 0.0, (5000, "private")),
        (5000, None, 0.0, (5000, "private")),
        (-5, "public", 0.0, (0, "public")),
        ("soon", "public", 0.0, (0, "public")),
        (None, "public", 0.0, (0, "public")),
    ],
)
def test_m3_the_ttl_hint_is_the_remaining_ttl_of_the_backend(
    ttl: Any, scope: str | None, now: float, expected: tuple[int, str]
) -> None:
    catalog = Catalog()
    catalog.put("a", TOOLS, _listing(TOOLS, "a", "x", ttlMs=ttl, cacheScope=scope))
    result = _shown(catalog, TOOLS, modern=True, now=now)
    assert (result["ttlMs"], result["cacheScope"]) == expected
    assert result["resultType"] == "complete"


def test_m3_the_shortest_ttl_applies_and_one_private_part_makes_the_list_private() -> None:
    catalog = Catalog()
    catalog.put("a", TOOLS, _listing(TOOLS, "a", "x", ttlMs=9000, cacheScope="public"))
    catalog.put("b", TOOLS, _listing(TOOLS, "b", "x", ttlMs=400, cacheScope="private"))
    result = _shown(catalog, TOOLS, modern=True)
    assert (result["ttlMs"], result["cacheScope"]) == (400, "private")


def test_m3_pages_of_one_list_agree_on_the_shortest_time() -> None:
    pages = [
        _page(TOOLS, "x", ttlMs=900, cacheScope="public"),
        _page(TOOLS, "y", ttlMs=100, cacheScope="private"),
    ]
    component_list = parse_component_list(TOOLS, PrefixMapping("a"), pages, 0.0)
    assert (component_list.ttl_ms, component_list.public) == (100, False)


def test_m3_an_empty_list_without_a_backend_must_not_be_cached() -> None:
    result = _shown(Catalog(), TOOLS, modern=True)
    assert (result["ttlMs"], result["cacheScope"]) == (0, "private")


def test_unknown_counts_are_absent_and_zero_means_empty() -> None:
    catalog = Catalog()
    assert catalog.counts("a") is None
    catalog.put("a", TOOLS, _listing(TOOLS, "a", "x", "y"))
    catalog.put("a", TEMPLATES, _listing(TEMPLATES, "a"))
    result = catalog.counts("a")
    assert result is not None
    assert result.to_manifest() == {"tools": 2, "resourceTemplates": 0}


def test_the_digest_changes_only_with_visible_definitions() -> None:
    catalog = Catalog()
    empty = catalog.digest()
    catalog.put("a", TOOLS, _listing(TOOLS, "a", "x"))
    item = catalog.digest()
    catalog.put("a", TOOLS, _listing(TOOLS, "a", "x", now=5.0, ttlMs=7))
    assert catalog.digest() == item != empty
    catalog.put("a", TOOLS, None)
    assert catalog.digest() == empty


def test_arguments_for_headers_are_known_by_the_downstream_name() -> None:
    schema = {"properties": {"r": {"type": "string", "x-mcp-header": "Region"}}}
    content = {"tools": [{"name": "x", "inputSchema": schema}, {"name": "y"}]}
    page = jsonrpc.decode_object(json.dumps(content).encode())
    catalog = Catalog()
    catalog.put("a", TOOLS, parse_component_list(TOOLS, PrefixMapping("a"), [page], 0.0))
    assert catalog.header_properties("a", "a_x") == [(("r",), "Region")]
    assert catalog.header_properties("a", "a_y") == catalog.header_properties("b", "x") == []


def test_merging_nothing_is_an_empty_list() -> None:
    assert merge_lists(TOOLS, {}).body == b"[]"


def test_capabilities_are_the_union_of_all() -> None:
    item = {"tools": {"listChanged": False}, "logging": {}, "experimental": {"a": {"x": 1}}}
    other = {"resources": {"subscribe": True}, "experimental": {"b": {}}}
    assert merge_capabilities([item, other]) == {
        "tools": {"listChanged": True},
        "logging": {},
        "resources": {"subscribe": True, "listChanged": True},
        "experimental": {"a": {"x": 1}, "b": {}},
    }


def test_lists_can_change_even_if_the_only_server_denies_it() -> None:
    offer = {"tools": {"listChanged": False}, "completions": {}}
    assert merge_capabilities([offer]) == {"tools": {"listChanged": True}, "completions": {}}


def test_a_capability_flag_is_offered_if_any_backend_offers_it() -> None:
    yes, no = {"resources": {"subscribe": True}}, {"resources": {"subscribe": False}}
    for offers in ([yes, no], [no, yes]):
        assert merge_capabilities(offers)["resources"]["subscribe"] is True


def test_an_unreached_server_may_add_list_capabilities() -> None:
    assert merge_capabilities([UNKNOWN, {"tools": {}}]) == {
        "tools": {"listChanged": True},
        "prompts": {"listChanged": True},
        "resources": {"listChanged": True, "subscribe": True},
        "completions": {},
        "logging": {},
    }


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([], None),
        ([("a", "")], None),
        ([("a", "Do."), ("b", "")], "Do."),
        ([("a", "Do."), ("", "Don't.")], "## a\n\nDo.\n\nDon't."),
    ],
)
def test_instructions_of_several_servers_are_one_text(
    texts: list[tuple[str, str]], expected: str | None
) -> None:
    assert merge_instructions(texts) == expected


def test_tokens_of_a_component_with_an_integer_of_thousands_of_digits_are_estimated() -> None:
    item = b'{"name": "x", "inputSchema": {"maximum": %b}}' % (b"9" * 5000)
    assert count_tokens(item) == tokens_of_size(len(item))
