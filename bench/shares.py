"""Shares of a core for processes: CPU quotas of control groups, which only root may set."""

import contextlib
import os
from pathlib import Path
from typing import Final

from bench.memory import children

_PERIOD: Final = 10_000
"""Microseconds within which a process may use its share once."""
_ROOT: Final = Path("/sys/fs/cgroup")


class Shares:
    """Control groups of this run, one for each process that was limited."""

    def __init__(self, root: Path = _ROOT) -> None:
        """`root` is where the control groups are mounted."""
        self._unified = (root / "cgroup.controllers").exists()
        self._within = root if self._unified else root / "cpu"
        self._made: list[Path] = []

    def are_possible(self) -> bool:
        """Return True if quotas can be set here."""
        group = self._within / f"mcpproxy-bench-{os.getpid()}"
        try:
            group.mkdir()
            group.rmdir()
        except OSError:
            return False
        if not self._unified:
            return True
        return (
            "cpu" in (self._within / "cgroup.subtree_control").read_text(encoding="ascii").split()
        )

    def limit(self, pid: int, share: float) -> None:
        """Give a process, or each of its descendants that does the work, this share of a core."""
        below = children(pid)
        for child in below:
            self.limit(child, share)
        if below:
            return
        group = self._within / f"mcpproxy-bench-{os.getpid()}-{pid}"
        group.mkdir()
        self._made.append(group)
        quota = round(share * _PERIOD)
        if self._unified:
            (group / "cpu.max").write_text(f"{quota} {_PERIOD}", encoding="ascii")
        else:
            (group / "cpu.cfs_period_us").write_text(str(_PERIOD), encoding="ascii")
            (group / "cpu.cfs_quota_us").write_text(str(quota), encoding="ascii")
        (group / "cgroup.procs").write_text(str(pid), encoding="ascii")

    def forget(self) -> None:
        """Remove the groups; their processes have ended."""
        while self._made:
            with contextlib.suppress(OSError):
                self._made.pop().rmdir()
