"""Envelopes: read one level deep, everything else stays the bytes it was."""

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import INVALID_REQUEST, PARSE_ERROR, RpcError

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=8
)


def _code(body: bytes) -> int:
    with pytest.raises(RpcError) as caught:
        jsonrpc.parse(body)
    return caught.value.code


@pytest.mark.parametrize(
    "body",
    [
        b'{"jsonrpc":"2.0","id":1,"method":"ping"}',
        b'{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{}}',
        b'{"jsonrpc":"2.0","id":-7,"method":"ping"}',
        b'{"jsonrpc":"2.0","method":"notifications/initialized"}',
        b'{"jsonrpc":"2.0","id":1,"result":{}}',
        b'{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"no"}}',
        b'{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"no"}}',
        b' {"jsonrpc" : "2.0", "id" : 1, "method" : "ping", "x" : [1, 2]} ',
    ],
)
def test_a_message_is_read_with_its_values_as_they_were(body: bytes) -> None:
    message = jsonrpc.parse(body)
    assert {name: json.loads(bytes(raw)) for name, raw in message.items()} == json.loads(body)
    assert all(bytes(raw) in body for raw in message.values())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nonsense",
        b'{"jsonrpc":"2.0","id":1,"method":"ping"} trailing',
        b'{"jsonrpc":"2.0","id":1,"method":"p\xff"}',
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":}}',
        b'{"a":' * 100_000,
        b'{"jsonrpc":"2.0","id":1,"method":"x","params":' + b'{"a":' * 100_000,
    ],
)
def test_s4_invalid_json_is_a_parse_error(body: bytes) -> None:
    assert _code(body) == PARSE_ERROR


@pytest.mark.parametrize(
    "body",
    [
        b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]',
        b"[]",
        b"[" * 100_000,
        b"7",
        b'"text"',
        b"null",
        b"{}",
        b'{"id":1,"method":"ping"}',
        b'{"jsonrpc":"1.0","id":1,"method":"ping"}',
        b'{"jsonrpc":2.0,"id":1,"method":"ping"}',
        b'{"jsonrpc":"2.0","id":1}',
        b'{"jsonrpc":"2.0"}',
        b'{"jsonrpc":"2.0","id":null,"method":"ping"}',
        b'{"jsonrpc":"2.0","id":true,"method":"ping"}',
        b'{"jsonrpc":"2.0","id":1.5,"method":"ping"}',
        b'{"jsonrpc":"2.0","id":{},"method":"ping"}',
        b'{"jsonrpc":"2.0","id":[1],"result":{}}',
        b'{"jsonrpc":"2.0","id":1,"method":7}',
        b'{"jsonrpc":"2.0","id":1,"method":"x","params":[1]}',
        b'{"jsonrpc":"2.0","id":1,"method":"x","params":"text"}',
        b'{"jsonrpc":"2.0","result":{}}',
        b'{"jsonrpc":"2.0","id":null,"result":{}}',
        b'{"jsonrpc":"2.0","id":null,"result":{},"error":{"code":1,"message":"a"}}',
        b'{"jsonrpc":"2.0","id":1,"result":{},"error":{"code":1,"message":""}}',
    ],
)
def test_s4_several_messages_are_an_invalid_request(body: bytes) -> None:
    assert _code(body) == INVALID_REQUEST


@given(st.binary(max_size=200) | VALUES.map(lambda result: json.dumps(result).encode()))
def test_s4_any_bytes_are_a_message_or_an_rpc_error(body: bytes) -> None:
    try:
        message = jsonrpc.parse(body)
    except RpcError:
        return
    assert message["jsonrpc"] == jsonrpc.VERSION


@given(st.binary(max_size=100))
def test_readers_of_parts_fail_with_rpc_errors_only(raw: bytes) -> None:
    for read in (jsonrpc.decode_object, jsonrpc.decode_array):
        try:
            read(raw)
        except RpcError:
            continue
    assert jsonrpc.decode_str(raw) is None or isinstance(jsonrpc.decode_str(raw), str)
    jsonrpc.decode(raw)


@pytest.mark.parametrize(
    "read", [jsonrpc.decode_object, jsonrpc.decode_array, jsonrpc.decode, jsonrpc.decode_str]
)
def test_s4_numbers_of_any_size_break_no_reader(read: Any) -> None:
    huge = b"9" * 5000
    for raw in (huge, b'{"a":%b}' % huge, b"[%b]" % huge, b"[1e%b]" % huge):
        try:
            read(raw)
        except RpcError:
            continue


@given(st.dictionaries(TEXT, VALUES))
def test_changing_one_member_keeps_the_others_unchanged(members: dict[str, Any]) -> None:
    raw = json.dumps(members).encode()
    changed = jsonrpc.replace_member(raw, mcpproxy="x", absent=None)
    document = jsonrpc.decode_object(changed)
    before = jsonrpc.decode_object(raw)
    assert document.pop("mcpproxy") == Raw(b'"x"')
    before.pop("mcpproxy", None)
    before.pop("absent", None)
    assert document == before


