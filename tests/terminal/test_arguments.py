"""Arguments on the command line become the values that a tool's schema asks for."""

from typing import Any

import pytest

from mcpproxy.terminal.arguments import ArgumentError, describe_arguments, parse_arguments

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "days": {"type": "integer"},
        "ratio": {"type": "number"},
        "deep": {"type": "boolean"},
        "tags": {"type": "array"},
        "where": {"type": "object"},
        "limit": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "unit": {"enum": ["metric", "imperial"]},
        "id": {"type": ["string", "integer"]},
        "free": {},
    },
}


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("city=Oslo", "Oslo"),
        ("city=5", "5"),
        ("city=", ""),
        ("city=a=b", "a=b"),
        ("city=true", "true"),
        ("days=5", 5),
        ("days=-1", -1),
        ("ratio=0.5", 0.5),
        ("ratio=2", 2),
        ("deep=true", True),
        ("tags=[1,2]", [1, 2]),
        ('where={"a":1}', {"a": 1}),
        ("limit=null", None),
        ("limit=7", 7),
        ("unit=metric", "metric"),
        ("id=x1", "x1"),
        ("id=12", 12),
        ("free=anything", "anything"),
        ("unknown=5", "5"),
        ("city:=5", 5),
        ("days:=2", 2),
        ('other:={"a":[null]}', {"a": [None]}),
    ],
)
def test_a_word_has_the_type_that_the_schema_names(word: str, value: Any) -> None:
    [parsed] = parse_arguments([word], None, SCHEMA).values()
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("words", "text", "message"),
    [
        (["days=x"], None, "days: expected integer, found 'x'"),
        (["days=true"], None, "days: expected integer, found boolean true"),
        (["days=1.5"], None, "days: expected integer, found number 1.5"),
        (["deep=1"], None, "deep: expected boolean, found integer 1"),
        (["tags={}"], None, "tags: expected array, found object {}"),
        (["limit=x"], None, "limit: expected integer or null, found 'x'"),
        (["ratio=NaN"], None, "ratio: expected number, found 'NaN'"),
        (["city"], None, "'city': expected name=value, or name:=JSON"),
        (["=5"], None, "'=5': expected name=value, or name:=JSON"),
        (["city=a", "city=b"], None, "city is given twice"),
        (["city=a"], '{"city":"b"}', "city is given twice"),
        (["other:=x"], None, "other: invalid JSON: Expecting value: line 1 column 1 (char 0)"),
        ([], "[1]", "--json: expected a JSON object, found array"),
        ([], "{", "--json: invalid JSON: Expecting property name"),
        ([], "[" * 100_000, "--json: invalid JSON"),
    ],
)
def test_a_wrong_argument_is_named_with_what_was_found(
    words: list[str], text: str | None, message: str
) -> None:
    with pytest.raises(ArgumentError) as error:
        parse_arguments(words, text, SCHEMA)
    assert str(error.value).startswith(message)


def test_a_missing_argument_is_named_with_all_arguments() -> None:
    schema = {"properties": {"a": {"type": "string"}, "b": {}}, "required": ["a"]}
    with pytest.raises(ArgumentError, match=r"^a is required; arguments: a=string \[b=any\]$"):
        parse_arguments(["b=1"], None, schema)


def test_an_unknown_argument_of_a_closed_schema_is_refused_with_the_nearest_name() -> None:
    schema = {"properties": {"city": {}}, "additionalProperties": False}
    with pytest.raises(
        ArgumentError, match=r"^citty is not an argument of the tool; did you mean city\?$"
    ):
        parse_arguments(["citty=1"], None, schema)


@pytest.mark.parametrize("schema", [{}, {"properties": 5, "required": 7}, {"properties": {"a": 1}}])
def test_a_malformed_schema_takes_every_argument_as_a_string(schema: dict[str, Any]) -> None:
    assert parse_arguments(["a=1"], None, schema) == {"a": "1"}


def test_arguments_are_described_in_one_line() -> None:
    schema = {**SCHEMA, "required": ["city"]}
    assert describe_arguments(schema).startswith("city=string [days=integer] [ratio=number]")
    assert "[limit=integer|null]" in describe_arguments(schema)
