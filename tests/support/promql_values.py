"""Evaluator of PromQL: the part of the language that the rules use.

Without staleness markers but for those that a series names, and rates are not extrapolated to the
ends of their range: where that matters, promtool has the last word.
"""

import itertools
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

Labels = frozenset[tuple[str, str]]
Vector = dict[Labels, float]
Value = float | Vector
Points = list[tuple[float, float | None]]
"""Time and value; None ends the series."""

LOOKBACK: Final = 300.0
_SECONDS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_TOKEN: Final = re.compile(
    r'\s*(?:(\d+(?:\.\d+)?)|([a-zA-Z_:][a-zA-Z0-9_:]*)|("(?:[^"\\]|\\.)*")'
    r"|(\[\d+[smhd]\])|(==|!=|>=|<=|=~|!~|[-+*/()<>={},]))"
)
_AGGREGATIONS: Final[Mapping[str, Callable[[list[float]], float]]] = {
    "sum": sum,
    "max": max,
    "min": min,
    "count": lambda values: float(len(values)),
}
_COMPARISONS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    ">": lambda a, b: a > b,
    "<": lambda a, b: a < b,
    ">=": lambda a, b: a >= b,
    "<=": lambda a, b: a <= b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
}
_MATCHES: Final[Mapping[str, Callable[[str, str], bool]]] = {
    "=": lambda have, want: have == want,
    "!=": lambda have, want: have != want,
    "=~": lambda have, want: re.fullmatch(want, have) is not None,
    "!~": lambda have, want: re.fullmatch(want, have) is None,
}


@dataclass
class Series:
    """All that was scraped: labels, the name among them, and points by time."""

    points: dict[Labels, Points] = field(default_factory=dict)

    def add(self, labels: Mapping[str, str], points: Points) -> None:
        """More points of one series."""
        self.points.setdefault(frozenset(labels.items()), []).extend(points)

    def chosen(self, matchers: Iterable[tuple[str, str, str]]) -> dict[Labels, Points]:
        """The series that matchers choose."""
        wanted = list(matchers)
        return {
            labels: points
            for labels, points in self.points.items()
            if all(_MATCHES[how](dict(labels).get(name, ""), what) for name, how, what in wanted)
        }


def value(expression: str, series: Series, at: float) -> Value:
    """Return the value of an expression at a time. Raises ValueError for unsupported syntax."""
    reader = _Reader(expression, series, at)
    result = reader.compared()
    if reader.token is not None:
        raise ValueError(f"{reader.token!r} is not understood in {expression!r}")
    return result


class _Reader:
    """Reads an expression, and evaluates it on the way."""

    def __init__(self, text: str, series: Series, at: float) -> None:
        self._tokens = self._split(text.strip())
        self._next = 0
        self._series, self._at = series, at

    @staticmethod
    def _split(text: str) -> list[str]:
        result, at = [], 0
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None:
                raise ValueError(f"{text[at:]!r} is not understood")
            result.append(match[0].strip())
            at = match.end()
        return result

    @property
    def token(self) -> str | None:
        """The next one."""
        return self._tokens[self._next] if self._next < len(self._tokens) else None

    def _take(self, expected: str | None = None) -> str:
        token = self.token
        if token is None or expected not in (None, token):
            raise ValueError(f"{expected!r} was expected, not {token!r}")
        self._next += 1
        return token

    def compared(self) -> Value:
        """Sums, and a comparison of two of them that leaves what it holds for."""
        left = self._chain(("+", "-"), lambda: self._chain(("*", "/"), self._single))
        if self.token not in _COMPARISONS:
            return left
        holds = _COMPARISONS[self._take()]
        right = self._chain(("+", "-"), lambda: self._chain(("*", "/"), self._single))
        if isinstance(left, float):
            raise ValueError("a number is compared")
        return {
            labels: item
            for labels, item in left.items()
            if (other := _other(right, labels)) is not None and holds(item, other)
        }

    def _chain(self, operators: tuple[str, ...], part: Callable[[], Value]) -> Value:
        left = part()
        while self.token in operators:
            left = _calculated(left, self._take(), part())
        return left

    def _single(self) -> Value:
        token = self._take()
        if token == "(":
            return self._closed(self.compared())
        if re.fullmatch(r"\d+(\.\d+)?", token):
            return float(token)
        if token in _AGGREGATIONS:
            return self._aggregated(_AGGREGATIONS[token])
        if self.token == "(":
            return self._called(token)
        return _newest(self._selected(token), self._at)

    def _closed(self, result: Value) -> Value:
        self._take(")")
        return result

    def _aggregated(self, combine: Callable[[list[float]], float]) -> Vector:
        names: set[str] = set()
        if self.token == "by":
            self._take()
            names = set(self._list())
        self._take("(")
        groups: dict[Labels, list[float]] = {}
        for labels, item in _vector(self._closed(self.compared())).items():
            groups.setdefault(frozenset(p for p in labels if p[0] in names), []).append(item)
        return {labels: combine(values) for labels, values in groups.items()}

    def _called(self, name: str) -> Value:
        self._take("(")
        if name in _OVER_TIME:
            chosen = self._selected(self._take())
            seconds = int(self._take()[1:-2]), self._tokens[self._next - 1][-2]
            since = self._at - seconds[0] * _SECONDS[seconds[1]]
            self._take(")")
            return _over(chosen, since, self._at, _OVER_TIME[name])
        if name == "absent":
            result = _vector(self._closed(self.compared()))
            return {} if result else {frozenset(): 1.0}
        if name == "histogram_quantile":
            share = float(self._take())
            self._take(",")
            return _quantile(share, _vector(self._closed(self.compared())))
        raise ValueError(f"{name} is not understood")

    def _selected(self, name: str) -> dict[Labels, Points]:
        matchers = [("__name__", "=", name)]
        if self.token == "{":
            self._take()
            while self.token != "}":
                label, how = self._take(), self._take()
                matchers.append((label, how, self._take()[1:-1]))
                if self.token == ",":
                    self._take()
            self._take()
        return self._series.chosen(matchers)

    def _list(self) -> list[str]:
        self._take("(")
        results = []
        while self.token != ")":
            results.append(self._take())
            if self.token == ",":
                self._take()
        self._take()
        return results


