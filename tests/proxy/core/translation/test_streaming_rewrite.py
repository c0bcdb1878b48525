"""Responses that go on part by part: what comes out is what rewriting the whole gives."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from mcpproxy.proxy.core.translation.era_translation import (
    fields_of_modern_results,
    to_modern_result,
)
from mcpproxy.proxy.core.translation.namespacing import PrefixMapping
from mcpproxy.proxy.core.translation.result_names import to_downstream_result
from mcpproxy.proxy.core.translation.streaming_rewrite import (
    MAX_HELD,
    MalformedJson,
    StreamingRewriter,
)
from mcpproxy.proxy.protocol import jsonrpc
from tests.support.examples import examples

MINE = Raw(b'"mine"')
TEXT = st.text(max_size=12)
VALUE: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
URI = st.sampled_from(["file:///a", "note:b", "x", "note://ü/\u2028", 'q:"\\'])


def typed(kind: str, **members: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects that begin with their type."""
    rest = st.fixed_dictionaries({**members, "_meta": VALUE})
    return rest.map(lambda result: {"type": kind, **result})


BLOCK = st.one_of(
    typed("text", text=TEXT, uri=URI, resource=st.fixed_dictionaries({"uri": URI})),
    typed("image", data=TEXT),
    typed("resource_link", name=TEXT, uri=URI | VALUE),
    typed("resource", resource=st.fixed_dictionaries({"uri": URI, "blob": TEXT}) | VALUE),
    VALUE,
)
RESULTS = {
    "tools/call": st.fixed_dictionaries(
        {"content": st.lists(BLOCK, max_size=4) | VALUE, "structuredContent": VALUE}
    ),
    "prompts/get": st.fixed_dictionaries(
        {"messages": st.lists(typed("x", content=BLOCK), max_size=3), "description": TEXT}
    ),
    "resources/read": st.fixed_dictionaries(
        {"contents": st.lists(st.fixed_dictionaries({"uri": URI, "text": TEXT}), max_size=3)}
    ),
    "completion/complete": VALUE,
}
METHOD = st.sampled_from(sorted(RESULTS))


def streamed(
    body: bytes,
    sizes: list[int],
    method: str,
    prefix: str,
    added: dict[str, Raw] | None = None,
) -> tuple[bytes, StreamingRewriter]:
    """Return the output for parts of these sizes, repeated."""
    rewriter = StreamingRewriter(MINE, method, PrefixMapping(prefix), added=added)
    out, at, turn = b"", 0, 0
    while at < len(body):
        size = sizes[turn % len(sizes)]
        out += rewriter.feed(body[at : at + size])
        at, turn = at + size, turn + 1
    return out, rewriter


@settings(max_examples=examples(400), deadline=None)
@given(
    st.data(),
    METHOD,
    st.lists(st.integers(1, 40), min_size=1, max_size=4),
    st.sampled_from(["", "p"]),
    st.booleans(),
    st.sampled_from([None, 2]),
    st.permutations(["jsonrpc", "id", "result"]),
)
def test_rewriting_any_chunks_equals_rewriting_the_whole(
    data: st.DataObject,
    method: str,
    sizes: list[int],
    prefix: str,
    ascii_only: bool,
    indent: int | None,
    order: list[str],
) -> None:
    result = data.draw(RESULTS[method])
    members = {"jsonrpc": "2.0", "id": 7, "result": result}
    message = {name: members[name] for name in order}
    body = json.dumps(message, ensure_ascii=ascii_only, indent=indent).encode()
    out, actual = streamed(body, sizes, method, prefix)
    whole = to_downstream_result(method, Raw(json.dumps(result).encode()), PrefixMapping(prefix))
    assert json.loads(out) == {**message, "id": "mine", "result": json.loads(bytes(whole))}
    assert list(json.loads(out)) == order
    assert actual.complete
    assert actual.kind == "result"


@settings(max_examples=examples(200), deadline=None)
@given(
    st.data(),
    METHOD,
    st.lists(st.integers(1, 40), min_size=1, max_size=4),
    st.sampled_from(["", "p"]),
    st.dictionaries(st.sampled_from(["resultType", "ttlMs", "cacheScope", "x"]), VALUE),
    st.booleans(),
)
def test_a_result_that_arrives_in_parts_gets_the_fields_of_the_modern_era(
    data: st.DataObject,
    method: str,
    sizes: list[int],
    prefix: str,
    own: dict[str, Any],
    comes_first: bool,
) -> None:
    drawn = data.draw(RESULTS[method])
    content = drawn if isinstance(drawn, dict) else {}
    result = {**own, **content} if comes_first else {**content, **own}
    body = json.dumps({"jsonrpc": "2.0", "id": 7, "result": result}, indent=2).encode()
    out, _ = streamed(body, sizes, method, prefix, fields_of_modern_results(method))
    renamed = to_downstream_result(method, Raw(json.dumps(result).encode()), PrefixMapping(prefix))
    whole = json.loads(bytes(to_modern_result(method, renamed)))
    assert json.loads(out) == {"jsonrpc": "2.0", "id": "mine", "result": whole}


@pytest.mark.parametrize("result", [b"[1]", b"1 ", b'"x"', b'"%b"' % (b"x" * (MAX_HELD + 1))])
def test_a_result_of_another_type_gets_no_fields(result: bytes) -> None:
    body = b'{"jsonrpc":"2.0","id":7,"result":%b}' % result
    with pytest.raises(MalformedJson):
        streamed(body, [100_000], "x/y", "", fields_of_modern_results("x/y"))


