"""Text for the terminal, which text of backends cannot control. Pure."""

from collections.abc import Iterator, Sequence
from typing import Any

from mcpproxy.limits.backends import FINDING_TEXT


def escape_control_characters(text: Any) -> str:
    """Return a text on one line, with escapes for characters that a terminal would interpret."""
    cut = str(text)
    cut = cut if len(cut) <= FINDING_TEXT.value else f"{cut[: FINDING_TEXT.value]}…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)


def table_lines(rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    """Yield the lines of a table whose columns are as wide as their longest cells."""
    texts = [[escape_control_characters(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    for row in texts:
        yield "  " + "  ".join(map(str.ljust, row, widths)).rstrip()
