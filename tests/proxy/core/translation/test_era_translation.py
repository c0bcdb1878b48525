"""Between the eras: what is added, what is taken away, and what passes."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from mcpproxy.proxy.core.exchange import ClientIdentity
from mcpproxy.proxy.core.translation.era_translation import (
    add_client_meta,
    strip_modern_fields,
    to_legacy_error,
    to_legacy_result,
    to_legacy_result_bytes,
    to_modern_error,
    to_modern_result,
    to_modern_result_bytes,
)
from mcpproxy.proxy.protocol import jsonrpc

PREFIX = "io.modelcontextprotocol/"
CLIENT = ClientIdentity("2025-11-25", b'{"sampling":{}}', b'{"name":"c","version":"1"}')


def _raw(content: Any) -> Raw:
    return Raw(json.dumps(content).encode())


def _params(content: dict[str, Any]) -> jsonrpc.Message:
    return jsonrpc.decode_object(json.dumps(content).encode())


def _plain(result: jsonrpc.Message | Raw | None) -> Any:
    return None if result is None else json.loads(jsonrpc.encode(result))


def test_a_legacy_request_gets_client_information_for_a_modern_backend() -> None:
    params = _params({"name": "t", "_meta": {"progressToken": 1, "traceparent": "00-x"}})
    assert _plain(add_client_meta(params, CLIENT, "2026-07-28", "info")) == {
        "name": "t",
        "_meta": {
            "progressToken": 1,
            "traceparent": "00-x",
            f"{PREFIX}protocolVersion": "2026-07-28",
            f"{PREFIX}clientCapabilities": {"sampling": {}},
            f"{PREFIX}clientInfo": {"name": "c", "version": "1"},
            f"{PREFIX}logLevel": "info",
        },
    }


def test_s24_capabilities_are_those_of_the_client_and_the_log_level_is_the_one_it_set() -> None:
    result = _plain(add_client_meta(None, ClientIdentity("2025-11-25"), "2026-07-28", None))
    assert result == {
        "_meta": {
            f"{PREFIX}protocolVersion": "2026-07-28",
            f"{PREFIX}clientCapabilities": {},
        }
    }


def test_s24_a_client_cannot_claim_more_in_its_params_than_it_declared() -> None:
    params = _params({"_meta": {f"{PREFIX}clientCapabilities": {"roots": {}, "sampling": {}}}})
    result = _plain(add_client_meta(params, ClientIdentity("2025-11-25"), "2026-07-28", None))
    assert result["_meta"][f"{PREFIX}clientCapabilities"] == {}


def test_s26_a_modern_request_loses_only_fields_unknown_to_a_legacy_backend() -> None:
    params = _params(
        {
            "name": "t",
            "inputResponses": {},
            "requestState": "x",
            "_meta": {
                f"{PREFIX}protocolVersion": "2026-07-28",
                f"{PREFIX}clientCapabilities": {},
                "progressToken": 1,
                "vendor.example/key": {"a": 1},
            },
        }
    )
    assert _plain(strip_modern_fields(params)) == {
        "name": "t",
        "_meta": {"progressToken": 1, "vendor.example/key": {"a": 1}},
    }


def test_an_empty_meta_is_removed_and_absent_params_stay_absent() -> None:
    params = _params({"_meta": {f"{PREFIX}protocolVersion": "2026-07-28"}})
    assert _plain(strip_modern_fields(params)) == {}
    assert strip_modern_fields(None) is None


def test_a_modern_result_loses_modern_fields_for_a_legacy_client() -> None:
    result = _raw(
        {
            "resultType": "complete",
            "ttlMs": 5,
            "cacheScope": "public",
            "content": [],
            "_meta": {f"{PREFIX}serverInfo": {}, "vendor": 1},
        }
    )
    assert _plain(to_legacy_result(result)) == {"content": [], "_meta": {"vendor": 1}}


def test_a_result_in_the_legacy_form_keeps_its_bytes() -> None:
    result = Raw(b'{ "content" : [] }')
    assert to_legacy_result(result) is result


@pytest.mark.parametrize(
    ("method", "added"),
    [
        ("tools/call", {"resultType": "complete"}),
        ("resources/read", {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}),
        ("tools/list", {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}),
    ],
)
def test_a_legacy_result_becomes_a_complete_result_that_must_not_be_cached(
    method: str, added: Any
) -> None:
    assert _plain(to_modern_result(method, _raw({"x": 1}))) == {"x": 1, **added}


_TEXTS = st.sampled_from(
    ["resultType", "complete", '"resultType":"complete"', ',"resultType":"complete"}', "_meta"]
) | st.text(max_size=4)
_VALUES = st.recursive(
    st.none() | st.booleans() | _TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_TEXTS, inner, max_size=3),
    max_leaves=8,
)
_ASCII, _COMPACT = st.booleans(), st.booleans()


def _spelt(value: Any, ascii_only: bool, compact: bool) -> bytes:
    separators = (",", ":") if compact else None
    return json.dumps(value, ensure_ascii=ascii_only, separators=separators).encode()


@given(_VALUES, _ASCII, _COMPACT)
def test_an_unparsed_result_is_equal_for_a_modern_client(
    value: Any, ascii_only: bool, compact: bool
) -> None:
    result = _spelt(value, ascii_only, compact)
    modern_result_bytes = to_modern_result_bytes("tools/call", result)
    if modern_result_bytes is not None:
        assert json.loads(modern_result_bytes) == _plain(
            to_modern_result("tools/call", Raw(result))
        )


@given(st.dictionaries(_TEXTS, _VALUES, max_size=3), st.sampled_from((0, 1)), _ASCII, _COMPACT)
def test_an_unparsed_result_is_equal_for_a_legacy_client(
    members: dict[str, Any], where: int, ascii_only: bool, compact: bool
) -> None:
    others = {k: v for k, v in members.items() if k != "resultType"}
    complete = {"resultType": "complete"}
    value = {**complete, **others} if where == 0 else {**others, **complete}
    for result in (_spelt(value, ascii_only, compact), _spelt(members, ascii_only, compact)):
        legacy_result_bytes = to_legacy_result_bytes(result)
        if legacy_result_bytes is not None:
            assert json.loads(legacy_result_bytes) == _plain(to_legacy_result(Raw(result)))


@pytest.mark.parametrize("last", [False, True])
def test_the_usual_result_is_not_read_for_either_era(last: bool) -> None:
    own, added = b'"content":[],"isError":false', b'"resultType":"complete"'
    modern = b"{%b,%b}" % ((own, added) if last else (added, own))
    assert to_legacy_result_bytes(modern) == b"{%b}" % own
    assert to_modern_result_bytes("tools/call", b"{%b}" % own) == b"{%b,%b}" % (own, added)


def test_fields_of_the_modern_era_are_parsed() -> None:
    assert to_modern_result_bytes("resources/read", b'{"contents":[]}') is None
    assert to_modern_result_bytes("tools/call", b"{}") is None
    assert to_modern_result_bytes("tools/call", b'{"resultType":"complete"}') is None
    for member in (b'"_meta":{}', b'"ttlMs":0', b'"cacheScope":"private"'):
        assert to_legacy_result_bytes(b'{%b,"resultType":"complete"}' % member) is None
    assert to_legacy_result_bytes(b'{"a":1,"resultType":"input_required"}') is None
    assert (
        to_legacy_result_bytes(b'{"resultType":"input_required","resultType":"complete"}') is None
    )


def test_a_missing_resource_has_another_code_in_each_era() -> None:
    legacy = {"code": -32002, "message": "m", "data": {"uri": "s://a"}}
    modern = {**legacy, "code": -32602}
    assert _plain(to_modern_error(_raw(legacy))) == modern
    assert _plain(to_legacy_error("resources/read", _raw(modern))) == legacy


@pytest.mark.parametrize(
    ("method", "error"),
    [
        ("tools/call", {"code": -32602, "message": "m", "data": {"uri": "s://a"}}),
        ("resources/read", {"code": -32602, "message": "m"}),
        ("resources/read", {"code": -32602, "message": "m", "data": [1]}),
        ("resources/read", {"code": -32603, "message": "m", "data": {"uri": "s://a"}}),
    ],
)
def test_other_errors_pass_to_legacy_clients(method: str, error: Any) -> None:
    raw = _raw(error)
    assert to_legacy_error(method, raw) is raw


def test_other_errors_pass_to_modern_clients() -> None:
    raw = _raw({"code": -32000, "message": "m", "data": {"uri": "s://a"}})
    assert to_modern_error(raw) is raw