def test_all_values_except_ids_and_uris_keep_their_bytes() -> None:
    body = b'{ "id" :1e0,"x":1.50, "result":{"content" : [ {"type":"resource_link","uri":"a:b"} ,\n'
    body += b'{"type":"text","text":"\\u0041"}],"content2":[{"uri":"a:b"}] }}\r\n'
    out, _ = streamed(body, [3], "tools/call", "p")
    assert out == body.replace(b"1e0", b'"mine"').replace(b'"uri":"a:b"} ,', b'"uri":"a:p/b"} ,')


def test_a_long_string_is_not_held() -> None:
    rewriter = StreamingRewriter(MINE, "tools/call", PrefixMapping("p"))
    rewriter.feed(b'{"id":1,"result":{"content":[{"type":"text","text":"')
    for _ in range(100):
        assert len(rewriter.feed(b"x" * 5000)) == 5000


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ({"jsonrpc": "2.0", "id": 1, "result": {}}, "result"),
        ({"jsonrpc": "2.0", "id": 1, "error": {}}, "error"),
        ({"error": {"result": 1}, "id": 1}, "error"),
        ({"method": "x", "params": {"result": 1}}, "method"),
        ({"id": 1}, ""),
    ],
)
def test_the_fields_of_a_message_determine_its_kind(message: Any, kind: str) -> None:
    _, result = streamed(json.dumps(message).encode(), [4], "tools/call", "p")
    assert result.kind == kind


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"7 ",
        b'"x"',
        b'{"id":1}{"id":2}',
        b'{"id":1} 2',
        b'{"id":1]',
        b"}",
        b'{"result":{"content":[}]}',
        b'{"id":1,"%b' % (b"k" * (MAX_HELD + 9)),
        b'{"result":{"content":[{"type":"resource_link","uri":"%b' % (b"u" * (MAX_HELD + 9)),
    ],
)
def test_a_request_that_cannot_be_forwarded_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedJson):
        streamed(body, [1000], "tools/call", "p")


@pytest.mark.parametrize("cut", range(1, 60))
def test_a_truncated_message_is_incomplete(cut: int) -> None:
    body = b'{"id":1,"result":{"content":[{"type":"text","text":"abc"}]}}'
    assert not streamed(body[:-cut], [7], "tools/call", "p")[1].complete


@pytest.mark.parametrize("cut", [1, 7, 64, 10_000])
@pytest.mark.parametrize(
    ("block", "shown"),
    [
        ({"uri": "plain", "type": "resource_link"}, {"uri": "p/plain", "type": "resource_link"}),
        ({"uri": "plain", "type": "x"}, {"uri": "plain", "type": "x"}),
        ({"uri": "plain", "n": 1}, {"uri": "plain", "n": 1}),
        (
            {"resource": {"uri": "plain", "text": "t"}, "type": "resource"},
            {"resource": {"uri": "p/plain", "text": "t"}, "type": "resource"},
        ),
        (
            {"resource": {"uri": "plain"}, "uri": "plain", "type": "text"},
            {"resource": {"uri": "plain"}, "uri": "plain", "type": "text"},
        ),
    ],
)
def test_a_type_member_after_a_uri_member_still_decides_about_it(
    block: Any, shown: Any, cut: int
) -> None:
    blocks = [block, {"type": "text", "text": "between"}, block]
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"content": blocks}}).encode()
    streamed = StreamingRewriter(Raw(b"7"), "tools/call", PrefixMapping("p"))
    parts = [body[at : at + cut] for at in range(0, len(body), cut)]
    document = json.loads(b"".join(map(streamed.feed, parts)))
    assert streamed.complete
    assert document["result"]["content"] == [shown, blocks[1], shown]


PLACES = (
    b'{"type":"resource_link","uri":"file:///caf@"}',
    b'{"type":"text","caf@":1}',
    b'{"type":"caf@","uri":"file:///x"}',
    b'{"type":"text","text":"caf@"}',
)


@pytest.mark.parametrize("cut", [1, 7, 10_000])
@pytest.mark.parametrize("bad", [b"\xe9", b"\\ud800"])
@pytest.mark.parametrize("block", PLACES)
def test_a_string_that_is_not_unicode_is_repaired_as_in_a_small_result(
    block: bytes, bad: bytes, cut: int
) -> None:
    body = b'{"jsonrpc":"2.0","id":1,"result":{"content":[%b]}}' % block.replace(b"@", bad)
    out, actual = streamed(body, [cut], "tools/call", "p")
    whole = jsonrpc.parse_bounded(body)["result"]
    expected = json.loads(bytes(to_downstream_result("tools/call", whole, PrefixMapping("p"))))
    shown = json.loads(out.replace(b"\\ud800", b"\\ufffd"))
    assert shown["result"] == expected
    assert actual.complete


@pytest.mark.parametrize("block", PLACES[:3])
def test_a_string_that_cannot_be_decoded_is_refused(block: bytes) -> None:
    body = b'{"id":1,"result":{"content":[%b]}}' % block.replace(b"@", b"\\x")
    with pytest.raises(MalformedJson):
        streamed(body, [7], "tools/call", "p")
