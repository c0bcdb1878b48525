"""Durations and resource quantities."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpproxy.api.kubernetes.durations import parse_duration
from mcpproxy.api.kubernetes.quantities import parse_quantity


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *(("0s", 0.0), ("300s", 300.0), ("250ms", 0.25), ("1m30s", 90.0), ("1.5h", 5400.0)),
        *(("24h", 86400.0), ("1h0m1s", 3601.0), ("2m500ms", 120.5)),
    ],
)
def test_a_duration_is_the_sum_of_its_parts(text: str, expected: float) -> None:
    assert parse_duration(text) == expected


@pytest.mark.parametrize("text", ["", "5", "s", "-5s", "5 s", "5sec", "5s\n", "1d", "٣s", "1.s"])
def test_an_invalid_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a duration; use a format such as 5s"):
        parse_duration(text)


@given(st.integers(0, 23), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999))
def test_every_duration_of_whole_parts_is_understood(h: int, m: int, s: int, ms: int) -> None:
    duration = parse_duration(f"{h}h{m}m{s}s{ms}ms")
    assert duration == pytest.approx(h * 3600 + m * 60 + s + ms / 1000)


@pytest.mark.parametrize(
    ("quantity", "expected"),
    [
        *((2, "2"), ("250m", "0.25"), ("1.5", "1.5"), (".5", "0.5"), ("1e3", "1000")),
        *(("1E", "1000000000000000000"), ("1E3", "1000"), ("128Mi", "134217728")),
        *(("1Ki", "1024"), ("100n", "0.0000001"), ("+1k", "1000"), ("1Ei", "1152921504606846976")),
    ],
)
def test_a_quantity_is_the_number_that_kubernetes_reads(quantity: int | str, expected: str) -> None:
    assert parse_quantity(quantity) == Decimal(expected)


@pytest.mark.parametrize(
    "text", ["", "1x", "Mi", "1 Mi", "1mi", "1e", "1e1.5", "1e3Mi", "1e9999", "0" * 33]
)
def test_an_invalid_quantity_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a quantity; use a format such as 250m"):
        parse_quantity(text)
