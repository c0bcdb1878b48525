"""Setup of every runtime process: its log on standard error, and its event loop."""

import asyncio
import contextlib
import ctypes
import logging
import os
import queue
import sys
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

from mcpproxy import descriptors
from mcpproxy.api.manifest_errors import MAX_PROBLEM, ManifestError
from mcpproxy.api.untrusted_text import clean_text
from mcpproxy.json_logs import JsonLogFormatter
from mcpproxy.limits.clients import LOG_RECORDS
from mcpproxy.limits.http import DESCRIPTORS
from mcpproxy.text_logs import TextLogFormatter, is_terminal

Result = TypeVar("Result")

LARGE: Final = 1024 * 1024
_M_MMAP_THRESHOLD: Final = -3
"""Option of mallopt(3)."""
LAST_LINES: Final = 1.0
"""Seconds for the reader of standard error to take the remaining lines at exit."""
INTERRUPTED: Final = 130
"""Exit code after SIGINT, as in shells."""
_STDERR: Final = 2
_INIT: Final = 1
REAP_EVERY: Final = 10.0
"""Seconds between two searches for zombies."""


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run on the fastest installed event loop."""
    descriptors.reserve()
    work = reap_children(work)
    _tune_malloc()
    descriptors.raise_limit(DESCRIPTORS.value)
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work)
    return uvloop.run(work)


async def reap_children(work: Coroutine[Any, Any, Result]) -> Result:
    """Run `work`; if this is the first process of a container, also reap orphans."""
    if os.getpid() != _INIT:
        return await work
    reaper = asyncio.create_task(reap_orphans())
    try:
        return await work
    finally:
        reaper.cancel()


async def reap_orphans(every: float = REAP_EVERY) -> None:
    """Reap orphaned zombies forever.

    Orphans become children of the first process of a container, and they stay in the process table
    until it waits for them. The event loop reaps its own children at once, so a zombie that remains
    after `every` seconds is not one of them.
    """
    before: set[int] = set()
    while True:
        ended = set(_ended_children())
        for pid in ended & before:
            _collect(pid)
        before = ended - before
        await asyncio.sleep(every)


def _collect(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def _ended_children() -> Iterator[int]:
    own = str(os.getpid())
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        with contextlib.suppress(OSError):
            # The name of the program, which may contain anything, is in parentheses.
            state, parent = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[:2]
            if state == "Z" and parent == own:
                yield int(entry)


def _tune_malloc() -> None:
    """Return freed blocks of LARGE bytes and more to the system.

    Otherwise glibc keeps the memory of large responses in its arenas.
    """
    try:
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, LARGE)
    except (AttributeError, OSError, TypeError):
        # The C library is not glibc.
        return


class StderrHandler(logging.Handler):
    """Handler that writes to standard error in a thread, so that a slow reader blocks nothing."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: queue.Queue[str | None] = queue.Queue(LOG_RECORDS.value)
        self._dropped = 0
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._lines.put_nowait(self.format(record))
        except queue.Full:
            LOG_RECORDS.record()
            self._dropped += 1
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(None)
            self._thread.join(LAST_LINES)
        super().close()

    def _run(self) -> None:
        while (line := self._lines.get()) is not None:
            _write(line)
            dropped, self._dropped = self._dropped, 0
            if dropped:
                record = logging.makeLogRecord({"name": __name__, "levelname": "WARNING"})
                record.msg = f"dropped {dropped} log lines because standard error was not read"
                _write(self.format(record))


def report_failure(program: str, error: Exception) -> None:
    """Write one line for each problem of an error to standard error, after the log."""
    if isinstance(error, ManifestError):
        report_error("\n".join(error.lines(program)))
    else:
        report_error(f"{program}: {clean_text(str(error), MAX_PROBLEM)}")


def report_error(text: str) -> None:
    """Write a line to standard error after the log; give up if it is not read."""
    if _has_own_stderr():
        for handler in logging.getLogger().handlers:
            if isinstance(handler, StderrHandler):
                handler.close()
        writing = threading.Thread(target=_write, args=(text,), daemon=True)
        writing.start()
        writing.join(LAST_LINES)
    else:
        print(text, file=sys.stderr)  # noqa: T201


def _write(line: str) -> None:
    # A thread blocked in sys.stderr makes the interpreter abort at exit.
    rest = line.encode("utf-8", "backslashreplace") + b"\n"
    with contextlib.suppress(OSError):
        while rest:
            rest = rest[os.write(_STDERR, rest) :]


def _has_own_stderr() -> bool:
    try:
        return sys.stderr.fileno() == _STDERR
    except (AttributeError, OSError, ValueError):
        return False


def logs_text(log_format: str) -> bool:
    """True if the log is for a person: `text`, or `auto` with standard error at a terminal."""
    return log_format == "text" or (log_format == "auto" and is_terminal(sys.stderr))


def log_to_stderr(
    level: str,
    worker: int | None = None,
    log_format: str = "auto",
    handler: logging.Handler | None = None,
) -> None:
    """Log records of this level and above to standard error, or to another handler."""
    if handler is None:
        handler = StderrHandler() if _has_own_stderr() else logging.StreamHandler(sys.stderr)
        is_text = logs_text(log_format)
        handler.setFormatter(TextLogFormatter(worker) if is_text else JsonLogFormatter(worker))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("uvicorn").setLevel(max(logging.WARNING, logging.getLevelName(level.upper())))
