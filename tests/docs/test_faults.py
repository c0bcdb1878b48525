"""docs/faults.md: each row is what a test expects, and names it."""

import re
from pathlib import Path
from typing import Final

from tests.docs.test_features import collected
from tests.proxy.runtime.faults import FAULTS

PAGE: Final = (Path(__file__).parents[2] / "docs" / "faults.md").read_text(encoding="utf-8")
_ROW: Final = re.compile(
    r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \| `(test_\w+)`(?:, `(test_\w+)`)* \|$", re.M
)
TABLE: Final = "test_a_call_ends_as_the_table_of_faults_says"


def _rows() -> dict[str, tuple[str, ...]]:
    return {row[0]: row[1:] for row in _ROW.findall(PAGE)}


def test_every_row_of_the_page_of_faults_has_a_test() -> None:
    lines = [line for line in PAGE.splitlines() if line.startswith("| ")]
    # Each table has a line of names, which is not a row.
    assert len(_rows()) == len(lines) - len(re.findall(r"^\|---", PAGE, re.M))
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    assert named - collected().keys() == set()


def test_the_page_of_faults_has_the_answers_that_the_tests_expect() -> None:
    shown = {name: row[:2] for name, row in _rows().items() if row[3] == TABLE}
    assert shown == {
        fault.name: (
            f"`{fault.reason}`, may have run" if fault.reason else "the result",
            fault.time,
        )
        for fault in FAULTS
    }
