"""Digests of components, what differs from the approved ones, and what is withheld."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from mcpproxy.api.catalog_digests import NAMED, CatalogDigests, approved_hash
from mcpproxy.limits.backends import TEMPLATE_EXPRESSIONS
from mcpproxy.limits.http import COMPARED_VALUE
from mcpproxy.proxy.core.catalog.approval import ApprovalFilter
from mcpproxy.proxy.core.catalog.catalog import Catalog
from mcpproxy.proxy.core.catalog.component_list import ComponentList, parse_component_list
from mcpproxy.proxy.core.catalog.digests import component_digest, differences
from mcpproxy.proxy.core.translation.namespacing import PrefixMapping
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.kinds import KINDS, PROMPTS, RESOURCES, TEMPLATES, TOOLS, ComponentKind

DECLARED = b'{"sampling":{}}'


def _listing(kind: ComponentKind, /, *names: str, **changed: str) -> ComponentList:
    """Components by their own names; of those in `changed` the text is another one."""
    items = [{kind.key: name, "description": changed.get(name, "d")} for name in names]
    page = jsonrpc.decode_object(json.dumps({kind.member: items}).encode())
    return parse_component_list(kind, PrefixMapping("p"), [page], 0.0)


def _offering(**listed: ComponentList) -> Catalog:
    catalog = Catalog()
    for kind in KINDS:
        if kind.member in listed:
            catalog.put("p", kind, listed[kind.member])
    return catalog


def _approved(approved: CatalogDigests, on_offer: Callable[[], None] = lambda: None) -> Catalog:
    return Catalog(catalog_filter=ApprovalFilter(approved), on_offer=on_offer)


def _shown(catalog: Catalog, kind: ComponentKind) -> list[Any]:
    document = json.loads(catalog.result(kind, modern=False, now=0.0))
    return [item[kind.key] for item in document[kind.member]]


def test_a_digest_does_not_depend_on_the_order_of_members_or_on_the_encoding() -> None:
    item = component_digest('{"name":"é","inputSchema":{"a":1,"b":[1,2]}}'.encode())
    assert item == component_digest(b'{ "inputSchema": {"b":[1, 2],"a":1}, "name" : "\\u00e9"}')
    assert item != component_digest('{"name":"é","inputSchema":{"a":1,"b":[2,1]}}'.encode())


def test_values_too_large_to_parse_are_equal_only_if_their_bytes_are() -> None:
    before = COMPARED_VALUE.reached
    large = "x" * COMPARED_VALUE.value
    item = component_digest(f'{{"name":"a","description":"{large}"}}'.encode())
    assert item == component_digest(f'{{"name":"a","description":"{large}"}}'.encode())
    assert item != component_digest(f'{{"description":"{large}","name":"a"}}'.encode())
    assert COMPARED_VALUE.reached == before + 3


def test_the_hash_of_a_catalog_is_that_of_its_digests_whatever_their_order() -> None:
    catalog = _offering(tools=_listing(TOOLS, "a", "b"), prompts=_listing(PROMPTS, "q"))
    other = _offering(tools=_listing(TOOLS, "b", "a"), prompts=_listing(PROMPTS, "q"))
    assert catalog.digest() == other.digest() == approved_hash(catalog.digests())
    assert [*catalog.digests()["tools"]] == ["p_a", "p_b"]
    changed = _offering(tools=_listing(TOOLS, "a", "b", b="x"), prompts=_listing(PROMPTS, "q"))
    assert changed.digest() != catalog.digest()


def test_a_duplicate_component_changes_the_digest() -> None:
    catalog = _offering(tools=_listing(TOOLS, "a"))
    before = catalog.digest()
    doubled = _listing(TOOLS, "a", a="evil")
    first = _listing(TOOLS, "a")
    both = ComponentList(items=first.items + doubled.items, names=first.names + doubled.names)
    assert catalog.put("p", TOOLS, both)
    assert catalog.digest() != before


def test_new_changed_and_removed_components_are_named() -> None:
    approved = _offering(tools=_listing(TOOLS, "same", "changed", "gone")).digests()
    result = _offering(
        tools=_listing(TOOLS, "same", "changed", "new", changed="x"), prompts=_listing(PROMPTS, "q")
    ).digests()
    drift = differences(approved, result, whole=True)
    assert drift.new is not None
    assert drift.new.names == ["prompts: p_q", "tools: p_new"]
    assert drift.changed is not None
    assert drift.changed.names == ["tools: p_changed"]
    assert drift.gone is not None
    assert drift.gone.names == ["tools: p_gone"]
    assert differences(approved, result, whole=False).gone is None
    assert not differences(approved, approved, whole=True).to_manifest()


def test_only_the_first_of_many_differences_are_named_and_all_are_counted() -> None:
    many = {"tools": {f"t{n:03}": "a" for n in range(100)}}
    drift = differences({}, many, whole=True).new
    assert drift is not None
    assert (drift.count, len(drift.names)) == (100, NAMED)


@pytest.mark.parametrize("kind", KINDS)
def test_new_and_changed_components_of_every_kind_are_not_listed(kind: ComponentKind) -> None:
    own = [f"s://{n}" for n in "abc"] if kind.by_uri else ["a", "b", "c"]
    approved = _offering(**{kind.member: _listing(kind, *own[:2])})
    catalog = _approved(approved.digests())
    offered = _listing(kind, *own, **{own[1]: "changed"})
    assert catalog.put("p", kind, offered)
    assert _shown(catalog, kind) == [offered.names[0]]
    assert not catalog.is_withheld("p", kind, offered.names[0])
    assert all(catalog.is_withheld("p", kind, name) for name in offered.names[1:])
    assert catalog.digest() == _offering(**{kind.member: offered}).digest() != approved.digest()


def test_a_tool_that_changes_vanishes_and_comes_back_in_its_approved_form() -> None:
    told: list[int] = []
    approved = _offering(tools=_listing(TOOLS, "a", "b")).digests()
    catalog = _approved(approved, lambda: told.append(catalog.version))
    assert catalog.put("p", TOOLS, _listing(TOOLS, "a", "b"))
    assert catalog.put("p", TOOLS, _listing(TOOLS, "a", "b", b="x"))
    assert _shown(catalog, TOOLS) == ["p_a"]
    assert not catalog.put("p", TOOLS, _listing(TOOLS, "a", "b", b="y")), "clients see the same"
    assert len(set(told)) == 3, "what is withheld changed as well, and ways are found anew"
    assert catalog.put("p", TOOLS, _listing(TOOLS, "a", "b"))
    assert _shown(catalog, TOOLS) == ["p_a", "p_b"]


def test_the_log_names_withheld_components_once_for_each_change(
    caplog: pytest.LogCaptureFixture,
) -> None:
    catalog = _approved({})
    for _ in range(3):
        catalog.put("p", TOOLS, _listing(TOOLS, "a", "b"))
    (line,) = caplog.messages
    assert line == "backend p: withheld 2 of its tools because they are not approved: p_a, p_b"


def test_a_tool_is_refused_while_the_lists_of_its_backend_are_unknown() -> None:
    catalog = _approved(_offering(tools=_listing(TOOLS, "a")).digests())
    assert catalog.is_withheld("p", TOOLS, "p_a")
    assert catalog.is_withheld("p", RESOURCES, "s://p/a")


def test_list_variants_are_withheld_in_the_same_way() -> None:
    approved = _offering(tools=_listing(TOOLS, "a", "asks")).digests()
    catalog = _approved(approved)
    catalog.put("p", TOOLS, _listing(TOOLS, "a"))
    catalog.put("p", TOOLS, _listing(TOOLS, "a", "asks", "more"), DECLARED)
    assert not catalog.is_withheld("p", TOOLS, "p_asks")
    assert catalog.is_withheld("p", TOOLS, "p_more")


def test_a_uri_in_no_list_is_served_unless_it_comes_from_a_withheld_template() -> None:
    approved = _offering(
        resources=_listing(RESOURCES, "file:///a"), resourceTemplates=_listing(TEMPLATES, "n://{x}")
    )
    catalog = _approved(approved.digests())
    catalog.put("p", RESOURCES, _listing(RESOURCES, "file:///a", "n://new"))
    assert catalog.is_withheld("p", RESOURCES, "file://p//linked"), "templates are not known yet"
    catalog.put("p", TEMPLATES, _listing(TEMPLATES, "n://{x}", "e://{x}"))
    assert not catalog.is_withheld("p", RESOURCES, "file://p//linked")
    assert not catalog.is_withheld("p", RESOURCES, "n://p/1")
    assert catalog.is_withheld("p", RESOURCES, "n://p/new"), "it is listed, and not approved"
    assert catalog.is_withheld("p", RESOURCES, "e://p/1")


def test_a_withheld_template_cannot_be_used_by_a_uri_that_is_not_well_formed() -> None:
    approved = _offering(resourceTemplates=_listing(TEMPLATES, "n://{x}"))
    catalog = _approved(approved.digests())
    catalog.put("p", RESOURCES, _listing(RESOURCES))
    catalog.put("p", TEMPLATES, _listing(TEMPLATES, "n://{x}", "e://{x}"))
    assert catalog.is_withheld("p", RESOURCES, "e://p/{x}")
    assert catalog.is_withheld("p", RESOURCES, "e://p/{")
    assert not catalog.is_withheld("p", RESOURCES, "n://p/{x}")
    assert not catalog.is_withheld("p", RESOURCES, "other://p/{x}")


def test_a_uri_is_withheld_where_it_cannot_be_compared_with_a_withheld_template() -> None:
    catalog = _approved({})
    catalog.put("p", RESOURCES, _listing(RESOURCES))
    catalog.put("p", TEMPLATES, _listing(TEMPLATES, "e://{x}" + "{y}" * TEMPLATE_EXPRESSIONS.value))
    assert catalog.is_withheld("p", RESOURCES, "e://p/1")
    assert not catalog.is_withheld("p", RESOURCES, "other://p/1")
