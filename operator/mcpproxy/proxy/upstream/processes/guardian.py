"""A program that kills process groups when its standard input ends; started by `child_processes`.

Each input line is `+PID` for a group to kill, or `-PID` for a group to spare. It is run as a file,
by an interpreter that has loaded little, and imports nothing of the project.
"""

import contextlib
import os
import signal
import sys
from typing import TextIO


def main(commands: TextIO) -> None:
    """Read commands until the end of the input, then kill the groups."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    for line in commands:
        (groups.add if line.startswith("+") else groups.discard)(int(line[1:]))
    for group in groups:
        with contextlib.suppress(OSError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main(sys.stdin)
