"""The descriptors 0, 1 and 2 of a process that was started without some of them.

Imports nothing of the project.
"""

import os
import sys
from typing import Final

_STANDARD: Final = (0, 1, 2)


def reserve() -> None:
    """Open /dev/null on each standard descriptor that is closed.

    Otherwise the next file or socket gets its number: libuv aborts the process when it closes one
    of these, and what is printed would go into a connection. `sys.stdin` and `sys.stdout` stay
    None, so that it is still known.
    """
    for descriptor in _STANDARD:
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest free number is this one.
            os.open(os.devnull, os.O_RDWR)
    if sys.stderr is None:
        # print() to a stream that is None goes to standard output, among the messages.
        sys.stderr = open(_STANDARD[2], "w", closefd=False)  # noqa: SIM115
