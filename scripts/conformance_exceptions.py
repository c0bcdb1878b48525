"""Parsing of the table in docs/conformance.md: checks that no proxy can pass, with the reasons."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scripts.machine import ROOT

DOCUMENT: Final = ROOT / "docs" / "conformance.md"
COLUMNS: Final = ("Client", "Backend", "Scenario", "Checks", "Reason")


@dataclass(frozen=True)
class Exceptions:
    """Accepted failures, by the client's revision and the backend's form."""

    rows: dict[tuple[str, str], frozenset[tuple[str, str]]]

    def of(self, revision: str, form: str) -> frozenset[tuple[str, str]]:
        """Return the (scenario, check) pairs of one revision and form."""
        return self.rows.get((revision, form), frozenset())

    def scenarios(self, revision: str, form: str) -> frozenset[str]:
        """Return the scenarios of one revision and form."""
        return frozenset(scenario for scenario, _ in self.of(revision, form))


class TableError(Exception):
    """The table is missing from the document, or one of its rows is incomplete."""


def read(document: Path = DOCUMENT) -> Exceptions:
    """Return the exceptions of a Markdown document. Raise TableError."""
    lines = document.read_text(encoding="utf-8").splitlines()
    header = "| " + " | ".join(COLUMNS) + " |"
    if header not in lines:
        raise TableError(f"{document.name}: no table {header}")
    rows: dict[tuple[str, str], frozenset[tuple[str, str]]] = {}
    for line in lines[lines.index(header) + 2 :]:
        if not line.startswith("|"):
            break
        revision, form, scenario, checks, reason = _cells(document, line)
        pairs = frozenset((scenario, check) for check in re.findall(r"`([^`]+)`", checks))
        if not (pairs and reason):
            raise TableError(f"{document.name}: without checks or reason: {line}")
        rows[revision, form] = rows.get((revision, form), frozenset()) | pairs
    return Exceptions(rows)


def _cells(document: Path, line: str) -> tuple[str, str, str, str, str]:
    cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
    if len(cells) != len(COLUMNS):
        raise TableError(f"{document.name}: not {len(COLUMNS)} columns: {line}")
    revision, form, scenario, checks, reason = cells
    return revision, form, scenario.strip("`"), checks, reason
