"""Texts of `kubectl explain` for each field of the spec: its default, and its unit."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from mcpproxy.api.kubernetes.durations import DURATION_PATTERN
from tests.support.crd import spec_schema

Schema = dict[str, Any]
_LAST = re.compile(r"(^|[.;:)] )Default: [^.]([^.]|\.\S)*\.$")
"""The default is the last sentence, and there is one of them."""
_TIME = re.compile(r"\b\d+(ms|s|m|h)\b")


def optional(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """Every field below `schema` that may be left out, with its path."""
    required = schema.get("required", ())
    for name, field in schema.get("properties", {}).items():
        if name not in required:
            yield f"{path}.{name}", field
        yield from optional(field, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from optional(schema[key], f"{path}[]")


def unit(path: str, field: Schema) -> re.Pattern[str] | None:
    """Return the words that name the unit of a field; None for a field without a unit."""
    values = field.get("additionalProperties", field)
    if values.get("x-kubernetes-int-or-string"):
        return re.compile("percent" if "%" in values["pattern"] else r"\d+m\b.*\d+Mi\b")
    if field.get("pattern") == DURATION_PATTERN or path.endswith((".interval", ".scrapeTimeout")):
        return _TIME
    if path.endswith("Percentage"):
        return re.compile("percent")
    return re.compile("[Ss]econds") if path.endswith("Seconds") else None


def test_the_description_of_every_optional_field_ends_with_its_default() -> None:
    every = list(optional(spec_schema()))
    assert len(every) > 200
    assert [path for path, field in every if not _LAST.search(field["description"])] == []
    assert [path for path, field in every if field["description"].count("Default: ") != 1] == []


def test_the_description_of_every_time_quantity_and_share_names_its_unit() -> None:
    measured = {path: (unit(path, field), field) for path, field in optional(spec_schema())}
    wanted = {path: (result, field) for path, (result, field) in measured.items() if result}
    kinds = {actual.pattern for actual, _ in wanted.values()}
    assert len(kinds) == 4
    assert len(wanted) > 15
    unsaid = [
        p for p, (outcome, field) in wanted.items() if not outcome.search(field["description"])
    ]
    assert unsaid == []


def test_a_field_explains_the_facts_of_its_model_before_its_default() -> None:
    header = spec_schema()["properties"]["backends"]["items"]["properties"]["headers"]["items"]
    text = header["properties"]["valueFrom"]["description"]
    fact = " A changed value takes effect within about 90 s, without a restart: for headers with"
    assert text.startswith("Source of the value. Exactly one of")
    assert text.index(fact) < text.index(" Default: none.")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("How many. Default: 10s.", True),
        ("Default: none.", True),
        ("Its name (SNI). Default: the host of spec.url.", True),
        ("How many.", False),
        ("How many. Default: .", False),
        ("How many. Default: none. More of it.", False),
        ("How many. The Default is 3.", False),
    ],
)
def test_a_text_without_a_default_at_its_end_is_found(text: str, said: bool) -> None:
    assert bool(_LAST.search(text)) == said
