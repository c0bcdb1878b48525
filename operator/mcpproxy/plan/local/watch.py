"""`mcpproxy plan --watch`: the plan again whenever the file changes."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from mcpproxy.proxy.process import INTERRUPTED

POLL: Final = 0.5
"""Seconds between two looks at the file."""
Stamp = tuple[int, int, int] | None


def watch_file(
    path: Path,
    show: Callable[[], int],
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], str] = lambda: time.strftime("%H:%M:%S"),
) -> int:
    """Call `show` now and after each change of a file, until SIGINT; return 130.

    Editors that replace the file are noticed as well. A file that is missing for a while is not a
    change.
    """
    try:
        while True:
            before = stamp_of(path)
            if show() == INTERRUPTED:
                return INTERRUPTED
            sys.stdout.write(f"--- {clock()}: waiting for changes of {path.name}; Ctrl-C stops\n")
            sys.stdout.flush()
            _wait_for_change(path, before, sleep)
    except KeyboardInterrupt:
        return INTERRUPTED


def _wait_for_change(path: Path, before: Stamp, sleep: Callable[[float], None]) -> None:
    while True:
        now = stamp_of(path)
        if now is not None and now != before:
            # The editor may still be writing.
            settled = False
            while not settled:
                sleep(POLL)
                settled, now = stamp_of(path) == now, stamp_of(path)
            return
        sleep(POLL)


def stamp_of(path: Path) -> Stamp:
    """Return the identity, the time and the size of a file; None if it cannot be read."""
    try:
        result = os.stat(path)
    except OSError:
        return None
    return result.st_ino, result.st_mtime_ns, result.st_size
