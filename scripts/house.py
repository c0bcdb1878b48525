"""Checks the rules for names, sizes and language: `python -m scripts.house`, part of `make check`.

CONTRIBUTING.md states the rules. A finding names the file, the line and the rule.
"""

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Final

from scripts import structure
from scripts.structure import SOURCE

MAX_MODULES: Final = 12
MAX_FUNCTION: Final = 40
"""Lines of a function from its first statement to its end."""
LONG: Final = frozenset(
    {
        # One call for each argument or metric: a table, of which no part is a step.
        "controller/command.py:add_arguments",
        "controller/metrics.py:__init__",
        # It is to be split with the state of requests; see scripts/structure.py.
        "proxy/upstream/transports/http_legacy.py:request",
    }
)
"""Functions that may be longer, as `path:name`."""
OPENINGS: Final = re.compile(r"(What|Whether|Who|Which|How|Where|Those|That|It|They|See) ")
"""First words of docstrings that need their neighbors to be understood."""
WORDS: Final = re.compile(
    r"\banew\b|\btold\b|\bheard\b|at the most|\bof its own\b|\bthat is there\b"
    r"|(?<!there )\bis no [a-z]|, too[.;]|\bso (?:long|many)\b(?! as)"
)
"""Archaisms and human verbs for protocol events."""


def _modules() -> Iterable[tuple[str, ast.Module]]:
    return structure.modules().items()


def module_counts() -> dict[str, int]:
    """Return the number of modules in each package, except its `__init__`."""
    counts: dict[str, int] = defaultdict(int)
    for path in SOURCE.rglob("*.py"):
        counts[path.parent.relative_to(SOURCE).as_posix()] += path.name != "__init__.py"
    return counts


def crowded_packages() -> Iterator[str]:
    """Yield the packages that hold more than MAX_MODULES modules."""
    for package, modules in module_counts().items():
        if modules > MAX_MODULES:
            yield f"{package}: {modules} modules, at most {MAX_MODULES}"


def repeated_classes() -> Iterator[str]:
    """Yield the names of public classes that more than one module defines."""
    places: dict[str, list[str]] = defaultdict(list)
    for path, tree in _modules():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(f"{path}:{node.lineno}")
    for name, where in places.items():
        if len(where) > 1:
            yield f"class {name}: {', '.join(where)}"


def long_functions() -> Iterator[str]:
    """Yield the functions whose body has more than MAX_FUNCTION lines."""
    for path, line, name, lines in _long_functions():
        if f"{path}:{name}" not in LONG:
            yield f"{path}:{line}: {name} has {lines} lines"


def _long_functions() -> Iterator[tuple[str, int, str, int]]:
    for path, tree in _modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.body[0].lineno + 1
                if lines > MAX_FUNCTION:
                    yield path, node.lineno, node.name, lines


def unneeded_exceptions() -> Iterator[str]:
    """Yield the functions in LONG that are short enough."""
    needed = {f"{path}:{name}" for path, _, name, _ in _long_functions()}
    for key in sorted(LONG - needed):
        yield f"{key}: needs no exception in LONG of scripts/house.py"


def _docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Docstrings of modules, classes and functions, and the texts that describe attributes."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        for statement in body if isinstance(body, list) else ():
            value = statement.value if isinstance(statement, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield statement.lineno, value.value


def language() -> Iterator[str]:
    """Yield the docstrings that begin with a relative clause or contain a listed word."""
    for path, tree in _modules():
        for line, text in _docstrings(tree):
            if opening := OPENINGS.match(text):
                yield f"{path}:{line}: a docstring begins with {opening[1]}"
            for word in WORDS.findall(text):
                yield f"{path}:{line}: {word!r}"


def main() -> int:
    """Print all findings; the exit code is 1 if there are any."""
    checks = (
        crowded_packages,
        repeated_classes,
        long_functions,
        unneeded_exceptions,
        language,
        *structure.CHECKS,
    )
    findings = [finding for check in checks for finding in check()]
    sys.stdout.writelines(f"{finding}\n" for finding in findings)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
