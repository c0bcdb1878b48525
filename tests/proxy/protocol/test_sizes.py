"""Members and items are counted without keeping them, and too many are refused early."""

import functools
import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpproxy.limits.http import ENVELOPE_MEMBERS
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import INVALID_PARAMS, INVALID_REQUEST, RpcError
from mcpproxy.proxy.protocol.sizes import exceeds

MOST = ENVELOPE_MEMBERS.value
VALUES = st.recursive(
    st.none() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=12,
)


@functools.cache
def _members(count: int) -> bytes:
    return b",".join(b'"%x":1' % number for number in range(count))


def _call(params: bytes, envelope: bytes = b"") -> bytes:
    return b'{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{%b}%b}' % (params, envelope)


@given(VALUES, st.integers(0, 6), st.sampled_from([None, 1]))
def test_no_other_number_than_the_right_one_is_found(
    value: object, most: int, indent: int | None
) -> None:
    text = json.dumps(value, indent=indent).encode()
    size = len(value) if isinstance(value, list | dict) else 0
    assert exceeds(text, most) is (size > most)


@given(VALUES, st.integers(0, 100))
def test_a_truncated_object_has_at_most_the_fields_of_the_whole(value: object, cut: int) -> None:
    text = json.dumps(value).encode()
    assert exceeds(text, 2) or not exceeds(text[:cut], 2)


@pytest.mark.parametrize("text", [b"", b" ", b"{", b"[", b"{,,,,}", b"[,,,]", b'{"a",1,2,3}'])
def test_invalid_json_does_not_count_as_too_many_fields(text: bytes) -> None:
    assert not exceeds(text, 1)


@pytest.mark.parametrize(
    ("params", "is_envelope", "code"),
    [
        (b"", True, INVALID_REQUEST),
        (b"", False, INVALID_PARAMS),
        (b'"arguments":{"a":{}},"_meta":{},', False, INVALID_PARAMS),
    ],
)
def test_a_message_of_too_many_members_is_refused_before_it_takes_room(
    params: bytes, is_envelope: bool, code: int
) -> None:
    many = _members(200_000)
    body = _call(b"", b"," + many) if is_envelope else _call(params + many)
    reached = ENVELOPE_MEMBERS.reached
    tracemalloc.start()
    try:
        assert jsonrpc.parse_request_fast(body) is None
        with pytest.raises(RpcError, match="more than 1024 fields") as caught:
            jsonrpc.decode_object(jsonrpc.parse(body)["params"])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert caught.value.code == code
    assert peak < 2 * len(body)
    assert ENVELOPE_MEMBERS.reached == reached + 1


def test_the_limit_is_exact_and_arguments_do_not_count() -> None:
    named = b'"name":"a","arguments":{%b}' % _members(5 * MOST)
    assert jsonrpc.parse_request_fast(_call(named)) is not None
    most = _call(named + b"," + _members(MOST - 2))
    assert len(jsonrpc.decode_object(jsonrpc.parse(most)["params"])) == MOST
    shortest = b",".join([b'"":1'] * (MOST + 1))
    for more in (_call(named + b"," + _members(MOST - 1)), _call(shortest)):
        assert jsonrpc.parse_request_fast(more) is None
        with pytest.raises(RpcError):
            jsonrpc.decode_object(jsonrpc.parse(more)["params"])


def test_items_of_a_list_are_counted_without_keeping_them() -> None:
    text = b"[%b]" % b",".join([b"1"] * 1_000_000)
    tracemalloc.start()
    try:
        assert jsonrpc.length(text, 100) == 101
        assert tracemalloc.get_traced_memory()[1] < 2 * len(text)
    finally:
        tracemalloc.stop()
    assert jsonrpc.length(b"[{},[1,2,3],4]", 3) == 3
    assert jsonrpc.length(None, 3) == 0
    with pytest.raises(RpcError):
        jsonrpc.length(b'"no list"', 3)
