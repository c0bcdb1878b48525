"""Messages as peers may send them: what MCP knows, and at every level what it does not know."""

import json
import re
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

Json = Any
MEBIBYTE = 2**20
_NUMBER = re.compile(r'"@number:([^"]*)"')
_STRINGS = ("\U0001f600\U0001d4b3", "\u2028\u2029\u0085", "\x00\x1f\x7f", "é\u0301", "data: x\n\n")
_KEYS = ("a", "A", "a ", "а", "name", "uri", "id", "_meta", "type", "\u2028", "\U0001f511", "")
_NUMBERS = ("0.12345678901234567890123", "1E5", "-0", "-0.0", "1e400", "10.000", "1e-7", "9e15")
_BIG = (2**53 + 1, 2**63, 2**64 + 1, -(2**63) - 1, 10**40)

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(_STRINGS)
keys = st.sampled_from(_KEYS) | text
numbers = st.sampled_from([f"@number:{spelled}" for spelled in _NUMBERS]) | st.sampled_from(_BIG)


def _nested(depth: int) -> Json:
    result: Json = "deep"
    for level in range(depth):
        result = [result] if level % 2 else {"d": result}
    return result


leaves = st.one_of(
    st.none(), st.booleans(), st.integers(-1000, 1000), numbers, text, st.just({}), st.just([])
)
anything = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=8,
)
objects = st.dictionaries(keys, anything, max_size=4)
unknown = st.dictionaries(text.map(lambda key: f"x-{key}"), anything, max_size=2)
names = st.sampled_from(("get", "a_b", "p_p", "with space", "größe", "\U0001f600", "=?base64?")) | (
    st.text("abc_.-/", min_size=1, max_size=20)
)
uris = st.sampled_from(
    (
        "file:///a/b",
        "note://1",
        "mailto:x@example.com",
        "urn:a:b",
        "http://h.example/p?q=1#f",
        "plain",
        "x://Ünïcode/\U0001f600",
        "x://%2F%20/",
    )
)


def shaped(known: Any, optional: Any = None) -> Any:
    """Objects with these members, some of the optional ones, and unknown ones."""
    fixed: Any = st.fixed_dictionaries(known, optional=optional)
    return st.builds(lambda more, result: {**more, **result}, unknown, fixed)


meta = shaped({}, {"progressToken": text | st.integers(0, 2**64), "traceparent": text})
_members = {"_meta": meta, "annotations": shaped({}, {"priority": numbers})}
_resource = shaped({"uri": uris}, {"text": text, "blob": text, "mimeType": text, "_meta": meta})
block = st.one_of(
    shaped({"type": st.just("text"), "text": text}, _members),
    shaped({"type": st.just("image"), "data": text, "mimeType": text}, _members),
    shaped({"type": st.just("audio"), "data": text, "mimeType": text}, _members),
    shaped({"type": st.just("resource_link"), "uri": uris, "name": text}, _members),
    shaped({"type": st.just("resource"), "resource": _resource}, _members),
    shaped({"type": text.map(lambda kind: f"x-{kind}")}, {"uri": uris}),
)
_arguments = st.dictionaries(text, text, max_size=3)
_prompt = st.just("ref/prompt")
_reference = shaped({"type": _prompt, "name": names}) | shaped(
    {"type": st.just("ref/resource"), "uri": uris}
)
PARAMS = {
    "tools/call": shaped({"name": names}, {"arguments": objects, "_meta": meta}),
    "prompts/get": shaped({"name": names}, {"arguments": _arguments, "_meta": meta}),
    "resources/read": shaped({"uri": uris}, {"_meta": meta}),
    "completion/complete": shaped(
        {"ref": _reference, "argument": shaped({"name": text, "value": text})},
        {"context": objects, "_meta": meta},
    ),
    "vendor/method": shaped({}, {"_meta": meta, "name": text}),
}
_message = shaped({"role": text, "content": block})
_completion = shaped(
    {"values": st.lists(text, max_size=3)}, {"total": numbers, "hasMore": st.booleans()}
)
_rest = {"_meta": meta}
RESULTS = {
    "tools/call": shaped(
        {"content": st.lists(block, max_size=4)},
        {"structuredContent": anything, "isError": st.booleans(), **_rest},
    ),
    "prompts/get": shaped(
        {"messages": st.lists(_message, max_size=3)}, {"description": text, **_rest}
    ),
    "resources/read": shaped({"contents": st.lists(_resource, max_size=3)}, _rest),
    "completion/complete": shaped({"completion": _completion}, _rest),
    "vendor/method": objects,
}
_codes = st.sampled_from((-32602, -32002, -32603, -32000, -32021, 1, -1, 2**31))
errors = shaped({"code": _codes, "message": text}, {"data": anything | shaped({"uri": uris})})
notifications = st.one_of(
    shaped(
        {
            "method": st.just("notifications/message"),
            "params": shaped({"level": st.just("info"), "data": anything}, {"logger": text}),
        }
    ),
    shaped(
        {
            "method": st.just("notifications/progress"),
            "params": shaped({"progressToken": text, "progress": numbers}, {"message": text}),
        }
    ),
    shaped({"method": st.just("notifications/vendor/news")}, {"params": objects}),
)
asked = st.one_of(
    shaped(
        {
            "method": st.just("sampling/createMessage"),
            "params": shaped({"messages": st.lists(_message, max_size=2)}, {"maxTokens": numbers}),
        }
    ),
    shaped(
        {
            "method": st.just("elicitation/create"),
            "params": shaped({"message": text, "requestedSchema": objects}),
        }
    ),
    shaped({"method": st.just("roots/list")}, {"params": shaped({}, _rest)}),
    shaped({"method": st.just("vendor/ask"), "params": objects}),
)
answers = shaped({"result": objects}) | shaped({"error": errors})
input_required = shaped(
    {
        "resultType": st.just("input_required"),
        "inputRequests": st.dictionaries(text, asked, max_size=2),
    },
    {"requestState": text, **_rest},
)


