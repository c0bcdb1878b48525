"""Memory and time of processes, as Linux tells them."""

import os
import time
from pathlib import Path
from typing import Final

_SCHEDULED: Final = 2
"""CPUCLOCK_SCHED of Linux, in the lowest bits of the number of a process's clock."""
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


def resident(pid: int) -> int:
    """Resident bytes of a process and of all its descendants. Raises OSError when it is gone."""
    own = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * _PAGE
    return own + sum(resident(child) for child in children(pid))


def cpu_seconds(pid: int) -> float:
    """Seconds that a process and its descendants have used. Raises OSError when it is gone."""
    # The clock of the process, which ticks in nanoseconds and counts threads that have ended.
    own = time.clock_gettime((~pid << 3) | _SCHEDULED)
    return own + sum(cpu_seconds(child) for child in children(pid))


def children(pid: int) -> list[int]:
    """The processes that a process has started and that are there."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text(encoding="ascii").split()]
