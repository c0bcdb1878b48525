"""Checks the rules for names, sizes and language: `python -m scripts.house`, part of `make check`.

CONTRIBUTING.md states the rules. A finding names the file, the line and the rule.
"""

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Final

from scripts import machine, structure
from scripts.structure import SOURCE

MAX_MODULES: Final = 12
MAX_FUNCTION: Final = 40
"""Lines of a function from its first statement to its end."""
LONG: Final = frozenset(
    {
        # One call for each argument or metric: a table, of which no part is a step.
        "controller/command.py:add_arguments",
        "controller/metrics.py:__init__",
    }
)
"""Functions that may be longer, as `path:name`."""
OPENINGS: Final = re.compile(r"(What|Whether|Who|Which|How|Where|Those|That|It|They|See) ")
"""First words of docstrings that need their neighbors to be understood."""
_OPENED: Final = re.compile(rf'"""{OPENINGS.pattern}')
WORDS: Final = re.compile(
    r"\banew\b|\btold\b|\bheard\b|\bsaid\b|at the most|\bof its own\b|\bthat is there\b"
    r"|\bmay else\b|\bwhoever\b|\bfor want of\b|\bany more\b|\bmeanwhile\b|\btells? of\b"
    r"|\bit answers\b"
    r"|(?<!there )(?<!There )\b(?:is|are) no (?!longer)[a-z]|, too[.;:]|\bso (?:long|many)\b(?! as)"
)
"""Archaisms, pronouns without a noun, and human verbs for protocol events."""
MESSAGE_OPENINGS: Final = re.compile(r"(What|Who|Whom|Those|Its?|They|There is no) \w", re.I)
"""First words of messages that leave the actor or the field out."""
NAME_OPENINGS: Final = re.compile(r"(?:s\d+ )?(what|who|whom|those|it|they|where|whatever) ")
"""First words of names of tests that have no subject."""
NAME_WORDS: Final = re.compile(
    WORDS.pattern + r"| too$|\bof their own\b|\b(?:says?|tells?) (?:so|why|what)\b"
)
_TEST: Final = re.compile(r"^(?:async )?def test_(\w+)", re.M)
VAGUE: Final = frozenset({"found", "given", "one", "around"})
"""Names of variables, parameters and functions that say nothing of their content."""
_VAGUE: Final = re.compile(rf"\b(?:{'|'.join(VAGUE)})\b")
CODE: Final = ("operator", "tests", "e2e", "bench", "scripts", "samples")
PAGES: Final = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "manifests/monitoring/rules.yaml")
"""Texts for people, in addition to docs."""


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


def _messages(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """String literals of several words, except docstrings; fields of f-strings are left out."""
    described = {text for _, text in _docstrings(tree)}
    parts = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for part in ast.walk(node)
        if part is not node
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            texts = [v.value if isinstance(v, ast.Constant) else "…" for v in node.values]
            text = "".join(map(str, texts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
        else:
            continue
        if id(node) not in parts and " " in text and text not in described:
            yield node.lineno, text


def language() -> Iterator[str]:
    """Yield docstrings and messages that begin with a relative clause or contain a listed word."""
    for path, tree in _modules():
        for line, text in _docstrings(tree):
            if opening := OPENINGS.match(text):
                yield f"{path}:{line}: a docstring begins with {opening[1]}"
            yield from (f"{path}:{line}: {word!r}" for word in WORDS.findall(text))
        for line, text in _messages(tree):
            if opening := MESSAGE_OPENINGS.match(text):
                yield f"{path}:{line}: a message begins with {opening[1]}"
            yield from (f"{path}:{line}: {word!r}" for word in WORDS.findall(text))


def pages() -> Iterator[str]:
    """Yield the lines of pages for people that contain a listed word."""
    places = [machine.ROOT / name for name in PAGES]
    for path in (*places, *sorted((machine.ROOT / "docs").rglob("*.md"))):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            # Metric names and labels in expressions are public and stay.
            for word in () if "expr: " in line else WORDS.findall(line):
                yield f"{path.relative_to(machine.ROOT)}:{number}: {word!r}"


def test_names() -> Iterator[str]:
    """Yield the names of tests that are not plain sentences of behavior."""
    for folder in ("tests", "e2e"):
        for path in sorted((machine.ROOT / folder).rglob("test_*.py")):
            for name in _TEST.findall(path.read_text(encoding="utf-8")):
                words = name.replace("_", " ")
                if NAME_OPENINGS.match(words) or NAME_WORDS.search(words):
                    yield f"{path.relative_to(machine.ROOT)}: test_{name}"


def vague_names() -> Iterator[str]:
    """Yield the variables, parameters and functions, also those of tests, with a name in VAGUE."""
    for folder in CODE:
        for path in sorted((machine.ROOT / folder).rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            # Most files have none of the words, and parsing all takes seconds.
            if _VAGUE.search(text):
                for line, name in _bound_names(ast.parse(text)):
                    if name in VAGUE:
                        yield f"{path.relative_to(machine.ROOT)}:{line}: a name is {name!r}"


def openings() -> Iterator[str]:
    """Yield the docstrings outside of the program that begin with a relative clause."""
    for folder in CODE[1:]:
        for path in sorted((machine.ROOT / folder).rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            if _OPENED.search(text):
                for line, content in _docstrings(ast.parse(text)):
                    if opening := OPENINGS.match(content):
                        place = f"{path.relative_to(machine.ROOT)}:{line}"
                        yield f"{place}: a docstring begins with {opening[1]}"


def _bound_names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.lineno, node.name


def main() -> int:
    """Print all findings; the exit code is 1 if there are any."""
    checks = (
        crowded_packages,
        repeated_classes,
        long_functions,
        unneeded_exceptions,
        language,
        pages,
        test_names,
        vague_names,
        openings,
        *structure.CHECKS,
    )
    findings = [finding for check in checks for finding in check()]
    sys.stdout.writelines(f"{finding}\n" for finding in findings)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
