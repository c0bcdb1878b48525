"""Pages of docs/ that are generated, completely or in part, from other files of the repository."""

import sys
from pathlib import Path


def between(page: str, begin: str, end: str, text: str) -> str:
    """Return the page with `text` between two marks, each of which must occur once."""
    before, rest = page.split(begin)
    _, after = rest.split(end)
    return f"{before}{begin}{text}{end}{after}"


def write_or_compare(page: Path, wanted: str, difference: str) -> int:
    """Write a page. With `--check`, compare it and print `difference`. Return the exit code."""
    if "--check" not in sys.argv:
        page.write_text(wanted, encoding="utf-8")
        return 0
    if page.exists() and page.read_text(encoding="utf-8") == wanted:
        return 0
    print(difference)
    return 1
