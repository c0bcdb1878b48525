"""Files of tests that the expression of `-m` leaves out, found without importing them."""

import ast
import functools
import itertools
import re
from collections.abc import Iterator, Set
from pathlib import Path
from typing import Final

from _pytest.mark.expression import Expression

STATEMENT: Final = re.compile(r"^pytestmark = (?:\[\n(?: .*\n)*\]|.*)$", re.MULTILINE)
"""The assignment of marks to all tests of a module."""
MAX_NAMES: Final = 8
"""Names in an expression; the choices of marks are powers of two."""


@functools.cache
def selects_none(expression: str, path: Path) -> bool:
    """Return True if no test below this path can be selected, even with further marks."""
    if path.is_dir():
        files = list(path.rglob("test_*.py"))
        return bool(files) and all(selects_none(expression, file) for file in files)
    return selects_no_test_with(expression, marks_of_module(path.read_text(encoding="utf-8")))


@functools.cache
def selects_no_test_with(expression: str, marks: frozenset[str]) -> bool:
    """Return True if the expression selects no test with these marks, whatever others it has."""
    if not marks or not re.fullmatch(r"[\w() ]+", expression):
        return False
    others = set(re.findall(r"\w+", expression)) - {"and", "or", "not"} - marks
    if len(others) > MAX_NAMES:
        return False
    compiled = Expression.compile(expression)
    return not any(_selects(compiled, marks | chosen) for chosen in _choices(others))


def _selects(expression: Expression, marks: Set[str]) -> bool:
    def has(name: str, /, **_: str | int | bool | None) -> bool:
        return name in marks

    return expression.evaluate(has)


def _choices(names: Set[str]) -> Iterator[frozenset[str]]:
    ordered = sorted(names)
    for count in range(len(ordered) + 1):
        yield from map(frozenset, itertools.combinations(ordered, count))


def marks_of_module(source: str) -> frozenset[str]:
    """Return the names of the marks in the `pytestmark` of a module, read without importing it."""
    statement = STATEMENT.search(source)
    if statement is None:
        return frozenset()
    (assigned,) = ast.parse(statement[0]).body
    assert isinstance(assigned, ast.Assign)
    value = assigned.value
    marks = value.elts if isinstance(value, ast.List) else [value]
    names = (ast.unparse(mark.func if isinstance(mark, ast.Call) else mark) for mark in marks)
    return frozenset(name.removeprefix("pytest.mark.") for name in names if "pytest.mark." in name)
