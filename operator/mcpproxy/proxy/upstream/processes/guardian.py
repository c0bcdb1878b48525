"""A program that kills process groups when its standard input ends: `lifetime` starts it.

Each line of its input is a group to kill at the end, `+PID`, or one to leave alone, `-PID`. It is
run as a file, by an interpreter that has loaded little, and imports nothing of the project.
"""

import contextlib
import os
import signal
import sys
from typing import TextIO


def main(commands: TextIO) -> None:
    """Follow the commands to their end, then kill."""
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
