"""Lists for clients that declare capabilities: merged, routed, and kept once where equal."""

import json
from typing import Any

from mcpproxy.proxy.core.catalog.catalog import Catalog
from mcpproxy.proxy.core.catalog.component_list import ComponentList, parse_component_list
from mcpproxy.proxy.core.catalog.list_variant import EVERYONE, ListVariant
from mcpproxy.proxy.core.translation.namespacing import PrefixMapping
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.kinds import PROMPTS, RESOURCES, TOOLS, ComponentKind

SAMPLING = b'{"sampling":{}}'
ROOTS = b'{"roots":{}}'


def _listing(
    kind: ComponentKind, prefix: str, *keys: str, now: float = 0.0, **members: Any
) -> ComponentList:
    content = {kind.member: [{kind.key: key} for key in keys], **members}
    return parse_component_list(
        kind, PrefixMapping(prefix), [jsonrpc.decode_object(json.dumps(content).encode())], now
    )


def _listed(catalog: Catalog, kind: ComponentKind, audience: ListVariant) -> bytes:
    return b"".join(catalog.list_result_parts(kind, modern=False, now=0.0, audience=audience))


def _shown(catalog: Catalog, audience: ListVariant, kind: ComponentKind = TOOLS) -> list[str]:
    document = json.loads(
        b"".join(catalog.list_result_parts(kind, modern=False, now=0.0, audience=audience))
    )
    return [item[kind.key] for item in document[kind.member]]


def _two_backends() -> Catalog:
    catalog = Catalog()
    catalog.put("a", TOOLS, _listing(TOOLS, "a", "x"))
    catalog.put("b", TOOLS, _listing(TOOLS, "b", "x"))
    return catalog


def test_a_list_variant_replaces_the_common_lists() -> None:
    catalog = _two_backends()
    asking = ListVariant({"a": SAMPLING, "b": SAMPLING})
    assert _shown(catalog, asking) == _shown(catalog, EVERYONE) == ["a_x", "b_x"]
    assert catalog.put("a", TOOLS, _listing(TOOLS, "a", "sample"), SAMPLING)
    assert _shown(catalog, asking) == ["a_sample", "b_x"]
    assert _shown(catalog, EVERYONE) == ["a_x", "b_x"]
    assert _shown(catalog, ListVariant({"a": ROOTS})) == ["a_x", "b_x"]


def test_a_list_variant_includes_changes_of_backends_without_variants() -> None:
    catalog = _two_backends()
    asking = ListVariant({"a": SAMPLING})
    catalog.put("a", TOOLS, _listing(TOOLS, "a", "sample"), SAMPLING)
    assert _shown(catalog, asking) == ["a_sample", "b_x"]
    catalog.put("b", TOOLS, _listing(TOOLS, "b", "x", "y"))
    assert _shown(catalog, asking) == ["a_sample", "b_x", "b_y"]
    catalog.put("b", TOOLS, None)
    assert _shown(catalog, asking) == ["a_sample"]


def test_a_list_variant_equal_to_the_common_list_is_not_a_change() -> None:
    catalog = Catalog()
    names = [f"t{n}" for n in range(1000)]
    catalog.put("a", TOOLS, _listing(TOOLS, "a", *names))
    plain = catalog.result(TOOLS, modern=False, now=0.0)
    for number in range(20):
        seen = b'{"experimental":{"n":%d}}' % number
        assert not catalog.put("a", TOOLS, _listing(TOOLS, "a", *names, now=1.0), seen)
        everyones, own = catalog.get("a", TOOLS), catalog.get("a", TOOLS, seen)
        assert everyones is not None
        assert own is not None
        assert own.fetched_at == 1.0
        assert own.items is everyones.items
        assert own.names is everyones.names
        audience = ListVariant({"a": seen})
        assert (
            b"".join(catalog.list_result_parts(TOOLS, modern=False, now=0.0, audience=audience))
            == plain
        )
        assert catalog._body(TOOLS, audience) is catalog._body(TOOLS, EVERYONE)


