"""docs/operator-faults.md: each row names tests, and each disturbance of the tests has a row."""

import re
from pathlib import Path
from typing import Final

from tests.docs.test_features import collected
from tests.operator_faults.test_end_states import WAYS

PAGE: Final = (Path(__file__).parents[2] / "docs" / "operator-faults.md").read_text("utf-8")
_ROW: Final = re.compile(r"^\| ([^|]+) \| [^|]+ \| `(test_\w+)`(?:, `(test_\w+)`)* \|$", re.M)
DISTURBED: Final = "test_a_disturbed_operator_reaches_the_end_state_of_an_undisturbed_one"
CLASSES: Final = 10
"""Classes of bugs that studies of operators distinguish."""


def test_every_row_of_the_page_of_operator_faults_has_a_test() -> None:
    rows = _ROW.findall(PAGE)
    lines = [line for line in PAGE.splitlines() if line.startswith("| ")]
    # Each table has a line of names, which is not a row.
    assert len(rows) == len(lines) - len(re.findall(r"^\|---", PAGE, re.M))
    assert set(re.findall(r"`(test_\w+)`", PAGE)) - collected().keys() == set()


def test_every_disturbance_of_the_tests_and_every_class_of_bugs_has_a_row() -> None:
    disturbances, classes = PAGE.split("## By class of bug")
    assert {row[0] for row in _ROW.findall(disturbances) if row[1] == DISTURBED} == set(WAYS)
    assert len(_ROW.findall(classes)) == CLASSES