def _unnamed(labels: Labels) -> Labels:
    return frozenset(pair for pair in labels if pair[0] != "__name__")


def _vector(result: Value) -> Vector:
    if isinstance(result, float):
        raise ValueError("a number stands where series belong")
    return result


def _other(right: Value, labels: Labels) -> float | None:
    if isinstance(right, float):
        return right
    return {_unnamed(own): item for own, item in right.items()}.get(_unnamed(labels))


def _calculated(left: Value, operator: str, right: Value) -> Value:
    def result(a: float, b: float) -> float:
        if operator == "/":
            return a / b if b else (math.nan if a == 0 else math.copysign(math.inf, a))
        return {"+": a + b, "-": a - b, "*": a * b}[operator]

    if isinstance(left, float):
        if isinstance(right, float):
            return result(left, right)
        return {_unnamed(labels): result(left, item) for labels, item in right.items()}
    actual = {labels: _other(right, labels) for labels in left}
    return {
        _unnamed(labels): result(left[labels], other)
        for labels, other in actual.items()
        if other is not None
    }


def _newest(chosen: dict[Labels, Points], at: float) -> Vector:
    result = {}
    for labels, points in chosen.items():
        known = [(time, entry) for time, entry in points if at - LOOKBACK < time <= at]
        if known and (item := known[-1][1]) is not None:
            result[labels] = item
    return result


def _over(
    chosen: dict[Labels, Points],
    since: float,
    until: float,
    combine: Callable[[list[tuple[float, float]]], float | None],
) -> Vector:
    result = {}
    for labels, points in chosen.items():
        within = [(t, entry) for t, entry in points if since < t <= until and entry is not None]
        if within and (item := combine(within)) is not None:
            result[_unnamed(labels)] = item
    return result


def _increase(points: list[tuple[float, float]]) -> float | None:
    """A counter that falls has begun anew."""
    pairs = list(itertools.pairwise(points))
    return sum(b - a if b >= a else b for (_, a), (_, b) in pairs) if pairs else None


def _rate(points: list[tuple[float, float]]) -> float | None:
    result = _increase(points)
    return None if result is None else result / (points[-1][0] - points[0][0])


_OVER_TIME: Final[Mapping[str, Callable[[list[tuple[float, float]]], float | None]]] = {
    "rate": _rate,
    "increase": _increase,
    "max_over_time": lambda points: max(item for _, item in points),
    "changes": lambda points: float(sum(a[1] != b[1] for a, b in itertools.pairwise(points))),
}


def _quantile(share: float, buckets: Vector) -> Vector:
    groups: dict[Labels, list[tuple[float, float]]] = {}
    for labels, count in buckets.items():
        own = frozenset(pair for pair in labels if pair[0] not in ("le", "__name__"))
        groups.setdefault(own, []).append((float(dict(labels)["le"]), count))
    return {labels: _within(share, sorted(result)) for labels, result in groups.items()}


def _within(share: float, buckets: list[tuple[float, float]]) -> float:
    wanted = share * buckets[-1][1]
    if not buckets[-1][1]:
        return math.nan
    low, below = 0.0, 0.0
    for bound, count in buckets:
        if count >= wanted:
            return (
                low
                if math.isinf(bound)
                else low + (bound - low) * (wanted - below) / (count - below)
            )
        low, below = bound, count
    return low
