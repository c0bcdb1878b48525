"""Checks that no proxy can keep: the table of docs/conformance.md, which says why."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scripts.machine import ROOT

DOCUMENT: Final = ROOT / "docs" / "conformance.md"
COLUMNS: Final = ("Client", "Backend", "Scenario", "Checks", "Reason")


@dataclass(frozen=True)
class Exceptions:
    """Which checks are lost for a reason, by the client's revision and the backend's form."""

    rows: dict[tuple[str, str], frozenset[tuple[str, str]]]

    def of(self, revision: str, form: str) -> frozenset[tuple[str, str]]:
        """The (scenario, check) of one pair."""
        return self.rows.get((revision, form), frozenset())

    def scenarios(self, revision: str, form: str) -> frozenset[str]:
        """The scenarios of one pair."""
        return frozenset(scenario for scenario, _ in self.of(revision, form))


class TableError(Exception):
    """The document's table is missing, or a row of it is incomplete."""


def read(document: Path = DOCUMENT) -> Exceptions:
    """The exceptions of a Markdown document. Raises TableError."""
    lines = document.read_text(encoding="utf-8").splitlines()
    header = "| " + " | ".join(COLUMNS) + " |"
    if header not in lines:
        raise TableError(f"{document.name}: no table {header}")
    rows: dict[tuple[str, str], frozenset[tuple[str, str]]] = {}
    for line in lines[lines.index(header) + 2 :]:
        if not line.startswith("|"):
            break
        revision, form, scenario, checks, reason = _cells(document, line)
        found = frozenset((scenario, check) for check in re.findall(r"`([^`]+)`", checks))
        if not (found and reason):
            raise TableError(f"{document.name}: without checks or reason: {line}")
        rows[revision, form] = rows.get((revision, form), frozenset()) | found
    return Exceptions(rows)


def _cells(document: Path, line: str) -> tuple[str, str, str, str, str]:
    cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
    if len(cells) != len(COLUMNS):
        raise TableError(f"{document.name}: not {len(COLUMNS)} columns: {line}")
    revision, form, scenario, checks, reason = cells
    return revision, form, scenario.strip("`"), checks, reason
