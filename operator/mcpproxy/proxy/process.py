"""What every process of the runtime begins with: its log on standard error, its event loop."""

import asyncio
import ctypes
import json
import linecache
import logging
import resource
import sys
import time
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from mcpproxy.api.text import clean
from mcpproxy.limits.backends import LOG_MESSAGE
from mcpproxy.limits.http import DESCRIPTORS

Result = TypeVar("Result")

LARGE: Final = 1024 * 1024
_M_MMAP_THRESHOLD: Final = -3
"""See mallopt(3)."""


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run on the fastest event loop that is installed."""
    _give_large_memory_back()
    _raise_descriptors()
    # Pydantic has read the docstrings of the models from their sources, which it leaves here.
    linecache.clearcache()
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work)
    return uvloop.run(work)


def _give_large_memory_back() -> None:
    """Have memory of LARGE bytes and more returned to the system when it is free.

    The C library would else keep what a few large answers took, in pieces, for later ones.
    """
    try:
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, LARGE)
    except (AttributeError, OSError, TypeError):
        # Another C library, which has ways of its own.
        return


def _raise_descriptors() -> None:
    """Let the process open as many descriptors as it may, up to a limit of our own."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = DESCRIPTORS.value if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS.value)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    def __init__(self, worker: int | None = None) -> None:
        """`worker` is the number of this process where there are several."""
        super().__init__()
        self._worker = {} if worker is None else {"worker": worker}

    def format(self, record: logging.LogRecord) -> str:
        """The record's time, level, logger and message; the kind of an exception, too."""
        created = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "time": f"{created}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            **self._worker,
            "logger": record.name,
            "message": clean(record.getMessage(), LOG_MESSAGE.value),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def log_to_stderr(level: str, worker: int | None = None) -> None:
    """Everything of this level and above."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(worker))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("uvicorn").setLevel(max(logging.WARNING, logging.getLevelName(level.upper())))
