"""Sanitizing of values from untrusted peers for logs, statuses, events and metrics."""

import json
import re
from typing import Final, TypeVar

from mcpproxy.limits.limit import Limit
from mcpproxy.limits.pods import REPORT_COUNT

Entry = TypeVar("Entry")

ELLIPSIS: Final = "…"
"""Mark at the end of a text that was cut."""
REPLACEMENT: Final = "\ufffd"
"""Substitute for a character that is not permitted."""

QUOTED: Final = 300
"""Characters of a value that `quote` returns."""

_SPACING: Final = str.maketrans(dict.fromkeys("\t\n\v\f\r\x85\u2028\u2029", " "))
# Cc, Cf, Cs and the default-ignorable characters of Unicode. Terminals interpret Cc; the others
# hide or reorder text (CVE-2021-42574). A lone surrogate cannot be encoded, so a text with one
# could not be written at all.
_UNSAFE: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160"
    "\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ud800-\udfff"
    "\ufeff\uffa0\ufff0-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)


def clean_text(text: str, limit: int) -> str:
    """Return the text in at most `limit` characters, without characters that a terminal interprets.

    Line breaks and tabs become spaces. Every other control, formatting or invisible character and
    every lone surrogate becomes U+FFFD. A text that is too long ends with an ellipsis. The run time
    depends on `limit`, not on the length of the text.
    """
    if limit < 1:
        return ""
    if len(text) > limit:
        text = text[: limit - 1] + ELLIPSIS
    if text.isprintable():
        return text
    return _UNSAFE.sub(REPLACEMENT, text.translate(_SPACING))


def quote(value: object) -> str:
    """Return a value from JSON as JSON, clean and in at most QUOTED characters."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        text = str(type(value))
    return clean_text(text, QUOTED)


def cut_text(text: str, limit: Limit) -> str:
    """Return the beginning of a text, without control characters."""
    if len(text) > limit.value:
        limit.record()
    return clean_text(text, limit.value)


def cut_list(entries: list[Entry], limit: Limit) -> list[Entry]:
    """Return the first entries of a list."""
    if len(entries) <= limit.value:
        return entries
    limit.record()
    return entries[: limit.value]


def clamp_count(count: int) -> int:
    """Return the count of a report, or the nearest permitted count."""
    if 0 <= count <= REPORT_COUNT.value:
        return count
    REPORT_COUNT.record()
    return min(max(count, 0), REPORT_COUNT.value)