def test_equal_items_and_equal_merged_lists_are_kept_once() -> None:
    catalog = Catalog()
    catalog.put("a", TOOLS, _listing(TOOLS, "a", "x", "y"))
    for seen in (SAMPLING, ROOTS):
        catalog.put("a", TOOLS, _listing(TOOLS, "a", "x", "more", "y"), seen)
    everyones, sampling, roots = catalog.known("a", TOOLS)
    assert sampling.items is roots.items
    assert sampling.items[0] is everyones.items[0]
    assert sampling.items[2] is everyones.items[1]
    audiences = [ListVariant({"a": seen}) for seen in (SAMPLING, ROOTS)]
    item, other = (catalog._body(TOOLS, audience) for audience in audiences)
    assert item is other


def test_fetching_an_equal_list_keeps_the_shared_bytes() -> None:
    catalog = Catalog()
    catalog.put("a", TOOLS, _listing(TOOLS, "a", "x"))
    before = catalog.get("a", TOOLS)
    catalog.put("a", TOOLS, _listing(TOOLS, "a", "x", now=7.0))
    after = catalog.get("a", TOOLS)
    assert before is not None
    assert after is not None
    assert (after.items is before.items, after.fetched_at) == (True, 7.0)


def test_only_a_change_that_clients_see_is_announced() -> None:
    catalog = _two_backends()
    assert catalog.put("a", TOOLS, _listing(TOOLS, "a", "x", "s"), SAMPLING)
    assert not catalog.put("a", TOOLS, _listing(TOOLS, "a", "x", "s", now=2.0), SAMPLING)
    assert catalog.put("a", TOOLS, None, SAMPLING)
    assert not catalog.put("a", TOOLS, None, SAMPLING)


def test_a_component_of_one_list_variant_belongs_to_the_backend_that_lists_it() -> None:
    catalog = Catalog()
    catalog.put("a", TOOLS, _listing(TOOLS, "", "x"))
    catalog.put("b", TOOLS, _listing(TOOLS, "", "y"))
    assert catalog.owner(TOOLS, "sample") is None
    catalog.put("b", TOOLS, _listing(TOOLS, "", "y", "sample"), SAMPLING)
    assert catalog.owner(TOOLS, "sample") == "b"
    assert catalog.owner(PROMPTS, "sample") is None
    catalog.put("b", TOOLS, None, SAMPLING)
    assert catalog.owner(TOOLS, "sample") is None


def test_a_component_of_one_list_variant_does_not_take_the_name_of_a_common_one() -> None:
    catalog = Catalog()
    catalog.put("b", TOOLS, _listing(TOOLS, "", "x"))
    catalog.put("a", TOOLS, _listing(TOOLS, "", "x", "y"), SAMPLING)
    asking = ListVariant({"a": SAMPLING, "b": SAMPLING})
    assert catalog.owner(TOOLS, "x") == "b"
    assert _shown(catalog, asking) == ["y", "x"]
    assert catalog.clashes() == ["tools: x of backend a is hidden by backend b"]


def test_a_clash_in_one_list_variant_is_served_by_the_first_backend() -> None:
    catalog = Catalog()
    catalog.put("b", TOOLS, _listing(TOOLS, "", "x"), SAMPLING)
    catalog.put("a", TOOLS, _listing(TOOLS, "", "x"), ROOTS)
    assert catalog.owner(TOOLS, "x") == "a"
    assert _shown(catalog, ListVariant({"b": SAMPLING})) == []
    assert _shown(catalog, ListVariant({"a": ROOTS})) == ["x"]
    assert catalog.clashes() == ["tools: x of backend b is hidden by backend a"]


def test_a_clash_in_one_list_variant_is_served_by_no_backend_if_the_policy_is_fail() -> None:
    catalog = Catalog(serves_clashes=False)
    catalog.put("b", TOOLS, _listing(TOOLS, "", "x", "y"), SAMPLING)
    catalog.put("a", TOOLS, _listing(TOOLS, "", "x"), ROOTS)
    catalog.put("c", TOOLS, _listing(TOOLS, "", "z"))
    catalog.put("a", TOOLS, _listing(TOOLS, "", "x", "z"), ROOTS)
    assert catalog.claimed_by(TOOLS, "x") == ("a", "b")
    assert _shown(catalog, ListVariant({"b": SAMPLING})) == ["y", "z"]
    assert _shown(catalog, ListVariant({"a": ROOTS})) == ["z"]
    assert catalog.clashes() == [
        "tools: x is offered by the backends a, b and served by none of them",
        "tools: z of backend a is hidden by backend c",
    ]


