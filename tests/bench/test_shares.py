"""Shares of a core: which files of control groups say so, and that the kernel heeds them."""

import os
import subprocess
import sys
import time
from pathlib import Path

from bench.memory import cpu_seconds
from bench.shares import Shares

BUSY = "import os, sys\nsys.stdout.write('\\n')\nsys.stdout.flush()\nwhile True: pass"
PID = 2**22 + 1
"""No process has it: it is beyond what Linux gives by default."""


def _mounted(root: Path, *, unified: bool, controllers: str = "cpu memory") -> Path:
    """Create the mounted control groups of either version."""
    if unified:
        (root / "cgroup.controllers").write_text("cpu memory\n")
        (root / "cgroup.subtree_control").write_text(f"{controllers}\n")
        return root
    (root / "cpu").mkdir()
    return root / "cpu"


def _said(group: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in group.iterdir()}


def test_a_share_is_a_quota_in_either_version_of_control_groups(tmp_path: Path) -> None:
    for unified in (True, False):
        root = tmp_path / str(unified)
        root.mkdir()
        within = _mounted(root, unified=unified)
        shares = Shares(root)
        assert shares.are_possible()
        shares.limit(PID, 0.3)
        (group,) = (path for path in within.iterdir() if path.is_dir())
        said = _said(group)
        assert said.pop("cgroup.procs") == str(PID)
        if unified:
            assert said == {"cpu.max": "3000 10000"}
        else:
            assert said == {"cpu.cfs_period_us": "10000", "cpu.cfs_quota_us": "3000"}


def test_a_share_is_not_possible_without_the_controller_or_the_right(tmp_path: Path) -> None:
    _mounted(tmp_path, unified=True, controllers="memory")
    assert not Shares(tmp_path).are_possible()
    assert not Shares(tmp_path / "nowhere").are_possible()


def test_a_limited_process_gets_its_share_where_the_kernel_lets_us() -> None:
    shares = Shares()
    command = [sys.executable, "-c", BUSY]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.read(1)
            if not shares.are_possible():
                assert os.geteuid() != 0 or not Path("/sys/fs/cgroup/cpu").is_dir()
                return
            shares.limit(process.pid, 0.2)
            begun, used = time.monotonic(), cpu_seconds(process.pid)
            # It never ends by itself: this only lets time go by.
            try:
                process.wait(1.0)
            except subprocess.TimeoutExpired:
                share = (cpu_seconds(process.pid) - used) / (time.monotonic() - begun)
            assert share < 0.3
        finally:
            process.kill()
            process.wait()
            shares.forget()
