"""Text of untrusted peers in logs and statuses."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpproxy.api.untrusted_text import clean_text

ANY_TEXT = st.text(st.characters(exclude_categories=()))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("weather", "weather"),
        ("Wetterauskunft für Köln 天気 🌦", "Wetterauskunft für Köln 天気 🌦"),
        ("first\nsecond\r\n\tthird", "first second   third"),
        ("evil\x1b[31mred", "evil\ufffd[31mred"),
        ("nul\x00 del\x7f csi\x9b", "nul\ufffd del\ufffd csi\ufffd"),
        ("ab\u2028cd\u2029ef\x85gh", "ab cd ef gh"),
        ("user\u202egnp.exe\u2066", "user\ufffdgnp.exe\ufffd"),
        ("zero\u200bwidth\ufeff", "zero\ufffdwidth\ufffd"),
        ("tags\U000e0041\U000e007f", "tags\ufffd\ufffd"),
        ("lone \ud800 surrogate", "lone \ufffd surrogate"),
    ],
)
def test_only_printable_characters_stay(text: str, expected: str) -> None:
    assert clean_text(text, 100) == expected


@pytest.mark.parametrize(
    ("text", "limit", "expected"),
    [
        ("abcdef", 6, "abcdef"),
        ("abcdefg", 6, "abcde…"),
        ("abc", 1, "…"),
        ("abc", 0, ""),
        ("", 5, ""),
    ],
)
def test_a_long_text_ends_with_an_ellipsis(text: str, limit: int, expected: str) -> None:
    assert clean_text(text, limit) == expected


@given(ANY_TEXT, st.integers(0, 64))
def test_the_result_fits_and_obeys_no_terminal_whatever_the_text(text: str, limit: int) -> None:
    result = clean_text(text, limit)
    assert len(result) <= limit
    result.encode()
    assert not [c for c in result if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"}]


@given(ANY_TEXT, st.integers(0, 64), st.integers(0, 64))
def test_a_clean_text_is_unchanged(text: str, limit: int, more: int) -> None:
    result = clean_text(text, limit)
    assert clean_text(result, limit + more) == result


@given(st.text(st.characters(categories=("L", "N", "P", "S"), max_codepoint=0x10FF)))
def test_printable_text_is_not_changed(text: str) -> None:
    assert clean_text(text, len(text)) == text
