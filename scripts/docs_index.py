"""The index of the documentation, docs/README.md, from which llms.txt and the site are made."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

DOCS: Final = Path(__file__).parent.parent / "docs"
_SECTION: Final = re.compile(r"^## (?P<title>.+)\n(?P<body>(?:(?!^## ).*\n)*)", re.MULTILINE)
_ROW: Final = re.compile(r"^\| \[[^\]]+\]\((?P<path>[^)]+)\) \| (?P<text>.+) \|$", re.MULTILINE)
_HEADING: Final = re.compile(r"^# (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class IndexedPage:
    """One page of the documentation."""

    path: str
    """Path below docs/."""
    title: str
    text: str
    """Description in the index."""


def title_of(path: str) -> str:
    """Return the first heading of a page. Raise ValueError if it has none."""
    heading = _HEADING.search((DOCS / path).read_text(encoding="utf-8"))
    if heading is None:
        raise ValueError(f"docs/{path} has no heading")
    return heading[1]


def sections() -> Iterator[tuple[str, list[IndexedPage]]]:
    """Yield the title and the pages of each section, in the order of the index."""
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    for section in _SECTION.finditer(index):
        yield (
            section["title"],
            [
                IndexedPage(row["path"], title_of(row["path"]), row["text"])
                for row in _ROW.finditer(section["body"])
            ],
        )
