"""Rewriting touches what names a component, and nothing else."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from mcpproxy.limits.backends import RESULT_ITEMS
from mcpproxy.limits.clients import NAME_LENGTH
from mcpproxy.proxy.core.errors import ProtocolError
from mcpproxy.proxy.core.translation.namespacing import PrefixMapping
from mcpproxy.proxy.core.translation.request_names import component_ref, to_upstream_params
from mcpproxy.proxy.core.translation.result_names import (
    to_downstream_error,
    to_downstream_message,
    to_downstream_result,
)
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import RpcError

NAMES = PrefixMapping("fs")
BARE = PrefixMapping("")
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
SCALARS = st.none() | st.booleans() | st.integers() | TEXT
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=6
)
OTHERS = st.dictionaries(TEXT.filter(lambda key: key not in ("name", "uri", "ref")), VALUES)


def _params(content: dict[str, Any]) -> jsonrpc.Message:
    return jsonrpc.decode_object(json.dumps(content).encode())


def test_a_result_of_too_many_items_is_refused_before_any_is_rewritten() -> None:
    most, reached = RESULT_ITEMS.value, RESULT_ITEMS.reached
    block = b'{"type":"resource_link","uri":"a:b"}'
    right = b'{"content":[%b]}' % b",".join([block] * most)
    assert b"fs" in bytes(to_downstream_result("tools/call", Raw(right), NAMES))
    with pytest.raises(ProtocolError, match=str(most)):
        to_downstream_result("tools/call", Raw(b'{"content":[%b,1]}' % right[12:-2]), NAMES)
    assert RESULT_ITEMS.reached == reached + 1


@given(OTHERS, TEXT)
def test_only_the_name_changes_towards_the_backend(others: dict[str, Any], name: str) -> None:
    params = _params({**others, "name": f"fs_{name}"})
    upstream_params = to_upstream_params("tools/call", params, NAMES, f"fs_{name}")
    assert jsonrpc.decode_str(upstream_params["name"]) == name
    assert {k: v for k, v in upstream_params.items() if k != "name"} == {
        k: v for k, v in params.items() if k != "name"
    }
    assert list(upstream_params) == list(params)


@pytest.mark.parametrize(
    ("method", "member"),
    [
        ("tools/call", "name"),
        ("prompts/get", "name"),
        ("resources/read", "uri"),
        ("resources/subscribe", "uri"),
        ("resources/unsubscribe", "uri"),
    ],
)
def test_every_routed_method_names_the_component_in_its_own_member(
    method: str, member: str
) -> None:
    outward, own = ("fs_x", "x") if member == "name" else ("s://fs/x", "s://x")
    params = _params({member: outward})
    assert component_ref(method, params)[0] == outward
    assert to_upstream_params(method, params, NAMES, outward) == _params({member: own})


@pytest.mark.parametrize(
    ("ref", "own"),
    [
        ({"type": "ref/prompt", "name": "fs_p", "x": 1}, {"type": "ref/prompt", "name": "p"}),
        ({"type": "ref/resource", "uri": "s://fs/{a}"}, {"type": "ref/resource", "uri": "s://{a}"}),
    ],
)
def test_a_completion_is_routed_by_its_reference(ref: dict[str, Any], own: dict[str, Any]) -> None:
    params = _params({"ref": ref, "argument": {"name": "a", "value": "b"}})
    upstream_params = to_upstream_params(
        "completion/complete", params, NAMES, component_ref("completion/complete", params)[0]
    )
    assert json.loads(bytes(upstream_params["ref"])) == {**ref, **own}
    assert upstream_params["argument"] == params["argument"]


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("tools/call", {}),
        ("tools/call", {"name": 7}),
        ("tools/call", {"name": None}),
        ("resources/read", {"name": "x"}),
        ("completion/complete", {}),
        ("completion/complete", {"ref": "text"}),
        ("completion/complete", {"ref": {"type": "ref/tool", "name": "x"}}),
        ("completion/complete", {"ref": {"type": "ref/prompt", "uri": "x"}}),
    ],
)
def test_a_request_that_names_no_component_is_refused(method: str, params: dict[str, Any]) -> None:
    with pytest.raises(RpcError) as caught:
        component_ref(method, _params(params))
    assert caught.value.code == jsonrpc.INVALID_PARAMS


@pytest.mark.parametrize(
    ("method", "field"),
    [
        ("tools/call", "params.name"),
        ("prompts/get", "params.name"),
        ("resources/read", "params.uri"),
        ("resources/subscribe", "params.uri"),
        ("completion/complete", "params.ref.uri"),
    ],
)
def test_an_overlong_name_or_uri_is_refused_with_the_name_of_its_field(
    method: str, field: str
) -> None:
    def asked(size: int) -> jsonrpc.Message:
        member = field.rpartition(".")[2]
        named = {member: "d" * size}
        return _params({"ref": {"type": "ref/resource", **named}} if "ref" in field else named)

    most, reached = NAME_LENGTH.value, NAME_LENGTH.reached
    assert len(component_ref(method, asked(most))[0]) == most
    with pytest.raises(RpcError) as caught:
        component_ref(method, asked(most + 1))
    assert caught.value.code == jsonrpc.INVALID_PARAMS
    assert caught.value.message == (f"{field} has {most + 1} characters; the maximum is {most}")
    assert NAME_LENGTH.reached == reached + 1


def test_a_name_of_another_backend_is_refused() -> None:
    with pytest.raises(RpcError):
        to_upstream_params("tools/call", _params({"name": "db_x"}), NAMES, "db_x")


def _result(content: Any) -> Raw:
    return Raw(json.dumps(content).encode())


RESULTS: list[tuple[str, Any, Any]] = [
    (
        "tools/call",
        {"content": [{"type": "resource_link", "uri": "s://a", "x": 1}], "y": 2},
        {"content": [{"type": "resource_link", "uri": "s://fs/a", "x": 1}], "y": 2},
    ),
    (
        "tools/call",
        {"content": [{"type": "resource", "resource": {"uri": "s://a", "text": "t"}}]},
        {"content": [{"type": "resource", "resource": {"uri": "s://fs/a", "text": "t"}}]},
    ),
    (
        "tools/call",
        {
            "content": [{"type": "text", "text": '{"uri":"s://a"}', "uri": "s://a"}],
            "structuredContent": {"uri": "s://a"},
            "_meta": {"uri": "s://a"},
        },
        None,
    ),
    (
        "prompts/get",
        {
            "messages": [
                {"role": "user", "content": {"type": "resource", "resource": {"uri": "s://a"}}},
                {"role": "user", "content": {"type": "text", "text": "hi"}},
            ]
        },
        {
            "messages": [
                {"role": "user", "content": {"type": "resource", "resource": {"uri": "s://fs/a"}}},
                {"role": "user", "content": {"type": "text", "text": "hi"}},
            ]
        },
    ),
    (
        "resources/read",
        {"contents": [{"uri": "s://a", "blob": "AA=="}, {"uri": "mailto:x"}, {"text": "no uri"}]},
        {
            "contents": [
                {"uri": "s://fs/a", "blob": "AA=="},
                {"uri": "mailto:fs/x"},
                {"text": "no uri"},
            ]
        },
    ),
    ("completion/complete", {"completion": {"values": ["s://a"]}, "uri": "s://a"}, None),
    ("tools/call", {"resultType": "input_required", "inputRequests": {"uri": {}}}, None),
]


@pytest.mark.parametrize(("method", "own", "shown"), RESULTS)
def test_results_name_uris_as_clients_know_them(method: str, own: Any, shown: Any) -> None:
    downstream_result = to_downstream_result(method, _result(own), NAMES)
    assert json.loads(bytes(downstream_result)) == (own if shown is None else shown)


@pytest.mark.parametrize(("method", "own", "shown"), RESULTS)
def test_without_a_prefix_results_stay_the_bytes_they_were(
    method: str, own: Any, shown: Any
) -> None:
    raw = _result(own)
    assert to_downstream_result(method, raw, BARE) is raw


def test_a_field_name_with_escapes_is_also_rewritten() -> None:
    raw = Raw(b'{"content":[{"type":"resource_link","\\u0075ri":"s://a"}]}')
    assert b"s://fs/a" in bytes(to_downstream_result("tools/call", raw, NAMES))


@given(OTHERS, st.lists(VALUES, max_size=3))
def test_s26_every_value_that_contains_no_uri_keeps_its_bytes(
    others: dict[str, Any], extra: list[Any]
) -> None:
    link = b'{"type":"resource_link","uri":"s://a"}'
    block = json.dumps({"type": "text", "text": extra}).encode()
    rest = json.dumps({**others, "big": 10**40, "float": "1.10"}).encode()[1:]
    raw = Raw(b'{"content":[%b,%b],' % (link, block) + rest)
    document = jsonrpc.decode_object(to_downstream_result("tools/call", raw, NAMES))
    before = jsonrpc.decode_object(raw)
    if "content" not in others:
        shown, kept = jsonrpc.decode_array(document.pop("content"))
        assert bytes(kept) == block
        assert bytes(shown) == link.replace(b"s://a", b"s://fs/a")
    before.pop("content")
    document.pop("content", None)
    assert document == before


@pytest.mark.parametrize(
    "content", [None, 7, "text", {"uri": "s://a"}, [7, None, "uri"], [[{"uri": "s://a"}]]]
)
def test_a_result_of_an_unusual_shape_is_forwarded_unchanged(content: Any) -> None:
    own = {"content": content, "uri": "s://a"}
    assert json.loads(bytes(to_downstream_result("tools/call", _result(own), NAMES))) == own


@pytest.mark.parametrize("result", [b'"\\"uri\\""', b'["uri"]', b"null", b"7"])
def test_a_result_that_is_not_an_object_is_forwarded_unchanged(result: bytes) -> None:
    assert bytes(to_downstream_result("tools/call", Raw(result), NAMES)) == result


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        ({"code": -32602, "message": "m", "data": {"uri": "s://a", "x": 1}}, "s://fs/a"),
        ({"code": -32002, "message": "m", "data": {"uri": "s://a"}}, "s://fs/a"),
        ({"code": -32000, "message": "m", "data": {"uri": "s://a"}}, "s://a"),
    ],
)
def test_an_error_about_a_missing_resource_names_it_as_the_client_did(
    error: dict[str, Any], shown: str
) -> None:
    document = json.loads(bytes(to_downstream_error(_result(error), NAMES)))
    assert document == {**error, "data": {**error["data"], "uri": shown}}


@pytest.mark.parametrize("data", [["uri"], "uri", {"x": "uri"}, 7])
def test_other_data_of_errors_passes(data: Any) -> None:
    error = _result({"code": -32602, "message": '"uri"', "data": data})
    assert json.loads(bytes(to_downstream_error(error, NAMES)))["data"] == data


def test_an_update_names_the_resource_as_clients_know_it() -> None:
    message = jsonrpc.parse(
        b'{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"s://a"}}'
    )
    assert b"s://fs/a" in bytes(to_downstream_message(message, NAMES)["params"])
    assert to_downstream_message(message, BARE) is message


def test_other_notifications_pass() -> None:
    message = jsonrpc.parse(
        b'{"jsonrpc":"2.0","method":"notifications/message","params":{"uri":"s://a"}}'
    )
    assert to_downstream_message(message, NAMES) is message
