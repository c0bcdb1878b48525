"""The last output of a program, which explains why the program exited.

The last line often says least: npm ends with the path of a log, Node.js with its version, Go with
an exit status.
"""

import re
from collections import deque
from typing import Final

from mcpproxy.api.untrusted_text import clean_text
from mcpproxy.proxy.protocol.tolerance import quote

KEPT: Final = 32
"""Number of lines that are kept."""
LOGGED: Final = 10
"""Number of lines that are logged when the program fails."""
SHOWN: Final = 200
"""Maximum characters of a line in an error message."""
_FAULTS: Final = re.compile(
    r"(?i)\b(\w*(error|exception)|err!|fatal|panic(ked)?|fail(ed|ure|s)?|cannot|can't|could not"
    r"|couldn't|unable to|unknown|unrecognized|invalid|missing|required|not found|no such|denied"
    r"|refused|forbidden|unauthorized|expired|timed out|abort(ed)?|killed)\b"
)
_PREFIXES: Final = re.compile(r"^npm (error|ERR!)( code| errno| syscall)?", re.I)
"""npm begins each line with a word that says nothing about it."""
_ASIDE: Final = re.compile(
    r"^at |^File \"|^\.\.\. \d+ more$|^goroutine \d+ "
    r"|^Node\.js v|^exit status \d+$"
    r"|complete log of this run|debug-\d+\.log",
    re.I,
)
"""Lines that name a place, a version or a log in place of the fault."""


class LastOutput:
    """The last lines of one program's standard error, and the last line that is not a message."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=KEPT)
        self._ignored = ""

    def add_error(self, line: str) -> None:
        """Add a line of standard error, which is not empty."""
        self._lines.append(clean_text(line, SHOWN))

    def add_ignored(self, line: bytes) -> None:
        """Add a line of standard output that is not a message."""
        self._ignored = quote(line)

    def latest(self) -> list[str]:
        """Return the last lines of standard error, up to LOGGED, each up to SHOWN characters."""
        return list(self._lines)[-LOGGED:]

    def explain_exit(self, code: int | None) -> str:
        """Return the message about the exit; `code` is None if it is unknown."""
        text = "the process exited" + ("" if code is None else f" with status {code}")
        if fault := self.fault():
            return f"{text}: {fault}"
        return f"{text}; its last output was {self._ignored}" if self._ignored else text

    def fault(self) -> str:
        """Return the last line of standard error that names a fault, or else the last one; empty
        if there is none."""
        lines = [line for line in self._lines if not _ASIDE.search(line)] or list(self._lines)
        faults = [line for line in lines if _FAULTS.search(_PREFIXES.sub("", line))]
        return (faults or lines or [""])[-1]
