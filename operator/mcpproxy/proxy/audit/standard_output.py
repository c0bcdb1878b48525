"""Delivery of audit records as lines of JSON on a descriptor, such as standard output."""

import fcntl
import os
import select
import stat
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

RETRY: Final = 1.0
"""Seconds after which a write to a full non-blocking pipe is tried again."""


class LineDelivery:
    """Writes each record as one line."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        # Devices such as /dev/null are shared with strangers, and one of them may never unlock it.
        mode = os.fstat(descriptor).st_mode
        self._is_locked = stat.S_ISFIFO(mode) or stat.S_ISREG(mode)

    def __call__(self, records: Sequence[bytes]) -> None:
        """Write the records while no other process writes its own to the same pipe or file.

        POSIX keeps writes to a pipe together only up to PIPE_BUF bytes, and worker processes share
        the pipe. Raise OSError.
        """
        descriptor, text = self._descriptor, b"\n".join(records) + b"\n"
        if not self._is_locked:
            _write(descriptor, text)
            return
        with suppress(OSError):
            # Some files can't be locked.
            fcntl.lockf(descriptor, fcntl.LOCK_EX)
        try:
            _write(descriptor, text)
        finally:
            with suppress(OSError):
                fcntl.lockf(descriptor, fcntl.LOCK_UN)


def _write(descriptor: int, text: bytes) -> None:
    rest = memoryview(text)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:
            # Another holder of the descriptor has made it non-blocking.
            select.select([], [descriptor], [], RETRY)
