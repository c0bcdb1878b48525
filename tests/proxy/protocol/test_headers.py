"""MCP's HTTP headers: what they stand for survives the way."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpproxy.proxy.protocol.headers import (
    accepts,
    decode_value,
    encode_value,
    header_properties,
    param_headers,
)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_value_survives_encoding_in_a_header(text: str) -> None:
    assert decode_value(encode_value(text)) == text


@given(st.text())
def test_s6_no_text_can_end_a_header_line(text: str) -> None:
    assert all(0x20 <= byte <= 0x7E for byte in encode_value(text))


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ("plain_name", b"plain_name"),
        ("two words", b"two words"),
        (" padded", b"=?base64?IHBhZGRlZA==?="),
        ("", b""),
        ("café", b"=?base64?Y2Fmw6k=?="),
        ("a\r\nX-Evil: 1", b"=?base64?YQ0KWC1FdmlsOiAx?="),
        ("=?base64?YQ==?=", b"=?base64?PT9iYXNlNjQ/WVE9PT89?="),
    ],
)
def test_only_values_unsafe_in_headers_are_in_base64(text: str, header: bytes) -> None:
    assert encode_value(text) == header


@pytest.mark.parametrize(
    "header", [b"=?base64?***?=", b"=?base64?YQ?=", b"=?base64?YR==?=", b"=?base64?/w==?="]
)
def test_invalid_base64_has_no_value(header: bytes) -> None:
    assert decode_value(header) is None


SCHEMA = {
    "type": "object",
    "properties": {
        "region": {"type": "string", "x-mcp-header": "Region"},
        "limit": {"type": "integer", "x-mcp-header": "Limit"},
        "where": {
            "type": "object",
            "properties": {"dry": {"type": "boolean", "x-mcp-header": "Dry-Run"}},
        },
        "bad token": {"type": "string", "x-mcp-header": "two words"},
        "ratio": {"type": "number", "x-mcp-header": "Ratio"},
        "list": {"type": "array", "items": {"type": "string", "x-mcp-header": "Item"}},
    },
}


def test_properties_with_a_header_are_only_found_below_properties() -> None:
    assert sorted(header_properties(SCHEMA)) == [
        (("limit",), "Limit"),
        (("region",), "Region"),
        (("where", "dry"), "Dry-Run"),
    ]


@pytest.mark.parametrize("schema", [None, [], "text", {"properties": 7}, {"properties": {"a": 1}}])
def test_schemas_of_any_shape_are_searched_without_errors(schema: Any) -> None:
    assert list(header_properties(schema)) == []


def test_arguments_are_repeated_in_headers_and_absent_ones_are_not() -> None:
    arguments = {"region": "süd", "limit": 3, "where": {"dry": True}}
    headers = dict(param_headers(header_properties(SCHEMA), arguments))
    assert headers == {
        b"mcp-param-region": encode_value("süd"),
        b"mcp-param-limit": b"3",
        b"mcp-param-dry-run": b"true",
    }
    assert param_headers(header_properties(SCHEMA), {"region": None, "where": 7}) == []
    assert param_headers(header_properties(SCHEMA), None) == []


@pytest.mark.parametrize(
    ("header", "admitted"),
    [
        (None, True),
        (b"*/*", True),
        (b"application/*", True),
        (b"Application/JSON; q=0.5, text/html", True),
        (b"application/json;q=0", False),
        (b"application/json; q=0.000", False),
        (b"text/event-stream", False),
        (b"", False),
    ],
)
def test_an_accept_header_admits_a_type_or_not(header: bytes | None, admitted: bool) -> None:
    assert accepts(header, b"application/json") is admitted
