"""Matching of patterns: exact, and with few steps whatever pattern and text are."""

import re
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpproxy.limits.backends import TEMPLATE_EXPRESSIONS, TEMPLATE_LENGTH
from mcpproxy.limits.clients import URI_MATCHING
from mcpproxy.proxy.core.catalog.component_filter import Globs
from mcpproxy.proxy.core.translation.patterns import Pattern, PatternText, Wildcard
from mcpproxy.proxy.core.translation.uri_templates import Uri

CHARACTERS = "ab/?#.é€𝄞\ud800"
SEQUENCES = st.lists(st.one_of(st.sampled_from(CHARACTERS), st.sampled_from(Wildcard)), max_size=12)
TEXTS = st.text(CHARACTERS, max_size=12)
TEMPLATES = st.lists(
    st.one_of(
        st.sampled_from(["a", "b", "/", ".", "ab", "/a", "a/b", "?", "#", "//"]),
        st.sampled_from(["{a}", "{+a}", "{/a*}", "{?a,b}", "{#a}", "{;a}", "{&a}", "{.a}", "{}"]),
    ),
    max_size=10,
).map("".join)


def _pattern(sequence: "list[str | Wildcard]") -> Pattern:
    return Pattern(
        part if isinstance(part, Wildcard) else part.encode("utf-8", "surrogatepass")
        for part in sequence
    )


def _slowly(sequence: "list[str | Wildcard]", text: str) -> bool:
    """Try every way to divide the text among the parts of the pattern."""

    @cache
    def matches(part: int, at: int) -> bool:
        if part == len(sequence):
            return at == len(text)
        wanted = sequence[part]
        if wanted is Wildcard.ANY or wanted is Wildcard.SEGMENT:
            more = at < len(text) and (wanted is Wildcard.ANY or text[at] not in "/?#")
            return matches(part + 1, at) or (more and matches(part, at + 1))
        fits = at < len(text) and (wanted is Wildcard.ONE or text[at] == wanted)
        return fits and matches(part + 1, at + 1)

    return matches(0, 0)


@given(SEQUENCES, TEXTS)
def test_a_pattern_matches_where_some_division_of_the_text_fits_its_parts(
    sequence: "list[str | Wildcard]", text: str
) -> None:
    assert _pattern(sequence).matches(PatternText(text)) is _slowly(sequence, text)


@given(SEQUENCES, st.data())
def test_a_pattern_matches_every_text_that_is_made_from_it(
    sequence: "list[str | Wildcard]", data: st.DataObject
) -> None:
    fillings = {
        Wildcard.ANY: st.text(CHARACTERS, max_size=4),
        Wildcard.SEGMENT: st.text("ab.é€", max_size=4),
        Wildcard.ONE: st.sampled_from(CHARACTERS),
    }
    made = [part if isinstance(part, str) else data.draw(fillings[part]) for part in sequence]
    assert _pattern(sequence).matches(PatternText("".join(made)))


@given(TEMPLATES, TEXTS.filter(lambda text: "\ud800" not in text))
def test_a_template_matches_the_same_uris_as_a_regular_expression(template: str, uri: str) -> None:
    operators = tuple("+#./;?&")
    wanted = "".join(
        (".*" if part[1] in operators else "[^/?#]*") if part.startswith("{") else re.escape(part)
        for part in re.split(r"(\{[^{}]*\})", template)
    )
    assert Uri(uri).expands(template) is (re.fullmatch(wanted, uri, re.DOTALL) is not None)


@given(st.text("ab*?[é", max_size=10), st.text("ab[é\n", max_size=10))
def test_a_glob_matches_the_names_that_a_regular_expression_would_find(
    glob: str, name: str
) -> None:
    wildcards = {"*": ".*", "?": "."}
    wanted = "".join(wildcards.get(character) or re.escape(character) for character in glob)
    assert Globs([glob]).match(name) is (re.fullmatch(wanted, name, re.DOTALL) is not None)


SIZE = 65536
"""Characters of the longest URI that is accepted."""


@pytest.mark.parametrize(
    ("template", "uri"),
    [
        ("file://{name}.{ext}", "file://" + "." * (SIZE - 8) + "/"),
        ("x://{+a}{+b}{+c}{+d}{+e}z", "x://" + "a" * (SIZE - 4)),
        ("x://{a}{b}{c}{d}{e}z", "x://" + "a" * (SIZE - 4)),
        ("x://{+a}a{+b}a{+c}a{+d}a{+e}z", "x://" + "a" * (SIZE - 5) + "y"),
        ("x://{a}/{b}/{c}{/d*}/z{?q}", "x://" + "/" * (SIZE - 4)),
        ("x://{+a}/{b}/{c}/{+d}/{e}/z{+f}y", "x://" + "/" * (SIZE - 5) + "y"),
        ("x://{+a}a{b}a{c}b{+d}y", "x://" + "a/" * (SIZE // 2 - 3) + "y"),
    ],
)
def test_a_long_hostile_uri_takes_no_more_than_a_few_steps_for_each_of_its_bytes(
    template: str, uri: str
) -> None:
    compared = Uri(uri)
    assert not compared.expands(template)
    assert compared.steps < 12 * SIZE


def test_twice_the_text_takes_at_most_twice_the_steps() -> None:
    repeated: list[str | Wildcard] = [Wildcard.SEGMENT, "x", Wildcard.ONE]
    sequence: list[str | Wildcard] = [Wildcard.ANY, *(repeated * 60), "y"]

    def steps(size: int) -> int:
        text = PatternText("x" * size + "y")
        assert _pattern(sequence).matches(text)
        return text.steps

    assert steps(20_000) < 2.1 * steps(10_000)


def test_a_template_beyond_a_limit_matches_no_uri() -> None:
    most = TEMPLATE_EXPRESSIONS.value
    assert Uri("x://").expands("x://" + "{a}" * most)
    assert Uri("x" * TEMPLATE_LENGTH.value + "y").expands("x" * (TEMPLATE_LENGTH.value - 3) + "{a}")
    for template, limit in (
        ("x://" + "{a}" * (most + 1), TEMPLATE_EXPRESSIONS),
        ("x://{" + "a" * TEMPLATE_LENGTH.value + "}", TEMPLATE_LENGTH),
    ):
        reached = limit.reached
        compared = Uri("x://")
        assert not compared.expands(template)
        assert compared.undecided
        assert limit.reached == reached + 1


def test_matching_a_uri_stops_after_too_many_steps() -> None:
    reached = URI_MATCHING.reached
    templates = [f"x://{{+a}}{'/{b}' * 250}/{number}{{+c}}" for number in range(1000)]
    compared = Uri("x://" + "/" * (SIZE - 4))
    assert not compared.is_from(templates)
    assert compared.steps < URI_MATCHING.value + 4 * SIZE
    assert URI_MATCHING.reached == reached + 1
    assert not compared.is_from(["{+a}"])
    assert compared.may_be_from([])


def test_a_template_that_a_completion_names_is_an_expansion_of_no_other() -> None:
    assert Uri("w://{a}").is_from(["w://{+path}", "w://{a}"])
    assert not Uri("w://{a}").is_from(["w://{+path}"])
    assert Uri("w://{a}").may_be_from(["w://{+path}"])
