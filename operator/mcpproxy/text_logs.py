"""Log lines for a person at a terminal: time, level and message."""

import logging
import time
from collections.abc import Iterator
from typing import Final

from mcpproxy.api.untrusted_text import clean_text
from mcpproxy.limits.backends import LOG_MESSAGE

LEVELS: Final = {"CRITICAL": "error", "WARNING": "warn"}
"""Shorter names of levels."""


class TextLogFormatter(logging.Formatter):
    """Format a record as one line of text, with its exception below it if it has one."""

    def __init__(self, worker: int | None = None) -> None:
        """`worker` is the number of this process if the program runs several."""
        super().__init__()
        self._worker = "" if worker is None else f"worker {worker}: "

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(self._lines(record))

    def _lines(self, record: logging.LogRecord) -> Iterator[str]:
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        message = record.getMessage()
        if len(message) > LOG_MESSAGE.value:
            LOG_MESSAGE.record()
        text = clean_text(message, LOG_MESSAGE.value)
        yield f"{clock} {level_name(record):<5} {self._worker}{text}"
        if record.exc_info:
            for line in self.formatException(record.exc_info).splitlines():
                yield f"    {clean_text(line, LOG_MESSAGE.value)}"


def level_name(record: logging.LogRecord) -> str:
    """Return the short name of a record's level."""
    return LEVELS.get(record.levelname, record.levelname.lower())


def is_terminal(stream: object) -> bool:
    """True if a stream is a terminal; a stream that is closed or absent is none."""
    try:
        return bool(stream.isatty())  # type: ignore[attr-defined]
    except (AttributeError, ValueError):
        return False
