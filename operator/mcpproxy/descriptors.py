"""The descriptors of a process: 0, 1 and 2 if it was started without them, and their number.

Must not import anything of the project.
"""

import os
import sys
from typing import Final

_STANDARD: Final = (0, 1, 2)


def reserve() -> None:
    """Open /dev/null on each standard descriptor that is closed.

    Otherwise, the next file or socket would get its number: libuv aborts the process when it closes
    one of these, and printed text would be written to a connection. `sys.stdin` and `sys.stdout`
    stay None, so that the closed descriptors can still be detected.
    """
    for descriptor in _STANDARD:
        try:
            os.fstat(descriptor)
        except OSError:
            # open() returns the lowest free number, which is this one.
            os.open(os.devnull, os.O_RDWR)
    if sys.stderr is None:
        # If sys.stderr is None, print() writes to standard output, between the messages.
        sys.stderr = open(_STANDARD[2], "w", closefd=False)  # noqa: SIM115


def raise_limit(most: int) -> None:
    """Raise the limit of open descriptors to the hard limit, but not beyond `most`.

    Container runtimes start processes with 1,024 descriptors and a far higher hard limit.
    """
    # Other systems than Unix lack this module.
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    raised = most if hard == resource.RLIM_INFINITY else min(hard, most)
    if soft != resource.RLIM_INFINITY and soft < raised:
        resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
