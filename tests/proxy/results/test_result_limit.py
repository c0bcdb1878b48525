"""Results beyond the limit become errors, or fit."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mcpproxy.api.v1alpha1 import Results
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.results.result_limit import is_too_large, limit_result
from tests.support.examples import examples

CALL, READ = "tools/call", "resources/read"
TEXTS = st.lists(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=3000), min_size=1, max_size=4
)


def limited(method: str, result: Any, on_larger: str = "Truncate", limit: int = 1024) -> Any:
    """The answer with a result, as far as it may be."""
    results = Results.model_validate({"maxBytes": limit, "onLarger": on_larger})
    answer: dict[str, Any] = {"result": jsonrpc.encode_raw(result)}
    if is_too_large(results, method, answer):
        limit_result(results, method, "logs", answer)
    return json.loads(jsonrpc.encode(answer))


def _texts(*texts: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": text} for text in texts]


@given(TEXTS)
@settings(max_examples=examples(200), deadline=None)
def test_text_that_is_cut_fits_and_begins_as_before(texts: list[str]) -> None:
    before = {"content": _texts(*texts)}
    size = len(jsonrpc.encode(before))
    result = limited(CALL, before)["result"]
    if size <= 1024:
        assert result == before
        return
    assert len(jsonrpc.encode(result)) <= 1024
    kept = [part["text"] for part in result["content"]]
    note = f"\n[the proxy has cut this result of {size} bytes to 1024 bytes]"
    assert kept[-1].endswith(note)
    kept[-1] = kept[-1].removesuffix(note)
    assert all(text.startswith(part) for text, part in zip(texts, kept, strict=True))


def test_the_rest_of_a_result_stays_when_its_text_is_cut() -> None:
    image = {"type": "image", "data": "AAAA", "mimeType": "image/png"}
    result = {"content": [image, *_texts("ü" * 5000)], "isError": True, "_meta": {"a/b": 1}}
    actual = limited(CALL, result)["result"]
    assert actual["content"][0] == image
    assert (actual["isError"], actual["_meta"]) == (True, {"a/b": 1})
    assert actual["content"][1]["text"].startswith("üüü")


def test_structured_content_is_never_cut() -> None:
    result = limited(CALL, {"content": _texts("x" * 3000), "structuredContent": {"a": 1}})
    assert result["result"]["isError"]
    assert "structuredContent" not in result["result"]


def test_content_other_than_text_that_is_too_large_is_an_error() -> None:
    image = {"type": "image", "data": "A" * 3000, "mimeType": "image/png"}
    for content in ([image], [image, *_texts("short")]):
        result = limited(CALL, {"content": content})["result"]
        assert result["isError"]
        assert "of backend logs has" in result["content"][0]["text"]


def test_a_resource_that_is_too_large_is_a_json_rpc_error_with_both_sizes() -> None:
    contents = [{"uri": "a:b", "blob": "A" * 3000}]
    error = limited(READ, {"contents": contents})["error"]
    assert error["code"] == -32000
    assert error["data"]["maxBytes"] == 1024
    assert error["data"]["bytes"] > 3000


def test_the_text_of_a_resource_is_cut() -> None:
    contents = [{"uri": "a:b", "text": "x" * 3000}]
    (content,) = limited(READ, {"contents": contents})["result"]["contents"]
    assert content["uri"] == "a:b"
    assert content["text"].endswith("to 1024 bytes]")


def test_the_error_of_a_modern_result_is_complete() -> None:
    result = {"resultType": "complete", "content": _texts("x" * 3000)}
    actual = limited(CALL, result, "Error")["result"]
    assert actual["resultType"] == "complete"
    assert actual["isError"]


def test_results_of_other_methods_and_small_results_are_left_alone() -> None:
    large = {"messages": _texts("x" * 3000)}
    assert limited("prompts/get", large, "Error") == {"result": large}
    small = {"content": _texts("x")}
    assert limited(CALL, small, "Error") == {"result": small}


def test_results_of_an_unusual_shape_are_errors() -> None:
    for result in ({"content": "x" * 3000}, {"content": ["x" * 3000]}, {"x": "x" * 3000}):
        assert limited(CALL, result)["result"]["isError"]