def test_big_integers_and_unusual_encodings_survive_a_change() -> None:
    raw = b'{"a": 123456789012345678901234567890, "b": 1.10, "c": "\\u00e9"}'
    changed = bytes(jsonrpc.replace_member(raw, d=True))
    assert b"123456789012345678901234567890" in changed
    assert b"1.10" in changed
    assert b'"\\u00e9"' in changed


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ({"code": -5, "message": "no", "data": [1]}, (-5, "no", [1])),
        ({"code": -5}, (-5, "", None)),
        ({"message": "no code"}, (jsonrpc.INTERNAL_ERROR, None, None)),
        (["no object"], (jsonrpc.INTERNAL_ERROR, None, None)),
    ],
)
def test_the_error_of_a_response_is_read_whatever_it_looks_like(
    error: Any, expected: tuple[int, str | None, Any]
) -> None:
    result = jsonrpc.error_of({"error": jsonrpc.encode_raw(error)}, understood=True)
    assert result is not None
    assert (result.code, result.data) == (expected[0], expected[2])
    assert expected[1] is None or result.message == expected[1]


def test_a_failure_of_an_unknown_request_has_a_null_id() -> None:
    body = json.loads(jsonrpc.error_response(None, RpcError(PARSE_ERROR, "no", {"a": 1})))
    assert body == {
        "jsonrpc": "2.0",
        "id": None,
        "error": {"code": PARSE_ERROR, "message": "no", "data": {"a": 1}},
    }


def test_numbers_have_one_encoding_except_for_fractions_and_exponents() -> None:
    text = b' { "b" : [1.0, 1e999999, 18446744073709551617], "\\u0061" : "\\u00e9" } '
    assert (
        jsonrpc.canonicalize(text) == '{"a":"é","b":[1.0,1e999999,18446744073709551617]}'.encode()
    )
    assert jsonrpc.canonicalize(jsonrpc.canonicalize(text)) == jsonrpc.canonicalize(text)


def test_a_value_is_encoded_in_memory_independent_of_its_depth() -> None:
    size = 100_000
    text = b'{"a":' * 300 + b'"%b"' % (b"x" * size) + b"}" * 300
    tracemalloc.start()
    try:
        assert jsonrpc.canonicalize(text) == text
        assert tracemalloc.get_traced_memory()[1] < 10 * size
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("text", [b"{", b"[" * 100_000, b"9" * 100_000])
def test_a_value_that_cannot_be_encoded_is_refused(text: bytes) -> None:
    with pytest.raises(RpcError):
        jsonrpc.canonicalize(text)


def test_the_data_of_an_error_is_not_read() -> None:
    size = 300_000
    data = b"[%b1]" % (b"[]," * (size // 3))
    error = b'{"code":-5,"message":"no","data":%b}' % data
    tracemalloc.start()
    try:
        result = jsonrpc.error_of(jsonrpc.parse(b'{"jsonrpc":"2.0","id":1,"error":%b}' % error))
        assert tracemalloc.get_traced_memory()[1] < 5 * size
    finally:
        tracemalloc.stop()
    assert result is not None
    assert (result.code, result.message, bytes(result.data)) == (-5, "no", data)
    assert jsonrpc.error_response(b"1", result) == b'{"jsonrpc":"2.0","id":1,"error":%b}' % error


@pytest.mark.parametrize(
    "text",
    [b'"caf\xe9"', b'"caf\xe9\\n"', b'["caf\xe9"]', b'{"caf\xe9":1}', b'"\xed\xa0\x80"'],
)
def test_a_value_with_other_bytes_than_utf_8_counts_as_malformed(text: bytes) -> None:
    assert jsonrpc.decode_str(text) is None
    assert jsonrpc.decode(text) is None
    for refusing in (jsonrpc.canonicalize, jsonrpc.decode_object):
        with pytest.raises(RpcError):
            refusing(text)
    assert jsonrpc.error_of({"error": Raw(b'{"code":1,"message":%b}' % text)}) is not None
    assert jsonrpc.id_key(text) == text


def test_a_number_with_other_bytes_than_utf_8_cannot_be_an_id() -> None:
    assert not jsonrpc.is_id(Raw(b"1\xe9"))


def test_a_version_with_escapes_is_read_by_both_parsers_or_by_none() -> None:
    body = rb'{"jsonrpc":"2\u002e0","id":1,"method":"tools/call","params":{"name":"x"}}'
    assert jsonrpc.parse_request_fast(body) is not None
    assert jsonrpc.parse(body)["jsonrpc"] == jsonrpc.VERSION
    with pytest.raises(RpcError):
        jsonrpc.parse(body.replace(rb"2\u002e0", rb"2\u002e1"))
