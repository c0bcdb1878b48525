"""The line on a program's standard error that best explains why the program exited.

The last line often says least: npm ends with the path of a log, Node.js with its version, Go with
an exit status.
"""

import re
from collections import deque
from typing import Final

KEPT: Final = 32
"""Number of lines that are kept."""
_FAULTS: Final = re.compile(
    r"(?i)\b(\w*(error|exception)|err!|fatal|panic(ked)?|fail(ed|ure|s)?|cannot|can't|could not"
    r"|couldn't|unable to|unknown|unrecognized|invalid|missing|required|not found|no such|denied"
    r"|refused|forbidden|unauthorized|expired|timed out|abort(ed)?|killed)\b"
)
_PREFIXES: Final = re.compile(r"^npm (error|ERR!)( code| errno| syscall)?", re.I)
"""npm begins each line with a word that says nothing about it."""
_ASIDE: Final = re.compile(
    r"^at |^File \"|^Node\.js v|^exit status \d+$|complete log of this run|debug-\d+\.log", re.I
)
"""Lines that name a place, a version or a log in place of the fault."""


class LastWords:
    """The last lines of one program's standard error."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=KEPT)

    def add(self, line: str) -> None:
        """Add a line, which is not empty."""
        self._lines.append(line)

    def best(self) -> str:
        """Return the last line that names a fault, or else the last one; empty if there is none."""
        lines = [line for line in self._lines if not _ASIDE.search(line)] or list(self._lines)
        faults = [line for line in lines if _FAULTS.search(_PREFIXES.sub("", line))]
        return (faults or lines or [""])[-1]