def test_a_clash_or_a_long_name_is_logged_once_regardless_of_the_number_of_variants() -> None:
    catalog = Catalog()
    catalog.put("a", TOOLS, _listing(TOOLS, "", "x"))
    catalog.put("b", TOOLS, _listing(TOOLS, "", "x"))
    for seen in (SAMPLING, ROOTS):
        catalog.put("b", TOOLS, _listing(TOOLS, "", "x", "y" * 65), seen)
    assert catalog.clashes() == [
        "tools: x of backend b is hidden by backend a",
        f"tools: {'y' * 65} of backend b has more than 64 characters",
    ]


def test_counts_and_the_digest_describe_the_common_lists() -> None:
    catalog = _two_backends()
    digest, counts = catalog.digest(), catalog.counts("a")
    catalog.put("a", TOOLS, _listing(TOOLS, "a", "x", "y", "z"), SAMPLING)
    catalog.put("a", PROMPTS, _listing(PROMPTS, "a", "p"), SAMPLING)
    assert (catalog.digest(), catalog.counts("a")) == (digest, counts)


def test_m3_the_ttl_hint_is_that_of_the_shown_lists() -> None:
    catalog = Catalog()
    hint: dict[str, Any] = {"ttlMs": 9000, "cacheScope": "public"}
    catalog.put("a", TOOLS, _listing(TOOLS, "a", "x", **hint))
    catalog.put("b", TOOLS, _listing(TOOLS, "b", "x", **hint))
    own: dict[str, Any] = {"ttlMs": 500, "cacheScope": "private"}
    catalog.put("a", TOOLS, _listing(TOOLS, "a", "y", **own), SAMPLING)
    results = [
        json.loads(
            b"".join(catalog.list_result_parts(TOOLS, modern=True, now=0.0, audience=audience))
        )
        for audience in (EVERYONE, ListVariant({"a": SAMPLING}))
    ]
    assert [(item["ttlMs"], item["cacheScope"]) for item in results] == [
        (9000, "public"),
        (500, "private"),
    ]


def test_arguments_for_headers_are_known_for_tools_of_list_variants() -> None:
    def tool(name: str, header: str | None) -> dict[str, Any]:
        result: dict[str, Any] = {"type": "string"}
        if header is not None:
            result["x-mcp-header"] = header
        return {"name": name, "inputSchema": {"properties": {"r": result}}}

    def put(*tools: dict[str, Any], seen: bytes | None = None) -> None:
        page = jsonrpc.decode_object(json.dumps({"tools": tools}).encode())
        catalog.put("a", TOOLS, parse_component_list(TOOLS, PrefixMapping("a"), [page], 0.0), seen)

    catalog = Catalog()
    put(tool("x", "Everyone"), tool("plain", None))
    put(tool("x", "Some"), tool("plain", "Some"), tool("only", "Only"), seen=SAMPLING)
    assert catalog.header_properties("a", "a_x") == [(("r",), "Everyone")]
    assert catalog.header_properties("a", "a_plain") == []
    assert catalog.header_properties("a", "a_only") == [(("r",), "Only")]
    assert catalog.header_properties("b", "a_only") == []


def test_objects_of_different_kinds_are_kept_apart() -> None:
    catalog = Catalog()
    catalog.put("a", RESOURCES, _listing(RESOURCES, "a", "s://x"), SAMPLING)
    asking = ListVariant({"a": SAMPLING})
    assert _shown(catalog, asking, RESOURCES) == ["s://a/x"]
    assert _shown(catalog, asking) == _shown(catalog, EVERYONE, RESOURCES) == []
