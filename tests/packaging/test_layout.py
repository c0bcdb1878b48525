"""The repository's shape: import names, sizes of files."""

import operator
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAX_LINES = 400
SOURCES = ("operator", "samples", "scripts", "tests", "e2e")


def test_the_standard_librarys_operator_wins_over_the_source_root() -> None:
    library = Path(sysconfig.get_path("stdlib")) / "operator.py"
    assert Path(operator.__file__ or "") == library
    asked = [sys.executable, "-c", "import operator; print(operator.__file__)"]
    seen = subprocess.run(asked, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert Path(seen.strip()) == library


def test_the_source_root_is_no_package() -> None:
    assert not (ROOT / "operator" / "__init__.py").exists()


@pytest.mark.parametrize("folder", SOURCES)
def test_no_file_is_longer_than_a_reader_likes(folder: str) -> None:
    sizes = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for path in (ROOT / folder).rglob("*.py")
    }
    assert {name: size for name, size in sizes.items() if size > MAX_LINES} == {}
