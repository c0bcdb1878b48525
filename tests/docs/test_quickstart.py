"""The quick start without a cluster, as it stands in its page; e2e has the one on a cluster."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT, blocks, outputs, script, shape


@pytest.mark.timeout(180)
def test_the_quick_start_without_a_cluster_does_what_it_says() -> None:
    given = blocks("quickstart.md", "run: local")
    assert len(given) == 3
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    with subprocess.Popen(
        ["bash", "-c", script(given)],
        cwd=ROOT,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as shell:
        try:
            printed, errors = shell.communicate(timeout=150)
        except subprocess.TimeoutExpired:
            os.killpg(shell.pid, signal.SIGTERM)
            raise
    assert shell.returncode == 0, errors
    for block, output in zip(given, outputs(printed), strict=True):
        if block.printed is not None:
            assert shape(output) == shape(block.printed)


def test_every_block_of_commands_is_run_or_marked_as_set_up() -> None:
    text = (ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8")
    kinds = ("set-up", "run: local", "run: cluster")
    marked = sum(len(blocks("quickstart.md", kind)) for kind in kinds)
    assert marked == len(re.findall(r"^```sh$", text, re.MULTILINE))
