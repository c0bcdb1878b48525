"""The source root is called operator/, and the standard library's `operator` still wins."""

import operator
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
STDLIB = Path(sysconfig.get_path("stdlib"))


def test_operator_is_the_standard_librarys_here() -> None:
    assert operator.__file__ is not None
    assert Path(operator.__file__).is_relative_to(STDLIB)


def test_the_source_root_is_not_a_package() -> None:
    assert (ROOT / "operator" / "mcpproxy" / "__init__.py").is_file()
    assert not (ROOT / "operator" / "__init__.py").exists()


@pytest.mark.parametrize("first", ["", str(ROOT)], ids=["in the root", "root on the path"])
def test_operator_is_the_standard_library_module_in_the_source_root(first: str) -> None:
    code = (
        f"import sys; sys.path.insert(0, {first!r}); "
        "import operator, mcpproxy; print(operator.__file__, operator.itemgetter(0)([7]))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    file, seven = result.stdout.split()
    assert Path(file).is_relative_to(STDLIB)
    assert seven == "7"
