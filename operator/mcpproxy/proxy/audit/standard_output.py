"""Delivery of audit records as lines of JSON on a descriptor, such as standard output."""

import fcntl
import os
import select
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

RETRY: Final = 1.0
"""Seconds after which a write to a full non-blocking pipe is tried again."""


class LineDelivery:
    """Writes each record as one line."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __call__(self, records: Sequence[bytes]) -> None:
        """Write the records while no other process writes its own to the same pipe or file.

        POSIX keeps writes to a pipe together only up to PIPE_BUF bytes, and worker processes share
        the pipe. Raise OSError.
        """
        descriptor = self._descriptor
        with suppress(OSError):
            # Some files can't be locked.
            fcntl.lockf(descriptor, fcntl.LOCK_EX)
        try:
            _write(descriptor, b"\n".join(records) + b"\n")
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
