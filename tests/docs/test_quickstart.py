"""The quick start without a cluster, as it stands in its page; e2e has the one on a cluster."""

import os
import re
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from scripts import images
from scripts.demo_local import free_ports
from scripts.manifests import INSTALLS
from tests.docs.blocks import ROOT, blocks, run_blocks, shape
from tests.samples.test_servers import process, serving
from tests.support.commands import COMMAND, run_process


def environment() -> dict[str, str]:
    """Ours, with the programs of this Python first."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_the_quick_start_without_a_cluster_works_as_documented() -> None:
    value = blocks("quickstart.md", "run: local")
    assert len(value) == 4
    printed = run_blocks(value, ROOT, environment(), 150)
    for block, output in zip(value, printed, strict=True):
        if block.printed is not None:
            assert shape(output) == shape(block.printed)


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_the_counts_of_the_cluster_are_those_of_the_same_file_here() -> None:
    (table,) = [
        block.printed
        for block in blocks("quickstart.md", "run: cluster")
        if block.commands.startswith("kubectl get")
    ]
    head, row = shape(table or "")
    shown = dict(zip(head, row, strict=True))
    ports = dict(zip(("weather", "counter"), free_ports(2), strict=True))
    with ExitStack() as stack:
        for name, port in ports.items():
            stack.enter_context(process(name, port))
            await serving(port)
        places = [
            word
            for name, port in ports.items()
            for word in ("--resolve", f"{name}=127.0.0.1:{port}")
        ]
        command = ("plan", "-f", ROOT / "samples" / "demo.yaml", "-o", "json", "-n", "shop")
        result = (await run_process(COMMAND, *command, *places, env=environment())).plan
    assert result["failed"] == []
    assert shown["BACKENDS"] == "{0}/{0}".format(len(result["backends"]))
    assert shown["TOOLS"] == str(len(result["tools"]))


def test_the_cluster_gets_the_images_and_manifests_that_the_tests_own_cluster_gets() -> None:
    commands = [block.commands for block in blocks("quickstart.md", "set-up")]
    assert [text.split()[:2] for text in commands] == [["kind", "create"], ["kind", "delete"]]
    steps = [line.split() for line in commands[0].splitlines()]
    assert steps[1] == ["make", "images"]
    assert sorted(steps[2][5:]) == sorted(map(images.name, images.TARGETS))
    assert steps[3] == [
        "kubectl",
        "apply",
        "--server-side",
        "-f",
        f"manifests/{INSTALLS['cluster']}",
    ]


def test_a_different_count_changes_the_shape_and_a_different_age_does_not() -> None:
    assert shape("demo True 3/3 10 21s\n") == shape("demo  True   3/3 10    1m2s")
    assert shape("demo True 3/3 10 21s") != shape("demo True 3/3 11 21s")
    assert shape("demo True 3/3 10 21s") != shape("demo True 2/3 10 21s")


def test_every_block_of_commands_is_run_or_marked_as_set_up() -> None:
    text = (ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8")
    kinds = ("set-up", "run: local", "run: cluster")
    marked = sum(len(blocks("quickstart.md", kind)) for kind in kinds)
    assert marked == len(re.findall(r"^```sh$", text, re.MULTILINE))
