"""The evaluator of PromQL expressions that the tests use."""

import math
from collections.abc import Sequence

import pytest

from tests.support.promql_values import Points, Series, Vector, value


def scraped(*series: tuple[dict[str, str], Sequence[float | None]]) -> Series:
    """Series with a point every 30 s."""
    result = Series()
    for labels, values in series:
        points: Points = [(30.0 * number, item) for number, item in enumerate(values)]
        result.add({"__name__": "a", **labels}, points)
    return result


def at(expression: str, series: Series, seconds: float) -> dict[str, float]:
    """The values of an expression by the label `k`."""
    result = value(expression, series, seconds)
    assert isinstance(result, dict)
    return {dict(labels).get("k", ""): item for labels, item in result.items()}


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("a", {"x": 4, "y": 10}),
        ('a{k="x"}', {"x": 4}),
        ('a{k!="x"}', {"y": 10}),
        ('a{k=~"x|z"}', {"x": 4}),
        ('a{k!~"x|z"}', {"y": 10}),
        ("a > 4", {"y": 10}),
        ("a == 4", {"x": 4}),
        ("sum(a)", {"": 14}),
        ("max by (k) (a)", {"x": 4, "y": 10}),
        ("a / sum by (k) (a)", {"x": 1, "y": 1}),
        ("a * 2 + 1 > 9", {"y": 21}),
        ("a - (a - 1)", {"x": 1, "y": 1}),
        ("rate(a[1m])", {"x": 1 / 30, "y": 0}),
        ("increase(a[5m])", {"x": 4, "y": 0}),
        ("max_over_time(a[2m])", {"x": 4, "y": 10}),
        ("changes(a[5m])", {"x": 4, "y": 0}),
        ("absent(a > 100)", {"": 1}),
        ("absent(a)", {}),
    ],
)
def test_an_expression_has_the_value_that_prometheus_gives_it(
    expression: str, result: dict[str, float]
) -> None:
    series = scraped(({"k": "x"}, [0, 1, 2, 3, 4]), ({"k": "y"}, [10, 10, 10, 10, 10]))
    assert at(expression, series, 120) == pytest.approx(result)


def test_a_decreasing_counter_counts_as_reset() -> None:
    assert at("increase(a[5m])", scraped(({}, [5, 9, 1, 3])), 90) == {"": 7}


def test_the_last_scrape_counts_for_five_minutes_or_until_the_series_ends() -> None:
    series = scraped(({"k": "x"}, [1]), ({"k": "y"}, [1, None]))
    assert at("a", series, 29) == {"x": 1, "y": 1}
    assert at("a", series, 30) == {"x": 1}
    assert at("a", series, 299) == {"x": 1}
    assert at("a", series, 300) == {}


def test_a_quantile_lies_within_its_bucket() -> None:
    buckets = {"1": 10, "2": 20, "+Inf": 20}
    series = scraped(*(({"le": le}, [float(count)]) for le, count in buckets.items()))
    for share, result in (("0.25", 0.5), ("0.75", 1.5), ("1", 2.0)):
        assert at(f"histogram_quantile({share}, a)", series, 0) == {"": result}
    nothing = scraped(({"le": "+Inf"}, [0.0]))
    assert math.isnan(at("histogram_quantile(0.5, a)", nothing, 0)[""])


@pytest.mark.parametrize(
    "expression",
    ["avg_over_time(a[5m])", "a and b", "a ? b", "a{k}", "rate(a)", "sum(a", "1 > 0", "sum(1)"],
)
def test_an_unparsable_value_is_an_error(expression: str) -> None:
    with pytest.raises((ValueError, KeyError)):
        value(expression, scraped(({}, [1.0])), 0)


def test_no_series_is_an_empty_vector() -> None:
    empty: Vector = {}
    assert value("sum by (k) (rate(b[5m])) > 1", scraped(({}, [1.0])), 0) == empty
