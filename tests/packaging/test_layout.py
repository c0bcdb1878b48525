"""The repository's shape: import names, sizes of files."""

import ast
import operator
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from scripts import house

ROOT = Path(__file__).parents[2]
MAX_LINES = 400
MAIN_PATHS = {"proxy/relay.py": 150, "reconcile/reconciler.py": 120}
"""Modules that tell a main path → lines, without imports and blank lines."""
OPERATOR = ("controller", "reconcile", "status", "desired", "cluster", "testing")
SOURCES = ("operator", "samples", "scripts", "tests", "e2e")


def test_the_standard_librarys_operator_wins_over_the_source_root() -> None:
    library = Path(sysconfig.get_path("stdlib")) / "operator.py"
    assert Path(operator.__file__ or "") == library
    asked = [sys.executable, "-c", "import operator; print(operator.__file__)"]
    seen = subprocess.run(asked, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert Path(seen.strip()) == library


def test_the_source_root_is_not_a_package() -> None:
    assert not (ROOT / "operator" / "__init__.py").exists()


@pytest.mark.parametrize("folder", SOURCES)
def test_no_file_is_longer_than_a_reader_likes(folder: str) -> None:
    sizes = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for path in (ROOT / folder).rglob("*.py")
    }
    assert {name: size for name, size in sizes.items() if size > MAX_LINES} == {}


@pytest.mark.parametrize("package", OPERATOR)
def test_no_package_of_the_operator_has_more_modules_than_a_reader_remembers(package: str) -> None:
    counts = {
        name: count
        for name, count in house.module_counts().items()
        if name.partition("/")[0] == package
    }
    assert counts
    assert {name: count for name, count in counts.items() if count > house.MAX_MODULES} == {}


@pytest.mark.parametrize("path", MAIN_PATHS)
def test_a_main_path_is_short_enough_to_be_read_aloud(path: str) -> None:
    text = (ROOT / "operator" / "mcpproxy" / path).read_text(encoding="utf-8")
    lines = {number for number, line in enumerate(text.splitlines(), 1) if line.strip()}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            lines -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    assert len(lines) <= MAIN_PATHS[path]
