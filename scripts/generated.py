"""Pages of docs/ that are made, as a whole or in part, from something else in the repository."""

import sys
from pathlib import Path


def between(page: str, begin: str, end: str, text: str) -> str:
    """The page with `text` in place of what stands between two marks, each there once."""
    before, rest = page.split(begin)
    _, after = rest.split(end)
    return f"{before}{begin}{text}{end}{after}"


def write_or_compare(page: Path, wanted: str, difference: str) -> int:
    """Write a page, or with `--check` print `difference` where it is another; the exit code."""
    if "--check" not in sys.argv:
        page.write_text(wanted, encoding="utf-8")
        return 0
    if page.exists() and page.read_text(encoding="utf-8") == wanted:
        return 0
    print(difference)
    return 1
