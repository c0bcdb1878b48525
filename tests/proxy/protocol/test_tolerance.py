"""Texts that are not JSON, as SDKs read them."""

import itertools
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpproxy.limits.http import REPAIRED_PLACES, REPAIRED_TEXT
from mcpproxy.proxy.protocol import jsonrpc, tolerance
from mcpproxy.proxy.protocol.jsonrpc import RpcError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def _plain(value: Any) -> Any:
    """The value as JSON in UTF-8 can express it."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        # Two lone halves side by side are one character where they are written as escapes.
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {_plain(name): _plain(entry) for name, entry in value.items()}
    return value


def _message(value: Any) -> bytes:
    return b'{"jsonrpc":"2.0","id":1,"result":{"a":%b}}' % json.dumps(value).encode()


@given(VALUES)
def test_all_json_that_python_writes_is_accepted(value: Any) -> None:
    bounded = jsonrpc.parse_bounded(_message(value))
    assert json.loads(bytes(bounded["result"]))["a"] == _plain(value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b'"\\ud83d"', b'"\\ufffd"'),
        (b'"\\ude00 \\ud83d\\ude00"', b'"\\ufffd \\ud83d\\ude00"'),
        (b'"\\ud83d\\ud83d\\ude00\\ude00"', b'"\\ufffd\\ud83d\\ude00\\ufffd"'),
        (b'"\\\\ud83d \\\\\\ud83d"', b'"\\\\ud83d \\\\\\ufffd"'),
        (b'[NaN,-Infinity,"NaN \\" Infinity",Infinity]', b'[null,null,"NaN \\" Infinity",null]'),
        (b'"\xe9"', b'"\xef\xbf\xbd"'),
        (b"\xef\xbb\xbf1", b"1"),
    ],
)
def test_only_bytes_invalid_in_json_are_replaced(text: bytes, expected: bytes) -> None:
    assert tolerance.repair_json(text, of_backend=True) == expected


@pytest.mark.parametrize("text", [b"{}", b'"NaN', b"Infinit", b'"\\ud83d\\ude00"', b"{,}"])
def test_a_text_without_anything_to_replace_is_left_unchanged(text: bytes) -> None:
    assert tolerance.repair_json(text, of_backend=True) is None


@given(st.binary(max_size=200) | st.text('NaInfity-"\\ud8c0{}[],').map(str.encode))
def test_any_bytes_are_repaired_to_the_same_when_repaired_twice(text: bytes) -> None:
    once = tolerance.repair_json(text, of_backend=True)
    if once is not None and not once.startswith(tolerance.BOM):
        assert tolerance.repair_json(once, of_backend=True) is None


def test_a_message_too_large_to_be_repaired_is_refused() -> None:
    before = REPAIRED_TEXT.reached
    for size, fits in ((REPAIRED_TEXT.value - 100, True), (REPAIRED_TEXT.value, False)):
        body = _message([math.nan, "x" * size])
        if fits:
            assert b"null" in bytes(jsonrpc.parse_bounded(body)["result"])
        else:
            with pytest.raises(RpcError):
                jsonrpc.parse_bounded(body)
    assert REPAIRED_TEXT.reached == before + 1


@pytest.mark.parametrize("place", [math.nan, "\ud83d"])
def test_a_message_with_too_much_to_repair_is_refused(place: Any) -> None:
    before = REPAIRED_PLACES.reached
    assert jsonrpc.parse_bounded(_message([place] * (REPAIRED_PLACES.value - 1)))
    with pytest.raises(RpcError):
        jsonrpc.parse_bounded(_message([place] * (REPAIRED_PLACES.value + 1)))
    assert REPAIRED_PLACES.reached == before + 1


def test_a_quotation_is_short_and_printable() -> None:
    shown = tolerance.quote(b"\x1b[31m\xff" + "\u202e".encode() + b"x" * 10_000)
    assert shown.isprintable()
    assert len(shown) < 200


@pytest.mark.parametrize(
    "body",
    [
        b'{"jsonrpc":"2.0","method":"notifications/x","params":null}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"a":NaN}}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"a":"\\ud83d"}}',
        b'\xef\xbb\xbf{"jsonrpc":"2.0","id":1,"method":"ping"}',
        b'{"jsonrpc":"2.0","error":{"code":1,"message":"no"}}',
        b'{"jsonrpc":"2.0","id":1,"error":null,"result":{}}',
        b'{"jsonrpc":"2.0","id":1,"error":"no"}',
    ],
)
def test_client_messages_that_sdk_servers_accept_are_accepted(body: bytes) -> None:
    message = jsonrpc.parse(body)
    for raw in message.values():
        assert raw != jsonrpc.NULL or "error" in message
        json.loads(bytes(raw))


@given(
    st.lists(
        st.sampled_from([b"a", b"\xe9", "é".encode(), "\U0001f600".encode(), b"\xed\xa0\x80"])
    ).map(b"".join),
    st.lists(st.integers(1, 5), min_size=1, max_size=3),
)
def test_a_text_in_parts_is_repaired_like_the_whole(text: bytes, sizes: list[int]) -> None:
    repair, repaired, at = tolerance.Utf8Repair(), b"", 0
    # The end of a JSON text is never inside of a character.
    whole = text + b'"'
    for size in itertools.cycle(sizes):
        repaired += repair.feed(whole[at : at + size])
        at += size
        if at >= len(whole):
            break
    assert repaired == whole.decode("utf-8", "replace").encode()
