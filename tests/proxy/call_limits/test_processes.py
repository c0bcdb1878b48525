"""Three processes with one configuration admit together the calls of a rule.

`python -m bench.limits` runs the form of ten minutes.
"""

import os
import shutil
import subprocess
import sys

import pytest

from scripts.machine import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
SERVER = shutil.which("valkey-server") or shutil.which("redis-server")


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--kill",),
        pytest.param(
            ("--valkey",),
            marks=pytest.mark.skipif(SERVER is None, reason="valkey-server is not installed"),
        ),
    ],
    ids=lambda options: " ".join(options) or "owner",
)
def test_processes_admit_no_more_than_two_percent_above_a_rule(options: tuple[str, ...]) -> None:
    short = ("--flood", "--window", "600", "--calls", "200")
    done = subprocess.run(
        [sys.executable, "-m", "bench.limits", *short, *options],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
