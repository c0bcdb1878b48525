"""A large result passes as it is only if clients see nothing in it changed."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from mcpproxy.proxy.core.translation.namespacing import PrefixMapping
from mcpproxy.proxy.core.translation.plain_results import is_tool_error, plain_response_id
from mcpproxy.proxy.core.translation.result_names import to_downstream_result
from mcpproxy.proxy.gateway.routing.router import map_response_bytes
from mcpproxy.proxy.http1.client.connection import ClientResponse
from mcpproxy.proxy.http1.media_types import JSON
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.upstream.transports.session import (
    HttpExchange,
    ServerDescription,
    UpstreamRequest,
)
from tests.support.examples import examples

NAMES = PrefixMapping("fs")
SERVER = ServerDescription("2025-11-25", {})
LONG = "x" * 5000
KEYS = st.sampled_from(
    [
        "type",
        "text",
        "uri",
        "resource",
        "_meta",
        "mimeType",
        "ui/resourceUri",
        "\\u0075ri",
        "isError",
    ]
)
URIS = st.sampled_from(["resource_link", "resource", "text", "file:///a", "", 7, None, True])
BLOCKS = st.recursive(
    URIS, lambda inner: st.dictionaries(KEYS, inner) | st.lists(inner), max_leaves=8
)
RESULTS = st.fixed_dictionaries(
    {"content": st.lists(BLOCKS, max_size=3)},
    optional={
        "_meta": BLOCKS,
        "structuredContent": BLOCKS,
        "isError": st.sampled_from([True, False, None, "true"]),
        "taskId": st.just("t"),
        "task": BLOCKS,
        "resultType": st.just("complete"),
    },
)


def _response(result: str) -> bytes:
    return f'{{"jsonrpc":"2.0","id":7,"result":{result}}}'.encode()


@given(RESULTS)
@settings(max_examples=examples(500))
def test_a_plain_result_has_nothing_that_clients_see_changed(result: dict[str, Any]) -> None:
    # An escape in a key is one in the text, as a backend may write it.
    text = json.dumps(result).replace("\\\\u0075", "\\u0075")
    if plain_response_id(_response(text)) is not None:
        raw = Raw(text.encode())
        # Values that are rewritten lose the spaces between their fields.
        mapped = to_downstream_result("tools/call", raw, NAMES)
        assert json.loads(bytes(mapped)) == json.loads(bytes(raw))
        assert not is_tool_error(raw)


@pytest.mark.parametrize(
    "result",
    [
        '{"content":[{"type":"text","text":"a"}]}',
        '{"content":[{"type":"text","text":"uri\\": \\"taskId\\" \\u0075ri"}],"isError":false}',
        '{"content":[{"type":"image","data":"","mimeType":"image/png","annotations":{"uri":1}}]}',
        '{"content":[],"structuredContent":{"uri":"file:///a","isError":true}}',
    ],
)
def test_texts_and_structured_content_are_plain_whatever_they_say(result: str) -> None:
    assert plain_response_id(_response(result)) == Raw(b"7")


@pytest.mark.parametrize(
    "result",
    [
        '{"content":[{"type":"resource_link","uri":"file:///a"}]}',
        '{"content":[{"type":"resource_link","\\u0075ri":"file:///a"}]}',
        '{"content":[{"type":"resource","resource":{"uri":"file:///a"}}]}',
        '{"content":[{"type":"text","text":"","_meta":{"ui":{"resourceUri":"ui://a"}}}]}',
        '{"content":[],"_meta":{"ui/resourceUri":"ui://a"}}',
        '{"content":[],"task":{"taskId":"t"}}',
        '{"taskId":"t"}',
        '{"content":[],"isError":true}',
        '{"content":[],"isError": null}',
        '{"content":{}}',
        '{"content":[],"content":[{"type":"resource_link","uri":"file:///a"}],"content":[]}',
        "null",
    ],
)
def test_a_result_that_may_change_is_not_plain(result: str) -> None:
    assert plain_response_id(_response(result)) is None


@pytest.mark.parametrize(
    "body",
    [
        b'{"jsonrpc":"2.0","id":7,"error":{}}',
        b'{"jsonrpc":"1.0","id":7,"result":{"content":[]}}',
        b'{"jsonrpc":"2.0","id":7,"method":"ping","result":{"content":[]}}',
        b'{"jsonrpc":"2.0","id":7,"result":{"content":[{"type":"\xff"}]}}',
        b'{"jsonrpc":"2.0","id":7,"result":{"content":[]}} ]',
        b'{"jsonrpc":"2.0","id":7,"result":{"content":[%b]}}' % b",".join([b'{"type":1}'] * 60_000),
    ],
)
def test_malformed_and_huge_responses_are_not_plain(body: bytes) -> None:
    assert plain_response_id(body) is None


def _mapped(result: str, upstream_id: bytes = b"7") -> bytes | None:
    body = _response(result)
    response = ClientResponse(None)  # type: ignore[arg-type]
    response.complete_with((200, {}, JSON), body)
    request = UpstreamRequest(Raw(b"7"), "tools/call")
    own_id = request.id if upstream_id == b"7" else Raw(upstream_id)
    exchange = HttpExchange(None, request, own_id, response)  # type: ignore[arg-type]
    return map_response_bytes(exchange, request, SERVER, NAMES)


def test_a_large_plain_response_keeps_its_bytes() -> None:
    result = f'{{ "content": [{{"type": "text", "text": "{LONG}"}}] }}'
    assert _mapped(result) == _response(result)


@pytest.mark.parametrize(
    "result",
    [
        f'{{"content":[{{"type":"text","text":"{LONG}"}},{{"type":"resource_link","uri":"a:b"}}]}}',
        f'{{"content":[{{"type":"text","text":"{LONG}"}}],"isError":true}}',
        f'{{"content":[{{"type":"text","text":"{LONG}"}}],"isError" : true}}',
        '{"content":[],"isError":true}',
        '{"content":[],"isError" : true}',
    ],
)
def test_a_response_with_a_uri_or_an_error_of_the_tool_is_decoded(result: str) -> None:
    assert _mapped(result) is None


def test_a_large_response_with_the_id_of_another_request_is_refused() -> None:
    result = f'{{"content":[{{"type":"text","text":"{LONG}"}}]}}'
    assert _mapped(result, upstream_id=b"8") is None


@pytest.mark.parametrize(
    "result", ['{"structuredContent":{"isError":true},"content":[]}', '{"isError": false}']
)
def test_only_a_flag_of_the_result_itself_marks_an_error(result: str) -> None:
    assert _mapped(result) == _response(result)
    assert jsonrpc.parse_result_fast(_response(result)) is not None
