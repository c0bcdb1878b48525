"""HTML: every text is inert, whatever a backend or client sends."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpproxy.api.authority import is_loopback, names_this_machine
from mcpproxy.pages.html import Html, join, tag, untrusted, untrusted_lines
from mcpproxy.pages.security import Visit

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</pre><iframe srcdoc='<script>1</script>'>",
    "' onmouseover='alert(1)",
    "javascript:alert(1)",
    "<!--",
    "]]>",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_escaped_in_content_and_in_attributes(text: str) -> None:
    for markup in (tag("p", text), untrusted(text), untrusted_lines(text)):
        inner = markup.removeprefix("<p>").removesuffix("</p>")
        inner = inner.removeprefix("<bdi>").removesuffix("</bdi>")
        assert not set(inner) & set("<>\"'")
    attribute = tag("a", href=text).removeprefix('<a href="').removesuffix('"></a>')
    assert not set(attribute) & set("<>\"'")


@given(st.text())
def test_no_text_can_end_its_element(text: str) -> None:
    for markup in (untrusted(text), untrusted_lines(text, 50), tag("p", text, title=text)):
        assert markup.count("<") == 2
        assert markup.count(">") == 2


def test_markup_is_not_escaped_again() -> None:
    assert tag("p", tag("b", "a&b")) == "<p><b>a&amp;b</b></p>"
    assert join((Html("<br>"), "<", None)) == "<br>&lt;"


def test_marks_that_reorder_or_hide_text_are_replaced() -> None:
    shown = untrusted("pay\u202eeoj\u200b\x00\x1b[31m")
    assert shown == "<bdi>pay\ufffdeoj\ufffd\ufffd\ufffd[31m</bdi>"


def test_a_long_text_is_cut() -> None:
    assert len(untrusted("x" * 100_000)) < 1100
    cut = untrusted_lines("a\nb", 2000)
    assert cut == "<bdi>a\nb\n… 1,997 more characters</bdi>"


def test_attributes_that_are_false_are_left_out() -> None:
    assert tag("input", hidden=True, disabled=False, id=None, data_of=3) == (
        '<input hidden data-of="3">'
    )


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1", "::1%lo"])
def test_connections_from_the_same_machine_are_local(address: str) -> None:
    assert is_loopback(address)


@pytest.mark.parametrize("address", ["10.0.0.1", "::ffff:10.0.0.1", "fe80::1", "", "x", None])
def test_other_connections_are_not_local(address: str | None) -> None:
    assert not is_loopback(address)


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:9090",
        "LOCALHOST.",
        "a.localhost:1",
        "127.0.0.1:80",
        "[::1]:9",
        "10.1.2.3",
    ],
)
def test_localhost_and_addresses_name_this_machine(host: str) -> None:
    assert names_this_machine(host)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example:9090",
        "evil.example@localhost",
        "localhost:x",
        "notlocalhost",
        "0x7f.1",
        "",
        None,
    ],
)
def test_names_that_can_be_rebound_do_not_name_this_machine(host: str | None) -> None:
    assert not names_this_machine(host)


def test_a_visitor_from_elsewhere_needs_permission_and_a_plain_host() -> None:
    from_elsewhere = Visit("10.0.0.9", "10.0.0.1", "10.0.0.1:9090")
    refused = from_elsewhere.refusal(anywhere=False)
    assert refused is not None
    assert refused[0] == 403
    assert "mcpproxy open" in refused[1]
    assert from_elsewhere.refusal(anywhere=True) is None
    rebound = from_elsewhere._replace(host="evil.example").refusal(anywhere=True)
    assert rebound is not None
    assert rebound[0] == 421
    assert Visit("127.0.0.1", "127.0.0.1", "localhost").refusal(anywhere=False) is None


@pytest.mark.parametrize("peer", ["127.0.0.6", "127.0.0.1", "::1"])
def test_a_connection_from_the_sidecar_of_a_service_mesh_is_not_local(peer: str) -> None:
    refused = Visit(peer, "10.0.0.1", "localhost").refusal(anywhere=False)
    assert refused is not None
    assert refused[0] == 403