@dataclass(frozen=True)
class Case:
    """One request, and all that happens until it is answered."""

    method: str
    params: Json
    request: Json
    """Members of the request's envelope that JSON-RPC does not know."""
    response: Json
    """`result` or `error`, and what else is in its envelope."""
    notifications: list[Json]
    asked: list[tuple[Json, Json]]
    """Server requests and their answers (legacy era)."""
    ascii: bool
    """Return True if every character is written as an escape."""
    request_id: Json

    def spelled(self, value: Json) -> str:
        """The JSON of a value, with numbers digit for digit."""
        written = json.dumps(value, ensure_ascii=self.ascii)
        if '"@large"' not in written:
            return _NUMBER.sub(r"\1", written)
        large = json.dumps("\U0001f600x\u2028y" * (MEBIBYTE // 9), ensure_ascii=self.ascii)
        return _NUMBER.sub(r"\1", written).replace('"@large"', large)


@st.composite
def cases(draw: Any, era: str) -> Case:
    """Requests of an era."""
    method = draw(st.sampled_from(sorted(PARAMS)))
    results = RESULTS[method]
    if era == "modern" and method in ("tools/call", "prompts/get", "resources/read"):
        results = results | input_required
    params = draw(PARAMS[method])
    response = draw(shaped({"result": results}) | shaped({"error": errors}))
    if draw(st.integers(0, 15)) == 0:
        params["x-large"] = response["x-large"] = "@large"
    if draw(st.integers(0, 9)) == 0:
        params["x-deep"] = response["x-deep"] = _nested(draw(st.integers(50, 150)))
    return Case(
        method,
        params,
        draw(unknown),
        response,
        draw(st.lists(notifications, max_size=2)),
        draw(st.lists(st.tuples(asked, answers), max_size=2)) if era == "legacy" else [],
        draw(st.booleans()),
        draw(st.integers(0, 2**53) | text | st.just(2**70)),
    )


def items(key: str) -> Any:
    """Items of a list that are known by this member."""
    named = {"name": {"name": text}, "uri": {"name": text}, "uriTemplate": {"name": text}}[key]
    schema = shaped({"type": st.just("object")}, {"properties": objects, "$defs": objects})
    optional = {"title": text, "_meta": meta, "annotations": objects, "inputSchema": schema}
    return shaped(named, optional)
